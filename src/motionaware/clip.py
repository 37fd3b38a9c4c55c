"""ClipSpec: the format of the clips that a model expects; stored in the model's checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from motionaware.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Number and size of the frames of a clip, and how they are chosen from a video.

    These values are defined only here: data, model, export and applications read this class.

    Attributes:
        num_frames: Frames in a clip. A shorter video repeats some frames.
        image_size: Height and width of a frame, in pixels.
        sampling: `segments` takes one frame from each of `num_frames` equal parts of the video;
            `dense` takes frames `frame_stride` apart.
        frame_stride: Distance between consecutive frames of a dense clip, in frames of the video.
        crop_fraction: Side of the centre crop at test time, as a fraction of the frame's short
            side, in (0, 1].
        square_pixels: Scale frames with non-square pixels (DV, DVD, HDV) to their display width
            before they are cropped. False for checkpoints that were saved without this field.
    """

    num_frames: int = 8
    image_size: int = 224
    sampling: Literal["segments", "dense"] = "segments"
    frame_stride: int = 8
    crop_fraction: float = 0.875
    square_pixels: bool = True

    def __post_init__(self) -> None:
        for name in ("num_frames", "image_size", "frame_stride"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; wanted 1 or more")
        if self.sampling not in ("segments", "dense"):
            raise UsageError(f"sampling is {self.sampling!r}; choose 'segments' or 'dense'")
        if not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"crop_fraction is {self.crop_fraction}; wanted more than 0, at most 1"
            )


def upgrade_clip_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the fields of a ClipSpec that were read from a checkpoint or a run folder.

    A field that did not exist when the file was written gets the value that was then in effect,
    which is not always the default of new recipes.

    >>> upgrade_clip_fields({"num_frames": 4})
    {'square_pixels': False, 'num_frames': 4}
    """
    return {"square_pixels": False} | dict(fields)
