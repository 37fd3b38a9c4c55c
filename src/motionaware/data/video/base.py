"""What a video is, the limits on its frames, and the error that names a video.

A frame has one number: its position in display order, 0 for the first.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float64, UInt8
from torch import Tensor

from motionaware.errors import VideoError

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
ANIMATION_SUFFIXES = frozenset({".apng", ".avif", ".webp"})  # read, but not looked for in folders
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})

# 4096 x 8192, 8K, and no longer than AV1 allows; beyond it a file is taken to be broken or hostile.
MAX_FRAME_PIXELS = 2**25
MAX_SIDE_PIXELS = 2**14

# What is done with frames of another size than the first: scale them to it, or raise VideoError.
SizeChange = Literal["scale", "refuse"]

REMEDY = "the file is likely damaged: fetch it again, re-encode it, or leave it out"


_log = logging.getLogger("motionaware.data.video")


@dataclass(frozen=True, kw_only=True, eq=False)
class Video(ABC):
    """What is known of a video. It keeps no file open: cheap to pickle, to cache, to share.

    `height` and `width` are in pixels, as shown. `times_seconds` says when each frame is shown, the
    first at 0; None for a folder of frames, which has no clock. `notes` says in one line each what
    was changed or ignored in what has been read so far, for example that frames change their size;
    each line is also logged once as a warning, by the logger `motionaware.data.video`.
    """

    path: Path
    num_frames: int
    height: int
    width: int
    times_seconds: Float64[np.ndarray, "n"] | None
    notes: list[str] = field(default_factory=list)

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "t 3 h w"]:
        """Read frames, RGB in [0, 255], in the order of `indices`, which may repeat.

        In memory channels come last, as decoders write them: a crop or a resize is faster so.

        Raises:
            IndexError: an index is not in `[0, num_frames)`.
            VideoError: a frame cannot be read, or is not of the video's size, or there is no memory
                for so many of that size.
        """
        places: dict[int, list[int]] = defaultdict(list)
        for place, index in enumerate(indices):
            if not 0 <= index < self.num_frames:
                raise IndexError(
                    f"frame {index} was asked of {self.path}, which has {self.num_frames} frames: "
                    f"wanted 0 to {self.num_frames - 1}"
                )
            places[index].append(place)
        wanted = sorted(places)
        shape = (len(indices), self.height, self.width, 3)
        try:
            pictures = np.empty(shape, dtype=np.uint8)
        except MemoryError as error:
            raise VideoError(
                f"{self.path}: {len(indices)} frames of {self.height} x {self.width} pixels need "
                f"{math.prod(shape) / 1e9:.1f} GB, more than there is; ask for fewer, or make them "
                "smaller: motionaware prepare index KIND --root ROOT --frames-to DIR "
                "--short-side 256"
            ) from error
        for index, picture in zip(wanted, self._checked(wanted), strict=True):
            for place in places[index]:
                pictures[place] = picture
        return rearrange(torch.from_numpy(pictures), "t h w c -> t c h w")

    def pictures(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Read all frames in order, one at a time: RGB in [0, 255], height x width x 3.

        Raises:
            VideoError: a frame cannot be read, or is not of the video's size.
        """
        return self._checked(list(range(self.num_frames)))

    def _checked(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        for index, picture in zip(wanted, self._pictures(wanted), strict=True):
            if picture.shape != (self.height, self.width, 3):
                raise VideoError(
                    f"{self._name(index)} is {picture.shape[0]} pixels high, {picture.shape[1]} "
                    f"wide, but {self._name(0)} is {self.height} high, {self.width} wide; a video "
                    "has one size: resize its frames, or leave it out"
                )
            yield picture

    def _name(self, index: int) -> str:
        return f"{self.path}: frame {index} of {self.num_frames}"

    def _note(self, line: str) -> None:
        """Add a line to the notes, and log it, unless it is there already."""
        if line not in self.notes:
            self.notes.append(line)
            _log.warning(line)

    @abstractmethod
    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Yield the frames numbered `wanted`: ascending, none twice."""


def is_too_large(height: int, width: int) -> bool:
    """True if frames of this size, in pixels, are not read."""
    return height * width > MAX_FRAME_PIXELS or max(height, width) > MAX_SIDE_PIXELS


def check_frame_size(path: Path, *, height: int, width: int) -> None:
    """Refuse frames that are too large to be true, before memory is asked for."""
    if is_too_large(height, width):
        raise VideoError(
            f"{path} has frames of {height} x {width} pixels; wanted at most {MAX_FRAME_PIXELS} "
            f"pixels a frame and {MAX_SIDE_PIXELS} a side: resize it"
        )
