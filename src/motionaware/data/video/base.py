"""Defines `Video`, which every kind of video implements, and the limits on the size of its frames.

A frame is identified by its index in display order; the first frame has index 0.
"""

import logging
import math
import warnings
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
ANIMATION_SUFFIXES = frozenset({".apng", ".avif", ".webp"})  # readable, but not searched for
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})

# 4096 x 8192 (8K), and the largest side of AV1. A file that declares more is damaged or hostile.
MAX_FRAME_PIXELS = 2**25
MAX_SIDE_PIXELS = 2**14

SizeChange = Literal["scale", "refuse"]
"""Frames whose size differs from the first frame's: scale them to it, or raise VideoError."""

DAMAGED_FILE_HINT = "the file is likely damaged: fetch it again, re-encode it, or leave it out"


_log = logging.getLogger("motionaware.data.video")


@dataclass(frozen=True, kw_only=True, eq=False)
class Video(ABC):
    """The index of a video. It holds no open file, so it is cheap to pickle, cache and share.

    Attributes:
        path: The file, or the folder of frames.
        num_frames: Number of frames.
        height, width: Size of a displayed frame, in pixels.
        times_seconds: Presentation time of each frame; the first is 0. None for a folder of frames.
        notes: One line for each fact that was changed or ignored in what was read so far, for
            example a change of the frame size. Each line is also logged once as a warning by the
            logger `motionaware.data.video`.
    """

    path: Path
    num_frames: int
    height: int
    width: int
    times_seconds: Float64[np.ndarray, "n"] | None
    notes: list[str] = field(default_factory=list)

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "t 3 h w"]:
        """Return the frames with these indices, RGB in [0, 255], in the given order.

        Indices may repeat. In memory the channels come last (as `channels_last`), as decoders write
        them; crops and resizes are faster this way.

        Raises:
            IndexError: An index is not in `[0, num_frames)`.
            VideoError: A frame cannot be decoded or has another size than the video, or the memory
                does not suffice.
        """
        positions: dict[int, list[int]] = defaultdict(list)
        for position, index in enumerate(indices):
            if not 0 <= index < self.num_frames:
                raise IndexError(
                    f"frame {index} does not exist: {self.path} has {self.num_frames} frames; give "
                    f"an index from 0 to {self.num_frames - 1}"
                )
            positions[index].append(position)
        unique = sorted(positions)
        shape = (len(indices), self.height, self.width, 3)
        try:
            frames = np.empty(shape, dtype=np.uint8)
        except MemoryError as error:
            raise VideoError(
                f"{self.path}: {len(indices)} frames of {self.height} x {self.width} pixels need "
                f"{math.prod(shape) / 1e9:.1f} GB, more memory than is free; read fewer at once, "
                "or make them smaller: motionaware prepare index KIND --root ROOT "
                "--frames-to DIR --short-side 256"
            ) from error
        for index, frame in zip(unique, self._read_checked(unique), strict=True):
            for position in positions[index]:
                frames[position] = frame
        return rearrange(torch.from_numpy(frames), "t h w c -> t c h w")

    def iter_frames(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Yield all frames in display order, one at a time: RGB in [0, 255], height x width x 3.

        Raises:
            VideoError: A frame cannot be decoded or has another size than the video.
        """
        return self._read_checked(list(range(self.num_frames)))

    def pictures(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Deprecated name of `iter_frames`."""
        warnings.warn(
            "Video.pictures() was renamed: call Video.iter_frames()",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.iter_frames()

    def _read_checked(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        for index, frame in zip(indices, self._read(indices), strict=True):
            if frame.shape != (self.height, self.width, 3):
                raise VideoError(
                    f"{self._frame_name(index)} is {frame.shape[0]} pixels high, {frame.shape[1]} "
                    f"wide, but {self._frame_name(0)} is {self.height} high, {self.width} wide; "
                    "all frames of a video must have the same size: resize them, or leave the "
                    "video out"
                )
            yield frame

    def _frame_name(self, index: int) -> str:
        return f"{self.path}: frame {index} of {self.num_frames}"

    def _add_note(self, line: str) -> None:
        """Append a line to the notes and log it, unless the notes contain it already."""
        if line not in self.notes:
            self.notes.append(line)
            _log.warning(line)

    @abstractmethod
    def _read(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Yield the frames with these indices, which are ascending and unique."""


def exceeds_size_limit(height: int, width: int) -> bool:
    """True if a frame of this size, in pixels, is too large to be read."""
    return height * width > MAX_FRAME_PIXELS or max(height, width) > MAX_SIDE_PIXELS


def check_frame_size(path: Path, *, height: int, width: int) -> None:
    """Raise VideoError if a declared frame size exceeds the limit, before memory is allocated."""
    if exceeds_size_limit(height, width):
        raise VideoError(
            f"{path} has frames of {height} x {width} pixels; wanted at most {MAX_FRAME_PIXELS} "
            f"pixels a frame and {MAX_SIDE_PIXELS} a side: resize it"
        )
