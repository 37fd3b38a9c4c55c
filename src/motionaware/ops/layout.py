"""Layouts of clips: the only file in which time and batch share an axis."""

from collections.abc import Callable

from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor


def fold_time(clips: Shaped[Tensor, "b t c h w"]) -> Shaped[Tensor, "bt c h w"]:
    """Lay the frames of every clip along the batch axis: a 2-D network then sees plain images."""
    return rearrange(clips, "b t c h w -> (b t) c h w")


def unfold_time(
    frames: Shaped[Tensor, "bt c h w"], *, num_frames: int
) -> Shaped[Tensor, "b t c h w"]:
    """Gather consecutive frames into clips of `num_frames` again: undo `fold_time`.

    Raises:
        ValueError: The number of images is no multiple of `num_frames`.
    """
    if frames.shape[0] % num_frames:
        raise ValueError(
            f"{frames.shape[0]} images do not make whole clips of {num_frames} frames; "
            "feed all frames of every clip, or insert with another num_frames"
        )
    return rearrange(frames, "(b t) c h w -> b t c h w", t=num_frames)


def unfold_vectors(vectors: Shaped[Tensor, "bt d"], *, num_frames: int) -> Shaped[Tensor, "b t d"]:
    """Gather one vector a frame into one row of vectors a clip."""
    return rearrange(vectors, "(b t) d -> b t d", t=num_frames)


def fold_views(
    views: Shaped[Tensor, "b v t c h w"],
) -> Shaped[Tensor, "bv t c h w"]:
    """Lay the views of every video along the batch axis: a recognizer then sees plain clips."""
    return rearrange(views, "b v t c h w -> (b v) t c h w")


def unfold_views(scores: Shaped[Tensor, "bv k"], *, num_views: int) -> Shaped[Tensor, "b v k"]:
    """Gather the scores of a video's views again."""
    return rearrange(scores, "(b v) k -> b v k", v=num_views)


def per_frame(
    function: Callable[[Tensor], Tensor], clips: Float[Tensor, "b t c h w"]
) -> Float[Tensor, "b t c2 h2 w2"]:
    """Apply a function of images to every frame of every clip."""
    return unfold_time(function(fold_time(clips)), num_frames=clips.shape[1])
