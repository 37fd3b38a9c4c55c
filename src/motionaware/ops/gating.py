"""A gate from few channels to many, in as few passes over the many as there can be.

    narrow = down(x)                     down, up: 1x1 convolutions
    y = x + x * sigmoid(up(inner(narrow)))

The wide tensors are x and y alone, and for the backward pass x and the narrow tensor are kept: the
sigmoid is made once more. That pass writes one wide tensor, the gradient of x, to which both ways
that x takes add in place.

What comes out lies as what came in, channels first or last; nothing is laid out anew.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from motionaware.ops.modes import (
    Gradients,
    is_traced,
    needs_gradient,
    once,
    product_type,
    without_autocast,
)
from motionaware.ops.pointwise import convolve, differentiate, memory_layout, pieces

Weights = tuple[Tensor, Tensor]
"""The kernel `c2 c 1 1` and the bias `c2` of a 1x1 convolution."""


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
    if is_traced():
        wide = F.conv2d(inner(F.conv2d(frames, *down)), *up).sigmoid()
        return frames * (2 * wide) if twice else torch.addcmul(frames, frames, wide)
    dtype, layout = product_type(frames), memory_layout(frames)
    frames = frames.contiguous(memory_format=layout)
    with without_autocast(frames):
        down, up = ((kernel.to(dtype), bias.to(dtype)) for kernel, bias in (down, up))
        if needs_gradient(frames, *down):
            same, narrow = _Branch.apply(frames, *down)
        else:
            same, narrow = frames, convolve(frames.to(dtype), *down)
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
        found: list[Gradients] = []
        cut = pieces(x, narrow, dy)
        dx = torch.empty_like(x) if len(cut) > 1 else None
        for (x_, narrow_, dy_), (_, to) in zip(cut, pieces(x, dx), strict=True):
            factor = convolve(narrow_, kernel, bias).sigmoid_()
            d_wide = (dy_ * x_).to(factor.dtype)
            if ctx.twice:
                d_wide.mul_(2)
            torch.ops.aten.sigmoid_backward.grad_input(d_wide, factor, grad_input=d_wide)
            by_x = _times(dy_, factor.to(dy.dtype), ctx.twice, to) if for_x else None
            found.append((by_x, *differentiate(d_wide, narrow_, kernel, wanted)))
        if len(found) == 1:
            return *found[0], None
        _, narrows, kernels, biases = zip(*found, strict=True)
        d_narrow = torch.cat(narrows) if wanted[0] else None
        d_kernel = torch.stack(kernels).sum(0) if wanted[1] else None
        d_bias = torch.stack(biases).sum(0) if wanted[2] else None
        return dx if for_x else None, d_narrow, d_kernel, d_bias, None


def _weigh(x: Tensor, narrow: Tensor, kernel: Tensor, bias: Tensor, twice: bool) -> Tensor:
    cut = pieces(x, narrow)
    y = torch.empty_like(x) if len(cut) > 1 else None
    for (x_, narrow_), (_, to) in zip(cut, pieces(x, y), strict=True):
        factor = convolve(narrow_, kernel, bias).sigmoid_().to(x.dtype)
        made = _times(x_, factor, twice, to)
    return made if y is None else y


def _times(x: Tensor, factor: Tensor, twice: bool, to: Tensor | None) -> Tensor:
    """Weigh x; in the place of the factor if there is no other."""
    out = factor if to is None else to
    return torch.mul(x, factor.mul_(2), out=out) if twice else torch.addcmul(x, x, factor, out=out)
