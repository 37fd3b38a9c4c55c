"""A gate from few channels to many, with a hand-written gradient.

    narrow = down(x)                             down, up: 1x1 convolutions
    y = x + x * sigmoid(up(inner(narrow)))       or, with `double`, x * 2 sigmoid(...)

`gate_plainly` is this formula. The fast path computes the same in fewer passes over the tensors
with many channels, and keeps only x and the narrow tensor for the backward pass, where it computes
the sigmoid again. Its output has the memory layout of its input, channels first or last.

Gain of M2A, a gate with motion attention (attention.py) inside: time of the plain formulas / time
of the fast paths, median [quartiles] of 20 rounds. 8 frames per clip:

    site (c, pixels)   clips   layout           inference          training step
    64, 28 x 28        4       channels last    2.37 [2.27-2.71]   1.23 [1.17-1.39]
    64, 28 x 28        4       channels first   1.77 [1.64-1.86]   1.54 [1.46-1.65]
    128, 14 x 14       4       channels last    1.37 [1.16-1.51]   1.01 [0.98-1.04]
    128, 14 x 14       4       channels first   1.50 [1.39-1.56]   1.28 [1.24-1.32]
    256, 7 x 7         4       channels last    1.24 [1.16-1.38]   1.09 [1.02-1.15]
    256, 7 x 7         4       channels first   1.03 [0.97-1.14]   0.95 [0.91-0.98]
    64, 56 x 56        1       channels last    2.39 [2.26-2.53]   1.56 [1.28-1.90]
    256, 56 x 56       1       channels last    3.34 [3.16-3.56]   1.54 [1.23-1.68]
    256, 56 x 56       1       channels first   1.34 [1.29-1.41]   1.41 [1.31-1.69]
    512, 28 x 28       1       channels last    1.63 [1.60-1.66]   1.25 [1.17-1.41]
    512, 28 x 28       1       channels first   1.28 [1.25-1.31]   1.11 [1.03-1.23]
    1024, 14 x 14      1       channels last    1.31 [1.28-1.33]   0.90 [0.89-0.91]

The first six are sites of a ResNet-18 at 112 x 112 pixels, the others of a ResNet-50 at 224 x 224.
Measured 2026-11-27 on an Intel Xeon (family 6, model 207, 2 cores, busy with other work), torch
2.14.1, one thread, CPU time: `python benchmarks/fast_paths.py --parts module --rounds 20`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from motionaware.ops.autograd_utils import (
    Gradients,
    can_use_fast_paths,
    first_derivative_only,
    needs_gradient,
    product_type,
    without_autocast,
)
from motionaware.ops.pointwise import (
    convolve,
    convolve_backward,
    is_large,
    memory_layout,
    num_pieces,
)

Weights = tuple[Tensor, Tensor]
"""The kernel `c2 c 1 1` and the bias `c2` of a 1x1 convolution."""

_MIN_TRAINING_SIZE = 2**18  # numbers in the frames; below, the plain formula trains faster


def gate_frames(
    frames: Float[Tensor, "n c h w"],
    inner: Callable[[Tensor], Tensor],
    *,
    down: Weights,
    up: Weights,
    double: bool = False,
) -> Float[Tensor, "n c h w"]:
    """Multiply frames by a gate, by the fast path where it is faster and allowed.

    Args:
        frames: Images, with their channels first or last in memory.
        inner: Function of the narrow images that keeps their shape.
        down: Weights of the convolution from `c` channels to few.
        up: Weights of the convolution from few channels to `c`.
        double: Multiply by 2 sigmoid, between 0 and 2, instead of 1 + sigmoid, between 1 and 2.
    """
    # First: inside a tracer, a comparison of sizes would become a condition of its graph.
    if not can_use_fast_paths() or (
        torch.is_grad_enabled() and frames.numel() <= _MIN_TRAINING_SIZE
    ):
        return gate_plainly(frames, inner, down=down, up=up, double=double)
    layout = memory_layout(frames)
    frames = frames.contiguous(memory_format=layout)
    dtype = product_type(frames)
    with without_autocast(frames):
        if frames.dtype != dtype or down[0].dtype != dtype:
            down, up = ((kernel.to(dtype), bias.to(dtype)) for kernel, bias in (down, up))
        narrow = frames.to(dtype)
        if not needs_gradient(frames, *down):
            narrow = convolve(narrow, *down)
        elif is_large(frames):
            frames, narrow = _Narrow.apply(frames, *down)
        else:
            narrow = F.conv2d(narrow, *down)
    narrow = inner(narrow)
    with without_autocast(frames):
        narrow = narrow.to(dtype).contiguous(memory_format=layout)
        if needs_gradient(frames, narrow, *up):
            return _Multiply.apply(frames, narrow, *up, double)
        return _multiply(frames, narrow, *up, double)


def gate_plainly(
    frames: Float[Tensor, "n c h w"],
    inner: Callable[[Tensor], Tensor],
    *,
    down: Weights,
    up: Weights,
    double: bool = False,
) -> Float[Tensor, "n c h w"]:
    """Compute `gate_frames` by its formula, in operations that autograd and tracers follow."""
    gate = F.conv2d(inner(F.conv2d(frames, *down)), *up).sigmoid()
    # not addcmul, whose gradient has one multiplication more
    return frames * (2 * gate) if double else frames + frames * gate


class _Narrow(torch.autograd.Function):
    """x -> x, down(x). Its backward pass adds the gradients of both outputs in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, kernel)
        return x, convolve(x.to(kernel.dtype), kernel, bias)

    @staticmethod
    @first_derivative_only
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_x: Tensor, d_narrow: Tensor
    ) -> Gradients:
        x, kernel = ctx.saved_tensors
        d_narrow = d_narrow.contiguous(memory_format=memory_layout(x))
        x = x.to(kernel.dtype)
        # d_x may be overwritten: _Multiply created it for this function only.
        add_to = d_x if ctx.needs_input_grad[0] else None
        return convolve_backward(d_narrow, x, kernel, ctx.needs_input_grad, add_to=add_to)


class _Multiply(torch.autograd.Function):
    """x, narrow -> x + x * sigmoid(up(narrow)), or x * 2 sigmoid(up(narrow))."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, narrow: Tensor, kernel: Tensor, bias: Tensor, double: bool
    ) -> Tensor:
        ctx.save_for_backward(x, narrow, kernel, bias)
        ctx.double = double
        return _multiply(x, narrow, kernel, bias, double)

    @staticmethod
    @first_derivative_only
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_y: Tensor
    ) -> Gradients:
        x, narrow, kernel, bias = ctx.saved_tensors
        d_y = d_y.contiguous(memory_format=memory_layout(x))
        x_needs_gradient, *wanted, _ = ctx.needs_input_grad
        pieces = num_pieces(x)
        if pieces == 1:
            d_x, d_wide = _multiply_backward(d_y, x, narrow, kernel, bias, ctx.double)
            d_weights = convolve_backward(d_wide, narrow, kernel, wanted)
            return d_x if x_needs_gradient else None, *d_weights, None
        d_x, gradients = torch.empty_like(x), []
        for d_y_, x_, narrow_, d_x_ in _split(pieces, d_y, x, narrow, d_x):
            _, d_wide = _multiply_backward(d_y_, x_, narrow_, kernel, bias, ctx.double, out=d_x_)
            gradients.append(convolve_backward(d_wide, narrow_, kernel, wanted))
        d_narrow, d_kernel, d_bias = zip(*gradients, strict=True)
        return (
            d_x if x_needs_gradient else None,
            torch.cat(d_narrow) if wanted[0] else None,
            torch.stack(d_kernel).sum(dim=0) if wanted[1] else None,
            torch.stack(d_bias).sum(dim=0) if wanted[2] else None,
            None,
        )


def _multiply(x: Tensor, narrow: Tensor, kernel: Tensor, bias: Tensor, double: bool) -> Tensor:
    """Forward pass: y."""
    pieces = num_pieces(x) if x.is_contiguous() else 1
    if pieces == 1:
        gate = convolve(narrow, kernel, bias).sigmoid_().to(x.dtype)
        return _times(x, gate, double, out=gate)
    y = torch.empty_like(x)
    for x_, narrow_, y_ in _split(pieces, x, narrow, y):
        _times(x_, convolve(narrow_, kernel, bias).sigmoid_(), double, out=y_)
    return y


def _multiply_backward(
    d_y: Tensor,
    x: Tensor,
    narrow: Tensor,
    kernel: Tensor,
    bias: Tensor,
    double: bool,
    *,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Backward pass: the gradients of x, written to `out` if given, and of up(narrow)."""
    gate = convolve(narrow, kernel, bias).sigmoid_()
    d_wide = (d_y * x).to(gate.dtype)
    if double:
        d_wide.mul_(2)
    torch.ops.aten.sigmoid_backward.grad_input(d_wide, gate, grad_input=d_wide)
    gate = gate.to(d_y.dtype)
    return _times(d_y, gate, double, out=gate if out is None else out), d_wide


def _times(x: Tensor, gate: Tensor, double: bool, *, out: Tensor) -> Tensor:
    """Write x + x * gate, or x * 2 gate, to `out`; `gate` may be overwritten."""
    return torch.mul(x, gate.mul_(2), out=out) if double else torch.addcmul(x, x, gate, out=out)


def _split(pieces: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.chunk(pieces) for tensor in tensors), strict=True)
