"""Attention along time: one token a frame, no projections."""

import math

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def normalize_frames(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Give every frame zero mean and unit variance over its channels and pixels, no more."""
    return F.layer_norm(clips, clips.shape[2:])


def check_heads(heads: int, *, channels: int) -> None:
    """Refuse heads that do not share the channels evenly.

    Raises:
        ValueError: With a remedy.
    """
    if channels % heads:
        raise ValueError(
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
    check_heads(heads, channels=clips.shape[2])
    tokens = rearrange(clips, "b t (heads c) h w -> b heads t (c h w)", heads=heads)
    size = tokens.shape[-1]
    if cosine:  # by root mean square, whose epsilon keeps the gradient of still frames small
        tokens = F.rms_norm(tokens, (size,), eps=1e-5)
    scale = temperature * (size if cosine else math.sqrt(size))
    return (tokens @ tokens.mT / scale).softmax(dim=-1)


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
