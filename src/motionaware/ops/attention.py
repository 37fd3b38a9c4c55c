"""Attention along time: one token a frame, no projections.

`add_attended_motion` is Motion Aware Attention in closed form. Of all that is as large as a clip it
lays out only the steps Y: each frame normalised, the next one minus this one, zeros after the last.
What counts as motion is m = K Y with K a t x t matrix (one for the differences themselves), so

    x + softmax(m m^T scale) m  =  x + M Y,    M = softmax(K G K^T scale) K,    G = Y Y^T

and all but two products is t x t. So is the way back: with P = dy Y^T and A = dL + dL^T of the
logits L = K G K^T scale,

    dY = M^T dy + K^T A K Y

The frames are sums of steps, -E Y with E = [j >= i], so the gradient of the norm needs nothing else
of their size either. Products of steps keep the digits that products of frames lose where frames
are alike.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from motionaware.errors import UsageError
from motionaware.ops.autograd_utils import (
    Gradients,
    known_shape,
    needs_gradient,
    once,
    without_autocast,
)

Motion = Literal["neg", "zero", "frames"]

_EPSILON = 1e-5  # of the norms


def normalize_frames(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Give every frame zero mean and unit variance over its channels and pixels, no more."""
    return F.layer_norm(clips, known_shape(clips)[2:])


def check_heads(heads: int, *, channels: int) -> None:
    """Refuse heads that do not share the channels evenly.

    Raises:
        ValueError: With a remedy.
    """
    if channels % heads:
        raise UsageError(
            f"{heads = } do not share {channels} channels evenly; take a divisor of {channels}, "
            "or another reduction of the gate"
        )


def time_attention_map(
    clips: Float[Tensor, "b t c h w"],
    *,
    heads: int = 1,
    temperature: float = 1.0,
    cosine: bool = False,
) -> Float[Tensor, "b heads t t2"]:
    """How much each frame (row) attends to each frame (column): `softmax(x x^T / sqrt(c h w))`.

    Rows sum to 1. The logits grow with the square root of the size of a frame, so the map comes
    close to the identity where frames differ much.

    Args:
        clips: What the frames are compared by.
        heads: Equal groups of channels; each is compared on its own and has a map of its own.
        temperature: Divides the logits: above 1 the map is softer, below 1 sharper.
        cosine: Compare by cosine similarity, in [-1, 1] at any size of a frame, instead of
            `x x^T / sqrt(c h w)`. What is next to nothing is similar to nothing.

    Raises:
        ValueError: The heads do not share the channels evenly.
    """
    check_heads(heads, channels=known_shape(clips)[2])
    tokens = rearrange(clips, "b t (heads c) h w -> b heads t (c h w)", heads=heads)
    size = known_shape(tokens)[-1]
    if cosine:  # by root mean square, whose epsilon keeps the gradient of still frames small
        tokens = F.rms_norm(tokens, (size,), eps=1e-5)
    scale = temperature * (size if cosine else math.sqrt(size))
    # not `.mT`, which torch's older ONNX exporter does not know
    return (tokens @ tokens.transpose(-2, -1) / scale).softmax(dim=-1)


def gather_over_time(
    clips: Float[Tensor, "b t c h w"], weights: Float[Tensor, "b heads t2 t"]
) -> Float[Tensor, "b t2 c h w"]:
    """Let every frame gather from all frames, by as much as its row of the map says."""
    _, _, _, h, w = clips.shape
    tokens = rearrange(clips, "b t (heads c) h w -> b heads t (c h w)", heads=weights.shape[1])
    return rearrange(weights @ tokens, "b heads t (c h w) -> b t (heads c) h w", h=h, w=w)


def attend_over_time(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Let every frame gather from the frames that look like it: `time_attention_map(x) x`."""
    return gather_over_time(clips, time_attention_map(clips))


def add_attended_motion(
    clips: Float[Tensor, "b t c h w"],
    *,
    what: Motion = "neg",
    temperature: float = 1.0,
    cosine: bool = False,
    skip: bool = True,
) -> Float[Tensor, "b t c h w"]:
    """Add to every frame the motion of the frames that move like it, in closed form.

    The same numbers as `m = temporal_difference(normalize_frames(x))` and
    `x + gather_over_time(m, time_attention_map(m))`, computed in float32 at least whatever the type
    of the clips, which the output has too.

    Args:
        clips: The frames, as they come.
        what: Counts as motion: differences, with what `temporal_difference` calls `last`, or the
            normalised frames themselves.
        temperature: See `time_attention_map`.
        cosine: See `time_attention_map`.
        skip: False leaves the frames out of the sum.
    """
    h, w = clips.shape[3:]
    # A frame's numbers may come in any order: in that of the memory nothing is copied.
    order = "h w c" if clips.stride(2) == 1 else "c h w"
    rows = rearrange(clips, f"b t c h w -> b t ({order})")
    size = rows.shape[-1]
    scale = 1 / (temperature * (size if cosine else math.sqrt(size)))
    with without_autocast(clips):
        exact = rows.to(torch.promote_types(rows.dtype, torch.float32)).contiguous()
        motion = _motion_of_steps(exact, what)
        if needs_gradient(exact):
            attended = _Attend.apply(exact, motion, scale, cosine, skip)
        else:
            attended, *_ = _attend(exact, motion, scale, cosine, skip)
    return rearrange(attended.to(clips.dtype), f"b t ({order}) -> b t c h w", h=h, w=w)


def _motion_of_steps(rows: Float[Tensor, "b t e"], what: Motion) -> Tensor | None:
    """K, where it is not one."""
    if what == "neg":
        return None
    if what == "frames":
        return -_sums(rows)
    motion = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    motion[-1] = 0
    return motion


def _sums(rows: Float[Tensor, "b t e"]) -> Float[Tensor, "t t"]:
    """E, which adds to each row all that come after it."""
    return rows.new_ones(rows.shape[1], rows.shape[1]).triu()


class _Attend(torch.autograd.Function):
    """The closed form and its gradient; one tensor as large as the clips is kept between them."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, motion: Tensor | None, scale: float, cosine: bool, skip: bool
    ) -> Tensor:
        attended, *kept = _attend(rows, motion, scale, cosine, skip)
        ctx.save_for_backward(motion, *kept)
        ctx.scale, ctx.cosine, ctx.skip = scale, cosine, skip
        return attended

    @staticmethod
    @once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dy: Tensor
    ) -> Gradients:
        motion, steps, inverse_std, gram, weights = ctx.saved_tensors
        dy = dy.contiguous()
        size = steps.shape[-1]
        d_mix = dy @ steps.mT
        d_weights = d_mix if motion is None else d_mix @ motion.mT
        d_logits = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        if ctx.cosine:
            products = gram if motion is None else motion @ gram @ motion.mT
            d_logits = _through_cosine(d_logits, products, size, ctx.scale)
            both = d_logits + d_logits.mT
        else:
            both = (d_logits + d_logits.mT).mul_(ctx.scale)
        mix = weights
        if motion is not None:
            mix, both = weights @ motion, motion.mT @ both @ motion
        # dY = mix^T dy + both Y. Steps are differences: dn of a frame is dY before it minus its
        # own. The norm takes from dn its mean and its part along n = -E Y.
        t = both.shape[-1]
        sums = _sums(both)
        ways = torch.cat([mix, both], dim=1)
        by_frame = F.pad(ways[:, :, :-1], (1, 0)).sub_(ways)
        along = (by_frame * (torch.cat([d_mix, gram], dim=1) @ sums.mT)).sum(dim=1) / size
        from_dy, from_steps = by_frame[:, :t].mT, by_frame[:, t:].mT
        mean = from_dy @ dy.mean(dim=-1, keepdim=True)
        from_dy = inverse_std * from_dy
        # along is -sum(dn n) / e, and n = -E Y
        from_steps = inverse_std * (from_steps - along[..., None] * sums)
        mean = inverse_std * mean
        dx = torch.baddbmm(dy - mean if ctx.skip else -mean, from_dy, dy)
        return dx.baddbmm_(from_steps, steps), None, None, None, None


def _attend(
    rows: Float[Tensor, "b t e"], motion: Tensor | None, scale: float, cosine: bool, skip: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The output; and what the gradient needs: Y, inverse deviations, G and the map."""
    normal, _, inverse_std = torch.native_layer_norm(rows, rows.shape[-1:], None, None, _EPSILON)
    steps = torch.empty_like(normal)  # `cat` would write it twice
    torch.sub(normal[:, 1:], normal[:, :-1], out=steps[:, :-1])
    torch.neg(normal[:, -1:], out=steps[:, -1:])
    gram = steps @ steps.mT
    products = gram if motion is None else motion @ gram @ motion.mT
    if cosine:
        products = products * _inverse_lengths(products, rows.shape[-1])
    weights = (products * scale).softmax(dim=-1)
    mix = weights if motion is None else weights @ motion
    attended = torch.baddbmm(rows, mix, steps) if skip else mix @ steps
    return attended, steps, inverse_std, gram, weights


def _inverse_lengths(products: Float[Tensor, "b t t"], size: int) -> Float[Tensor, "b t t"]:
    """One by the root mean squares of both motions that a product is of."""
    lengths = (products.diagonal(dim1=-2, dim2=-1) / size + _EPSILON).rsqrt()
    return lengths[..., :, None] * lengths[..., None, :]


def _through_cosine(
    d_logits: Float[Tensor, "b t t"], products: Float[Tensor, "b t t"], size: int, scale: float
) -> Float[Tensor, "b t t"]:
    """The gradient of products from that of `products * _inverse_lengths(products) * scale`."""
    d_cosines, inverse = scale * d_logits, _inverse_lengths(products, size)
    by_length = d_cosines * products * inverse
    lengths = by_length.sum(dim=-1) + by_length.sum(dim=-2)
    squares = products.diagonal(dim1=-2, dim2=-1) / size + _EPSILON
    return d_cosines * inverse - torch.diag_embed(lengths / (2 * size * squares))
