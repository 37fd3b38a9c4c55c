"""Causal operations along time: the previous frame, and attention to past frames."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from motionaware.ops.attention import check_heads
from motionaware.ops.autograd_utils import known_shape


def delay(
    clips: Float[Tensor, "b t c h w"], first: Float[Tensor, "b 1 c h w"]
) -> Float[Tensor, "b t c h w"]:
    """Return the frame before each frame; `first` is the one before the first frame.

    >>> clip = torch.tensor([1.0, 4.0, 9.0]).reshape(1, 3, 1, 1, 1)
    >>> delay(clip, torch.zeros(1, 1, 1, 1, 1)).flatten().tolist()
    [0.0, 1.0, 4.0]
    """
    return torch.cat([first, clips[:, :-1]], dim=1)


def past_attention_map(
    clips: Float[Tensor, "b s c h w"],
    *,
    window: int,
    num_new: int,
    num_seen: Int[Tensor, "b"] | None = None,
    heads: int = 1,
    temperature: float = 1.0,
    cosine: bool = False,
) -> Float[Tensor, "b heads t s"]:
    """Return how much each new frame (row) attends to itself and to earlier frames (column).

    Like `time_attention_map`, but a row is zero for later frames and for frames that are `window`
    or more before it.

    Args:
        clips: Frames to compare, in order of time.
        window: Number of frames that a frame attends to, itself included.
        num_new: Number of frames at the end of the clips that get a row.
        num_seen: Number of valid frames before the new ones in each clip; None: all. The invalid
            ones, at the start of the clip, get weight zero.
        heads: See `time_attention_map`, as `temperature` and `cosine`.
        temperature: Divides the logits.
        cosine: Compare by cosine similarity.

    Raises:
        UsageError: The heads do not divide the channels evenly.
    """
    check_heads(heads, channels=known_shape(clips)[2])
    tokens = rearrange(clips, "b s (heads c) h w -> b heads s (c h w)", heads=heads)
    size = known_shape(tokens)[-1]
    if cosine:
        tokens = F.rms_norm(tokens, (size,), eps=1e-5)
    scale = temperature * (size if cosine else math.sqrt(size))
    logits = tokens[:, :, -num_new:] @ tokens.transpose(-2, -1) / scale
    visible = _visible(clips, window=window, num_new=num_new, num_seen=num_seen)
    return logits.masked_fill(~visible, -math.inf).softmax(dim=-1)


def _visible(
    clips: Float[Tensor, "b s c h w"],
    *,
    window: int,
    num_new: int,
    num_seen: Int[Tensor, "b"] | None,
) -> Bool[Tensor, "#b 1 t s"]:
    column = torch.arange(clips.shape[1], device=clips.device)
    row = rearrange(column[-num_new:], "t -> t 1")
    visible = rearrange((column <= row) & (column > row - window), "t s -> 1 1 t s")
    if num_seen is None:
        return visible
    first = clips.shape[1] - num_new - rearrange(num_seen, "b -> b 1 1 1")
    return visible & (column >= first)


def gather_from_past(
    clips: Float[Tensor, "b s c h w"], weights: Float[Tensor, "b heads t s"]
) -> Float[Tensor, "b t c h w"]:
    """Return for each new frame the sum of all frames, weighted by its row of the map."""
    _, _, _, h, w = clips.shape
    tokens = rearrange(clips, "b s (heads c) h w -> b heads s (c h w)", heads=weights.shape[1])
    return rearrange(weights @ tokens, "b heads t (c h w) -> b t (heads c) h w", h=h, w=w)
