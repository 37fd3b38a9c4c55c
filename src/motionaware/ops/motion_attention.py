"""Motion Aware Attention in closed form: neither the motion nor what it gathers is ever laid out.

    n = norm(x)         a row of e values a frame
    m = S n             the motion: S is the t x t matrix of differences between frames
    y = x + A m         A = softmax(m m^T scale) = softmax(S (n n^T) S^T scale)
      = x + (A S) n     one product of n with itself, one with a t x t matrix; the rest is t x t

It is `gather_over_time(m, time_attention_map(m))` of `attention.py` in fewer passes over the clip;
the tests compare the two. The gradient is written by hand: of all that is as large as a clip it
needs n alone. It can be taken once; torch refuses a gradient of the gradient, with these words.

n itself is laid out, though its products could be had from those of x: n n^T = D (x x^T - e mu
mu^T) D, which cancels where means lie far from zero. What it would save is a pass over few
channels.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from motionaware.ops.attention import check_heads
from motionaware.ops.modes import is_traced, without_autocast
from motionaware.ops.motion import Last, temporal_difference

_EPSILON = 1e-5  # of the norms in attention.py


def add_attended_motion(
    clips: Float[Tensor, "b t c h w"],
    *,
    last: Last | None = "neg",
    heads: int = 1,
    temperature: float = 1.0,
    cosine: bool = False,
) -> Float[Tensor, "b t c h w"]:
    """Add to every frame the motion of the frames that move like it.

    It is computed in float32 at least, whatever the type of the clips, which the output has too.

    Args:
        clips: Of any mean and scale: each frame is normalised.
        last: What follows the last frame; see `temporal_difference`. With None there is no
            difference: the normalised frames themselves are compared and gathered.
        heads: As in `time_attention_map`.
        temperature: As in `time_attention_map`.
        cosine: As in `time_attention_map`.

    Raises:
        ValueError: The heads do not share the channels evenly.
    """
    check_heads(heads, channels=clips.shape[2])
    h, w = clips.shape[3:]
    # Values of a frame may come in any order: in that of the memory nothing is copied.
    order = "c h w"
    if heads == 1 and clips.movedim(2, -1).is_contiguous():
        order = "h w c"
    rows = rearrange(clips, f"b t c h w -> b t ({order})")
    attend = _attend if is_traced() else _Attend.apply
    with without_autocast(clips):
        exact = rows.to(torch.promote_types(rows.dtype, torch.float32))
        attended = attend(exact, _difference_matrix(exact, last), heads, temperature, cosine)
    return rearrange(attended.to(clips.dtype), f"b t ({order}) -> b t c h w", h=h, w=w)


def _difference_matrix(rows: Float[Tensor, "b t e"], last: Last | None) -> Float[Tensor, "t t2"]:
    """S, by which `S n` is `temporal_difference(n)`."""
    same = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    if last is None:
        return same
    frames = temporal_difference(rearrange(same, "t c -> 1 t c 1 1"), last=last)
    return rearrange(frames, "1 t c 1 1 -> t c")


def _attend(
    rows: Float[Tensor, "b t e"],
    differences: Float[Tensor, "t t2"],
    heads: int,
    temperature: float,
    cosine: bool,
) -> Float[Tensor, "b t e"]:
    """The equations above, as they stand."""
    normal = _by_head(F.layer_norm(rows, rows.shape[-1:], eps=_EPSILON), heads)
    products = differences @ (normal @ normal.mT) @ differences.T
    weights = _weights(products, normal.shape[-1], temperature, cosine)
    gathered = (weights @ differences) @ normal
    return rows + rearrange(gathered, "(b heads) t e -> b t (heads e)", heads=heads)


def _by_head(rows: Float[Tensor, "b t e"], heads: int) -> Float[Tensor, "bh t e2"]:
    return rearrange(rows, "b t (heads e) -> (b heads) t e", heads=heads)


def _weights(
    products: Float[Tensor, "bh t t2"], size: int, temperature: float, cosine: bool
) -> Float[Tensor, "bh t t2"]:
    """The attention map of motions of `size` values, from their products `m m^T`."""
    if cosine:
        products = products * _inverse_lengths(products, size)
    return (products * _scale(size, temperature, cosine)).softmax(dim=-1)


def _scale(size: int, temperature: float, cosine: bool) -> float:
    return 1 / (temperature * (size if cosine else math.sqrt(size)))


def _inverse_lengths(products: Float[Tensor, "bh t t2"], size: int) -> Float[Tensor, "bh t t2"]:
    """One by the root mean squares of both motions that a product is of."""
    lengths = (products.diagonal(dim1=-2, dim2=-1) / size + _EPSILON).rsqrt()
    return lengths[..., :, None] * lengths[..., None, :]


class _Attend(torch.autograd.Function):
    """`_attend` with its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, differences: Tensor, *options: Any) -> Tensor:
        heads, temperature, cosine = options
        normal, _, inverse_std = torch.native_layer_norm(
            rows, rows.shape[-1:], None, None, _EPSILON
        )
        normal = _by_head(normal, heads)
        gram = normal @ normal.mT
        products = differences @ gram @ differences.T
        weights = _weights(products, normal.shape[-1], temperature, cosine)
        ctx.options = options
        ctx.save_for_backward(normal, inverse_std, differences, gram, weights)
        attended = torch.baddbmm(_by_head(rows, heads), weights @ differences, normal)
        return rearrange(attended, "(b heads) t e -> b t (heads e)", heads=heads)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        """From `y = x + M n` with `M = A S`; names of gradients begin with `d`."""
        normal, inverse_std, differences, gram, weights = ctx.saved_tensors
        heads, temperature, cosine = ctx.options
        size = normal.shape[-1]
        with without_autocast(grad):
            dy = _by_head(grad, heads)
            mix = weights @ differences
            d_mix = dy @ normal.mT
            d_logits = torch.ops.aten._softmax_backward_data(
                d_mix @ differences.T, weights, -1, weights.dtype
            )
            d_products = d_logits * _scale(size, temperature, cosine)
            if cosine:
                d_products = _through_cosine(d_products, differences @ gram @ differences.T, size)
            d_gram = differences.T @ d_products @ differences
            d_gram = d_gram + d_gram.mT  # n stands on both sides of its product

            # dn = M^T dy + d_gram n. The norm takes from it its mean and its part along n, of which
            # both are sums over all heads; then it divides by the standard deviation.
            d_mean = mix.mT @ dy.sum(-1, keepdim=True) + d_gram @ normal.sum(-1, keepdim=True)
            along = (mix.mT @ d_mix + d_gram @ gram).diagonal(dim1=-2, dim2=-1)[..., None]
            d_mean, along = (
                reduce(part, "(b heads) t 1 -> b t 1", "sum", heads=heads) / (heads * size)
                for part in (d_mean, along)
            )
            d_mean, along, inverse_std = (
                part.repeat_interleave(heads, dim=0) for part in (d_mean, along, inverse_std)
            )
            dx = dy - inverse_std * d_mean
            dx.baddbmm_(inverse_std * mix.mT, dy)
            dx.baddbmm_(inverse_std * (d_gram - torch.diag_embed(along[..., 0])), normal)
        dx = rearrange(dx, "(b heads) t e -> b t (heads e)", heads=heads)
        return dx, None, None, None, None


def _through_cosine(d_cosines: Tensor, products: Tensor, size: int) -> Tensor:
    """The gradient of products from that of `products * _inverse_lengths(products)`."""
    inverse = _inverse_lengths(products, size)
    by_length = d_cosines * products * inverse
    lengths = by_length.sum(dim=-1) + by_length.sum(dim=-2)
    squares = products.diagonal(dim1=-2, dim2=-1) / size + _EPSILON
    return d_cosines * inverse - torch.diag_embed(lengths / (2 * size * squares))
