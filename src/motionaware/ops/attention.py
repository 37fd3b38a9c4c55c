"""Attention along time: one token a frame, no projections, one head."""

import math

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def normalize_frames(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Give every frame zero mean and unit variance over its channels and pixels, no more."""
    return F.layer_norm(clips, clips.shape[2:])


def time_attention_map(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t t2"]:
    """How much each frame (row) attends to each frame (column): `softmax(x x^T / sqrt(c h w))`.

    Rows sum to 1. The logits grow with the square root of the size of a frame, so the map comes
    close to the identity where frames differ much.
    """
    tokens = rearrange(clips, "b t c h w -> b t (c h w)")
    return (tokens @ tokens.mT / math.sqrt(tokens.shape[-1])).softmax(dim=-1)


def attend_over_time(clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
    """Let every frame gather from the frames that look like it: `time_attention_map(x) x`."""
    _, _, c, h, w = clips.shape
    tokens = rearrange(clips, "b t c h w -> b t (c h w)")
    gathered = time_attention_map(clips) @ tokens
    return rearrange(gathered, "b t (c h w) -> b t c h w", c=c, h=h, w=w)
