"""Changes between layouts of clips; the only file in which time and batch share an axis.

`torch.fx.wrap` makes each function one node in a graph of torch.fx: its checks and einops cannot
run on the symbols of a tracer.
"""

from collections.abc import Callable
from math import isqrt

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.fx import wrap

from motionaware.errors import UsageError
from motionaware.ops.autograd_utils import known_shape


@wrap
def fold_time(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "bt c h w"]:
    """Move the frames of every clip to the batch axis, so that a 2-D network sees images."""
    return rearrange(clips, "b t c h w -> (b t) c h w")


@wrap
def unfold_time(
    frames: Shaped[Tensor, "bt c h w"], *, num_frames: int
) -> Shaped[Tensor, "b t c h w"]:
    """Group consecutive images into clips of `num_frames`: the inverse of `fold_time`.

    Raises:
        UsageError: The number of images is no multiple of `num_frames`.
    """
    _check_divisible(frames, num_frames)
    return _with_num_frames(rearrange(frames, "(b t) c h w -> b t c h w", t=num_frames), num_frames)


def _check_divisible(images: Shaped[Tensor, "bt ..."], num_frames: int) -> None:
    number = known_shape(images)[0]
    if number % num_frames:
        raise UsageError(
            f"{number} images do not make whole clips of {num_frames} frames; "
            "pass all frames of every clip, or insert with another num_frames"
        )


def _with_num_frames(
    clips: Shaped[Tensor, "b t ..."], num_frames: int
) -> Shaped[Tensor, "b t ..."]:
    """Tell a tracer that the second axis has `num_frames` entries; no effect in eager mode.

    With a variable number n of images torch calls the length of that axis n // (n // t). Such sizes
    nest at every further site, and the time of an export then grows exponentially with the sites.
    """
    if torch.compiler.is_dynamo_compiling() or isinstance(clips.shape[1], torch.SymInt):
        return clips.expand(-1, num_frames, *(-1 for _ in clips.shape[2:]))
    return clips


@wrap
def fold_maps(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "bt h w c"]:
    """Return the frames of all clips as images with channels last."""
    return rearrange(clips, "b t c h w -> (b t) h w c")


@wrap
def unfold_maps(
    maps: Shaped[Tensor, "bt h w c"], *, num_frames: int
) -> Shaped[Tensor, "b t c h w"]:
    """Group images with channels last into clips: the inverse of `fold_maps`."""
    _check_divisible(maps, num_frames)
    return _with_num_frames(rearrange(maps, "(b t) h w c -> b t c h w", t=num_frames), num_frames)


@wrap
def fold_tokens(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "bt n c"]:
    """Return every frame as a row of tokens, one per pixel, in row-major order."""
    return rearrange(clips, "b t c h w -> (b t) (h w) c")


@wrap
def unfold_tokens(
    tokens: Shaped[Tensor, "bt n c"], *, num_frames: int
) -> Shaped[Tensor, "b t c h w"]:
    """Group rows of tokens into clips: the inverse of `fold_tokens` for square frames.

    A square number of tokens becomes a square frame, any other number a frame one pixel wide. If
    the height is known, use `unfold_token_maps`.

    >>> import torch
    >>> unfold_tokens(torch.zeros(4, 9, 2), num_frames=4).shape
    torch.Size([1, 4, 2, 3, 3])
    >>> unfold_tokens(torch.zeros(4, 6, 2), num_frames=4).shape
    torch.Size([1, 4, 2, 6, 1])
    """
    _check_divisible(tokens, num_frames)
    number = known_shape(tokens)[1]
    side = isqrt(number)
    w = side if side * side == number else 1
    clips = rearrange(tokens, "(b t) (h w) c -> b t c h w", t=num_frames, w=w)
    return _with_num_frames(clips, num_frames)


@wrap
def unfold_token_maps(
    tokens: Shaped[Tensor, "bt n c"], *, num_frames: int, height: int
) -> Shaped[Tensor, "b t c h w"]:
    """Group rows of tokens into clips of a known height: the inverse of `fold_tokens`.

    >>> import torch
    >>> unfold_token_maps(torch.zeros(4, 6, 2), num_frames=4, height=2).shape
    torch.Size([1, 4, 2, 2, 3])
    """
    _check_divisible(tokens, num_frames)
    clips = rearrange(tokens, "(b t) (h w) c -> b t c h w", t=num_frames, h=height)
    return _with_num_frames(clips, num_frames)


@wrap
def fold_volumes(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b c t h w"]:
    """Move time behind the channels: the layout of 3-D convolutions."""
    return rearrange(clips, "b t c h w -> b c t h w")


@wrap
def unfold_volumes(volumes: Shaped[Tensor, "b c t h w"]) -> Shaped[Tensor, "b t c h w"]:
    """Move time before the channels: the inverse of `fold_volumes`."""
    return rearrange(volumes, "b c t h w -> b t c h w")


@wrap
def fold_volume_maps(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b t h w c"]:
    """Move the channels to the end: the layout of 3-D window attention."""
    return rearrange(clips, "b t c h w -> b t h w c")


@wrap
def unfold_volume_maps(maps: Shaped[Tensor, "b t h w c"]) -> Shaped[Tensor, "b t c h w"]:
    """Move the channels behind time: the inverse of `fold_volume_maps`."""
    return rearrange(maps, "b t h w c -> b t c h w")


@wrap
def fold_volume_tokens(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b n c"]:
    """Return each clip as one row of tokens, ordered by frame, row and column."""
    return rearrange(clips, "b t c h w -> b (t h w) c")


@wrap
def unfold_volume_tokens(
    tokens: Shaped[Tensor, "b n c"], *, num_frames: int, height: int
) -> Shaped[Tensor, "b t c h w"]:
    """Turn one row of tokens per clip into clips: the inverse of `fold_volume_tokens`."""
    return rearrange(tokens, "b (t h w) c -> b t c h w", t=num_frames, h=height)


@wrap
def fold_time_last_tokens(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "b n c"]:
    """Return each clip as one row of tokens, ordered by row, column and frame."""
    return rearrange(clips, "b t c h w -> b (h w t) c")


@wrap
def unfold_time_last_tokens(
    tokens: Shaped[Tensor, "b n c"], *, num_frames: int, height: int
) -> Shaped[Tensor, "b t c h w"]:
    """Turn one row of tokens per clip into clips: the inverse of `fold_time_last_tokens`."""
    return rearrange(tokens, "b (h w t) c -> b t c h w", t=num_frames, h=height)


def unfold_vectors(vectors: Shaped[Tensor, "bt d"], *, num_frames: int) -> Shaped[Tensor, "b t d"]:
    """Group one vector per frame by clip."""
    return _with_num_frames(rearrange(vectors, "(b t) d -> b t d", t=num_frames), num_frames)


def fold_views(
    views: Shaped[Tensor, "b v t c h w"],
) -> Shaped[Tensor, "bv t c h w"]:
    """Move the views of every video to the batch axis, so that a recognizer sees clips."""
    return rearrange(views, "b v t c h w -> (b v) t c h w")


def unfold_views(scores: Shaped[Tensor, "bv k"], *, num_views: int) -> Shaped[Tensor, "b v k"]:
    """Group the scores of views by video: the inverse of `fold_views`."""
    return rearrange(scores, "(b v) k -> b v k", v=num_views)


def per_frame(
    function: Callable[[Tensor], Tensor], clips: Float[Tensor, "b t c h w"]
) -> Float[Tensor, "b t c2 h2 w2"]:
    """Apply a function of images to every frame of every clip; it may change channels and size."""
    return unfold_time(function(fold_time(clips)), num_frames=known_shape(clips)[1])
