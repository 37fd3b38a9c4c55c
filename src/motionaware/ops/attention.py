"""Attention over time: one token per frame, no projections.

`add_attended_motion` is Motion Aware Attention. `add_attended_motion_plainly` is its formula:

    n = norm(x)                          each frame over channels and pixels
    m = K Y                              Y: steps, the next n minus this one, zeros after the last
    y = x + softmax(m m^T scale) m       K: t x t, the identity for plain differences

The fast path avoids tensors of the size of a clip. It computes m m^T and the sum in closed form:

    G = Y Y^T,  M = softmax(K G K^T scale) K,  y = x + M Y

Of the tensors with the size of a clip only Y is kept for the backward pass. With the logits
L = K G K^T scale, P = dM = dy Y^T and A = (dL + dL^T) scale, the gradient of the steps is

    dY = M^T dy + K^T A K Y

The normalised frames are sums of steps, n = -E Y with E = [j >= i], so the gradient of the norm
needs no other tensor of that size. Products of steps keep the digits that products of frames lose
where frames are almost equal.

Gain over the formula on the channels of a gate, c / 8: time of the formula / time of the fast path,
median [quartiles] of 15 rounds. 8 frames per clip:

    site (c, pixels)   clips   layout           inference          training step
    64, 28 x 28        4       channels last    1.73 [1.49-2.52]   1.79 [1.60-3.25]
    64, 28 x 28        4       channels first   0.93 [0.62-1.40]   1.25 [1.13-1.36]
    256, 7 x 7         4       channels last    1.32 [0.40-3.26]   1.27 [1.07-1.41]
    256, 7 x 7         4       channels first   0.96 [0.45-2.22]   1.19 [1.12-1.29]
    256, 56 x 56       1       channels last    1.71 [1.63-1.81]   2.39 [2.28-2.46]
    256, 56 x 56       1       channels first   1.26 [1.19-1.33]   1.85 [1.79-1.90]
    512, 28 x 28       1       channels last    1.59 [1.50-1.64]   2.37 [2.10-2.50]
    512, 28 x 28       1       channels first   1.18 [1.03-1.20]   1.67 [1.54-1.80]
    2048, 7 x 7        1       channels first   1.26 [0.93-1.51]   1.33 [1.09-1.45]

Measured 2026-11-27 on an Intel Xeon (family 6, model 207, 2 cores, busy with other work), torch
2.14.1, one thread, CPU time: `python benchmarks/fast_paths.py --parts attention --rounds 15`.
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
    can_use_fast_paths,
    first_derivative_only,
    known_shape,
    needs_gradient,
    softmax_gradient,
    without_autocast,
)
from motionaware.ops.motion import temporal_difference

MotionKind = Literal["neg", "zero", "frames"]

_EPSILON = 1e-5  # of the norms


def normalize_frames(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Normalise every frame to zero mean and unit variance over its channels and pixels."""
    return F.layer_norm(clips, known_shape(clips)[2:])


def check_heads(heads: int, *, channels: int) -> None:
    """Check that the heads divide the channels evenly.

    Raises:
        UsageError: They do not.
    """
    if channels % heads:
        raise UsageError(
            f"{heads = } do not divide {channels} channels evenly; choose a divisor of {channels}, "
            "or another reduction of the gate"
        )


def time_attention_map(
    clips: Float[Tensor, "b t c h w"],
    *,
    heads: int = 1,
    temperature: float = 1.0,
    cosine: bool = False,
) -> Float[Tensor, "b heads t t2"]:
    """Return how much each frame (row) attends to each frame (column): `softmax(x x^T scale)`.

    Rows sum to 1. The default scale is `1 / sqrt(c h w)`. The logits grow with the square root of
    the size of a frame, so the map approaches the identity where frames differ much.

    Args:
        clips: Frames to compare.
        heads: Number of equal groups of channels. Each head compares its channels only.
        temperature: Divides the logits: above 1 the map is softer, below 1 sharper.
        cosine: Use cosine similarities as logits, in [-1, 1] for any size of a frame, instead of
            scaled products. A frame close to zero is similar to no frame.

    Raises:
        UsageError: The heads do not divide the channels evenly.
    """
    check_heads(heads, channels=known_shape(clips)[2])
    tokens = rearrange(clips, "b t (heads c) h w -> b heads t (c h w)", heads=heads)
    size = known_shape(tokens)[-1]
    if cosine:  # rms_norm has an epsilon, which bounds the gradient of still frames
        tokens = F.rms_norm(tokens, (size,), eps=_EPSILON)
    scale = temperature * (size if cosine else math.sqrt(size))
    # not `.mT`, which torch's older ONNX exporter does not know
    return (tokens @ tokens.transpose(-2, -1) / scale).softmax(dim=-1)


def gather_over_time(
    clips: Float[Tensor, "b t c h w"], weights: Float[Tensor, "b heads t2 t"]
) -> Float[Tensor, "b t2 c h w"]:
    """Return for each row of the weights the weighted sum of all frames."""
    _, _, _, h, w = clips.shape
    tokens = rearrange(clips, "b t (heads c) h w -> b heads t (c h w)", heads=weights.shape[1])
    return rearrange(weights @ tokens, "b heads t (c h w) -> b t (heads c) h w", h=h, w=w)


def attend_over_time(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Return for each frame the sum of all frames, weighted by `time_attention_map(clips)`."""
    return gather_over_time(clips, time_attention_map(clips))


def add_attended_motion_plainly(
    clips: Float[Tensor, "b t c h w"],
    *,
    kind: MotionKind = "neg",
    temperature: float = 1.0,
    cosine: bool = False,
    skip: bool = True,
) -> Float[Tensor, "b t c h w"]:
    """Compute `add_attended_motion` by its formula, in operations that autograd and tracers follow.

    Args:
        clips: See `add_attended_motion`, as the others.
        kind: What counts as motion.
        temperature: Divides the logits.
        cosine: Compare by cosine similarity.
        skip: Add the clips.
    """
    frames = normalize_frames(clips)
    motion = frames if kind == "frames" else temporal_difference(frames, last=kind)
    weights = time_attention_map(motion, temperature=temperature, cosine=cosine)
    gathered = gather_over_time(motion, weights)
    return clips + gathered if skip else gathered


def add_attended_motion(
    clips: Float[Tensor, "b t c h w"],
    *,
    kind: MotionKind = "neg",
    temperature: float = 1.0,
    cosine: bool = False,
    skip: bool = True,
) -> Float[Tensor, "b t c h w"]:
    """Add to each frame the motions of all frames, weighted by how similar they are to its motion.

    The fast path computes in float32 or float64, and returns the dtype of the clips.

    Args:
        clips: Frames, not normalised.
        kind: What counts as motion: `neg` and `zero` are differences of normalised frames, see
            `last` of `temporal_difference`; `frames` are the normalised frames themselves.
        temperature: See `time_attention_map`.
        cosine: See `time_attention_map`.
        skip: Add the clips; False returns the weighted sum alone.
    """
    if not can_use_fast_paths():
        return add_attended_motion_plainly(
            clips, kind=kind, temperature=temperature, cosine=cosine, skip=skip
        )
    h, w = clips.shape[3:]
    # The order of the numbers of a frame is free; that of the memory avoids a copy.
    order = "h w c" if clips.stride(2) == 1 else "c h w"
    rows = rearrange(clips, f"b t c h w -> b t ({order})")
    size = rows.shape[-1]
    scale = 1 / (temperature * (size if cosine else math.sqrt(size)))
    with without_autocast(clips):
        exact = rows.to(torch.promote_types(rows.dtype, torch.float32)).contiguous()
        motion = _motion_matrix(exact, kind)
        if needs_gradient(exact):
            attended = _Attend.apply(exact, motion, scale, cosine, skip)
        else:
            attended, *_ = _attend(exact, motion, scale, cosine, skip)
    return rearrange(attended.to(clips.dtype), f"b t ({order}) -> b t c h w", h=h, w=w)


def _motion_matrix(rows: Float[Tensor, "b t e"], kind: MotionKind) -> Tensor | None:
    """Return K; None for the identity."""
    if kind == "neg":
        return None
    if kind == "frames":
        return -_sum_matrix(rows)
    motion = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    motion[-1] = 0
    return motion


def _sum_matrix(rows: Float[Tensor, "b t e"]) -> Float[Tensor, "t t"]:
    """Return E, which adds to each row all rows after it."""
    return rows.new_ones(rows.shape[1], rows.shape[1]).triu()


def _attend(
    rows: Float[Tensor, "b t e"], motion: Tensor | None, scale: float, cosine: bool, skip: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Forward pass: y, and for the gradient Y, inverse standard deviations, G and the map."""
    normal, _, inverse_std = torch.native_layer_norm(rows, rows.shape[-1:], None, None, _EPSILON)
    steps = torch.empty_like(normal)  # torch.cat would write it twice
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


class _Attend(torch.autograd.Function):
    """`_attend` and its gradient; the names are those of the docstring of this file."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, motion: Tensor | None, scale: float, cosine: bool, skip: bool
    ) -> Tensor:
        attended, *kept = _attend(rows, motion, scale, cosine, skip)
        ctx.save_for_backward(motion, *kept)
        ctx.scale, ctx.cosine, ctx.skip = scale, cosine, skip
        return attended

    @staticmethod
    @first_derivative_only
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dy: Tensor
    ) -> Gradients:
        motion, steps, inverse_std, gram, weights = ctx.saved_tensors
        dy = dy.contiguous()
        size = steps.shape[-1]
        d_mix = dy @ steps.mT  # P
        d_weights = d_mix if motion is None else d_mix @ motion.mT
        d_logits = softmax_gradient(d_weights, weights)
        if ctx.cosine:
            products = gram if motion is None else motion @ gram @ motion.mT
            d_logits = _cosine_gradient(d_logits, products, size, ctx.scale)
            d_gram = d_logits + d_logits.mT  # A
        else:
            d_gram = (d_logits + d_logits.mT).mul_(ctx.scale)
        mix = weights  # M
        if motion is not None:
            mix, d_gram = weights @ motion, motion.mT @ d_gram @ motion
        # dY = mix^T dy + d_gram Y. Steps are differences, so dn of a frame is dY of the frame
        # before minus its own dY. The norm removes from dn its mean and its part along n = -E Y.
        t = d_gram.shape[-1]
        sums = _sum_matrix(d_gram)
        d_steps = torch.cat([mix, d_gram], dim=1)
        d_frames = F.pad(d_steps[:, :, :-1], (1, 0)).sub_(d_steps)
        along = (d_frames * (torch.cat([d_mix, gram], dim=1) @ sums.mT)).sum(dim=1) / size
        from_dy, from_steps = d_frames[:, :t].mT, d_frames[:, t:].mT
        mean = from_dy @ dy.mean(dim=-1, keepdim=True)
        from_dy = inverse_std * from_dy
        # along = -sum(dn n) / e, and n = -E Y
        from_steps = inverse_std * (from_steps - along[..., None] * sums)
        mean = inverse_std * mean
        dx = torch.baddbmm(dy - mean if ctx.skip else -mean, from_dy, dy)
        return dx.baddbmm_(from_steps, steps), None, None, None, None


def _inverse_lengths(products: Float[Tensor, "b t t"], size: int) -> Float[Tensor, "b t t"]:
    """Return for each product 1 / (root mean square of one factor * that of the other)."""
    lengths = (products.diagonal(dim1=-2, dim2=-1) / size + _EPSILON).rsqrt()
    return lengths[..., :, None] * lengths[..., None, :]


def _cosine_gradient(
    d_logits: Float[Tensor, "b t t"], products: Float[Tensor, "b t t"], size: int, scale: float
) -> Float[Tensor, "b t t"]:
    """Return the gradient of products from that of `products * _inverse_lengths * scale`."""
    d_cosines, inverse = scale * d_logits, _inverse_lengths(products, size)
    by_length = d_cosines * products * inverse
    lengths = by_length.sum(dim=-1) + by_length.sum(dim=-2)
    squares = products.diagonal(dim1=-2, dim2=-1) / size + _EPSILON
    return d_cosines * inverse - torch.diag_embed(lengths / (2 * size * squares))
