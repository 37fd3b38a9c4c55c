"""A gate from few channels to many, in as few passes over the many as there can be.

    narrow = down(x)                     down, up: 1x1 convolutions
    y = x + x * sigmoid(up(inner(narrow)))

The wide tensors are x and y alone, and for the backward pass x and the narrow tensor are kept: the
sigmoid is made once more. That pass writes one wide tensor, the gradient of x, to which both ways
that x takes add in place.

What comes out lies as what came in, channels first or last; nothing is laid out anew.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from motionaware.ops.autograd_utils import (
    Gradients,
    is_traced,
    needs_gradient,
    once,
    product_type,
    without_autocast,
)
from motionaware.ops.pointwise import convolve, differentiate, is_large, memory_layout, num_pieces

Weights = tuple[Tensor, Tensor]
"""The kernel `c2 c 1 1` and the bias `c2` of a 1x1 convolution."""

_FEW_NUMBERS = 2**18  # a megabyte; of fewer, the plain formula costs less than our care


def gate_frames(
    frames: Float[Tensor, "n c h w"],
    inner: Callable[[Tensor], Tensor],
    *,
    down: Weights,
    up: Weights,
    twice: bool = False,
) -> Float[Tensor, "n c h w"]:
    """Weigh frames by what `inner` makes of few channels of theirs.

    Args:
        frames: Images, with their channels first or last in memory.
        inner: Few channels -> as many, of the same images.
        down: From the channels of the frames to few.
        up: From few channels to those of the frames.
        twice: Weigh by twice the sigmoid, from 0 to 2, instead of one plus it.
    """
    # A tracer is asked for first: what it sees compared holds for its graph.
    if is_traced() or (torch.is_grad_enabled() and frames.numel() <= _FEW_NUMBERS):
        wide = F.conv2d(inner(F.conv2d(frames, *down)), *up).sigmoid()
        # `addcmul` would have more to multiply on its way back.
        return frames * (2 * wide) if twice else frames + frames * wide
    layout = memory_layout(frames)
    frames = frames.contiguous(memory_format=layout)
    dtype = product_type(frames)
    with without_autocast(frames):
        if frames.dtype != dtype or down[0].dtype != dtype:
            down, up = ((kernel.to(dtype), bias.to(dtype)) for kernel, bias in (down, up))
        same, narrow = frames, frames.to(dtype)
        if not needs_gradient(frames, *down):
            narrow = convolve(narrow, *down)
        elif is_large(frames):
            same, narrow = _Branch.apply(frames, *down)
        else:
            narrow = F.conv2d(narrow, *down)
    narrow = inner(narrow)
    with without_autocast(frames):
        narrow = narrow.to(dtype).contiguous(memory_format=layout)
        if needs_gradient(same, narrow, *up):
            return _Weigh.apply(same, narrow, *up, twice)
        return _weigh(same, narrow, *up, twice)


class _Branch(torch.autograd.Function):
    """x -> x itself and down(x); the gradients of both come back as one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, kernel)
        return x, convolve(x.to(kernel.dtype), kernel, bias)

    @staticmethod
    @once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_same: Tensor, d_narrow: Tensor
    ) -> Gradients:
        x, kernel = ctx.saved_tensors
        d_narrow = d_narrow.contiguous(memory_format=memory_layout(x))
        # What _Weigh made for us alone, we may add to where it lies.
        same = d_same if ctx.needs_input_grad[0] else None
        x = x.to(kernel.dtype)
        return differentiate(d_narrow, x, kernel, ctx.needs_input_grad, add_to=same)


class _Weigh(torch.autograd.Function):
    """x, narrow -> x + x * sigmoid(up(narrow))."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, narrow: Tensor, kernel: Tensor, bias: Tensor, twice: bool
    ) -> Tensor:
        ctx.save_for_backward(x, narrow, kernel, bias)
        ctx.twice = twice
        return _weigh(x, narrow, kernel, bias, twice)

    @staticmethod
    @once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dy: Tensor
    ) -> Gradients:
        x, narrow, kernel, bias = ctx.saved_tensors
        dy = dy.contiguous(memory_format=memory_layout(x))
        for_x, *wanted, _ = ctx.needs_input_grad
        number = num_pieces(x)
        if number == 1:
            dx, d_wide = _back(x, narrow, kernel, bias, ctx.twice, dy)
            return dx if for_x else None, *differentiate(d_wide, narrow, kernel, wanted), None
        dx, found = torch.empty_like(x), []
        for x_, narrow_, dy_, to in _cut(number, x, narrow, dy, dx):
            _, d_wide = _back(x_, narrow_, kernel, bias, ctx.twice, dy_, out=to)
            found.append(differentiate(d_wide, narrow_, kernel, wanted))
        narrows, kernels, biases = zip(*found, strict=True)
        return (
            dx if for_x else None,
            torch.cat(narrows) if wanted[0] else None,
            torch.stack(kernels).sum(dim=0) if wanted[1] else None,
            torch.stack(biases).sum(dim=0) if wanted[2] else None,
            None,
        )


def _weigh(x: Tensor, narrow: Tensor, kernel: Tensor, bias: Tensor, twice: bool) -> Tensor:
    if x.stride(1) == 1 or (number := num_pieces(x)) == 1:  # pieces pay with channels first only
        factor = convolve(narrow, kernel, bias).sigmoid_().to(x.dtype)
        return _times(x, factor, twice, out=factor)
    y = torch.empty_like(x)
    for x_, narrow_, to in _cut(number, x, narrow, y):
        _times(x_, convolve(narrow_, kernel, bias).sigmoid_(), twice, out=to)
    return y


def _back(
    x: Tensor,
    narrow: Tensor,
    kernel: Tensor,
    bias: Tensor,
    twice: bool,
    dy: Tensor,
    *,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, as far as it comes from the product, and of what `up` makes."""
    factor = convolve(narrow, kernel, bias).sigmoid_()
    d_wide = (dy * x).to(factor.dtype)
    if twice:
        d_wide.mul_(2)
    torch.ops.aten.sigmoid_backward.grad_input(d_wide, factor, grad_input=d_wide)
    factor = factor.to(dy.dtype)
    return _times(dy, factor, twice, out=factor if out is None else out), d_wide


def _times(x: Tensor, factor: Tensor, twice: bool, *, out: Tensor) -> Tensor:
    return torch.mul(x, factor.mul_(2), out=out) if twice else torch.addcmul(x, x, factor, out=out)


def _cut(number: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.chunk(number) for tensor in tensors), strict=True)
