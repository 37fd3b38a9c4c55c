"""ClipSpec: what a model expects of a clip. Written once, and it travels with the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from motionaware.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """How many frames a clip has, how large they are and how they are chosen from a video.

    Sampler, model, export and demo read these facts here and nowhere else.

    Attributes:
        num_frames: Frames in a clip. A shorter video shows some frames more than once.
        image_size: Height and width of a frame, in pixels.
        sampling: `segments` draws one frame from each of `num_frames` equal parts of the video;
            `dense` takes frames `frame_stride` apart.
        frame_stride: Distance between consecutive frames of a dense clip, in frames of the video.
        crop_fraction: Share of the short side that the centre crop of a test view keeps, in (0, 1].
        square_pixels: Whether frames whose pixels are not square (DV, DVD, HDV) are scaled to their
            shown width before anything else. Models of earlier versions have false.
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
                raise UsageError(f"{name} is {getattr(self, name)}; it counts and starts at 1")
        if self.sampling not in ("segments", "dense"):
            raise UsageError(f"sampling is {self.sampling!r}; choose 'segments' or 'dense'")
        if not 0 < self.crop_fraction <= 1:
            raise UsageError(f"crop_fraction is {self.crop_fraction}; it lies in (0, 1]")


def stored_clip(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ClipSpec that a checkpoint or a run folder holds.

    A field that did not exist when it was written gets the value that the version of that time
    worked by, which is not always the default of new recipes.

    >>> stored_clip({"num_frames": 4})
    {'square_pixels': False, 'num_frames': 4}
    """
    return {"square_pixels": False} | dict(facts)
