"""ClipSpec: what a model expects of a clip. Written once, and it travels with the weights."""

from dataclasses import dataclass
from typing import Literal


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
    """

    num_frames: int = 8
    image_size: int = 224
    sampling: Literal["segments", "dense"] = "segments"
    frame_stride: int = 8
    crop_fraction: float = 0.875

    def __post_init__(self) -> None:
        for name in ("num_frames", "image_size", "frame_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it counts and starts at 1")
        if self.sampling not in ("segments", "dense"):
            raise ValueError(f"sampling is {self.sampling!r}; choose 'segments' or 'dense'")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction is {self.crop_fraction}; it lies in (0, 1]")
