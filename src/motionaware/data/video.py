"""A video, file or folder of frames -> the frames asked for.

A frame has one number: its place in the order of showing, 0 for the first. `open_video` finds how
many there are, `Video.frames` reads some. Files are the matter of video_file.py; a folder of images
is read here.
"""

import logging
import math
import re
import shlex
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
from PIL import Image
from torch import Tensor

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


_HEAD_BYTES = 21  # up to the flags of a WebP file
_log = logging.getLogger(__name__)


class VideoError(ValueError):
    """One video cannot be read or written: which, what was found, what was wanted, what to do."""


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
                "smaller: motionaware prepare KIND --root ROOT --frames-to DIR --short-side 256"
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


def open_video(
    path: str | Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Open a video file, or a folder of images named in the order of showing (2 comes before 10).

    A folder is one video if it holds images and no video file. Two numbered images or more may have
    other files beside them; a single image may not, since it is often a thumbnail.

    Args:
        path: The file or folder.
        square_pixels: Whether the width is scaled where a file says that its pixels are not square
            (DV, DVD, HDV), so that a circle is a circle. Images of a folder stay as stored.
        size_change: What becomes of frames of another size than the first. `scale` stretches them
            to the size of the first, as the ffmpeg command does, and adds a note; `refuse` raises
            VideoError when one is read. Images of a folder must always have one size.

    Raises:
        VideoError: nothing is there, or it is no video, or it has no frame that can be read, or it
            is cut short.
    """
    if str(path) == "":
        raise VideoError("the path of the video is empty; give a video file or a folder of frames")
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise VideoError(f"{path} does not exist; wanted a video file or a folder of frames")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is an empty file, wanted a video; fetch it again")
    if is_webp(path):
        from motionaware.data.video_webp import open_webp

        return open_webp(path)
    from motionaware.data.video_file import open_video_file  # loads FFmpeg

    return open_video_file(path, square_pixels=square_pixels, size_change=size_change)


def is_webp(path: Path) -> bool:
    """True if the content of a file begins as that of a WebP image, animated or not."""
    head = _head(path)
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def is_animated_webp(path: Path) -> bool:
    """True if a file is named `.webp` and its head announces an animation."""
    if path.suffix.lower() != ".webp":
        return False
    return is_webp(path) and _head(path)[12:16] == b"VP8X" and bool(_head(path)[20] & 2)


def _head(path: Path) -> bytes:
    """The first bytes of a file, padded; zeros if it cannot be read, which opening it reports."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")
    except OSError:
        return bytes(_HEAD_BYTES)


def is_frame_folder(path: str | Path) -> bool:
    """Return whether `path` is a folder that directly holds an image.

    It may still be refused when it is opened: see `open_video`.
    """
    return Path(path).is_dir() and any(map(_is_image, Path(path).iterdir()))


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


# --------------------------------------------------------------------------- folders of frames


@dataclass(frozen=True, kw_only=True, eq=False)
class _FrameFolder(Video):
    names: tuple[str, ...]

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        return (_read_image(self.path / self.names[index]) for index in wanted)

    def _name(self, index: int) -> str:
        return str(self.path / self.names[index])


def _open_folder(path: Path) -> Video:
    names = frame_names(path)
    _check_is_one_video(path, names)
    series = sorted({re.sub("[0-9]+", "*", name.lower()) for name in names})
    if len(series) > 1:
        raise VideoError(
            f"{path} holds {len(names)} images of {len(series)} series, {', '.join(series[:4])}; "
            "wanted the frames of one video, whose names differ in their numbers only, and nothing "
            "else: move the others to another folder"
        )
    height, width, _ = _read_image(path / names[0]).shape
    return _FrameFolder(
        path=path,
        num_frames=len(names),
        height=height,
        width=width,
        times_seconds=None,
        names=tuple(names),
    )


def _check_is_one_video(path: Path, names: list[str]) -> None:
    """Refuse a folder that holds videos, no image, or one image among other things.

    Two images or more may have other files beside them: some data sets put a text file there.

    Raises:
        VideoError: It says what the folder holds and what to give instead.
    """
    others = [one for one in path.iterdir() if not one.name.startswith(".") and not _is_image(one)]
    videos = [one for one in others if one.suffix.lower() in VIDEO_SUFFIXES and one.is_file()]
    folders = [one.name for one in others if one.is_dir()]
    wanted = "wanted one video: a file, or a folder of its frames and nothing else"
    if videos:
        every = " ".join(
            f"{shlex.quote(str(path))}/*{suffix}"
            for suffix in sorted({one.suffix for one in videos})
        )
        number = f"{len(videos)} videos" if len(videos) > 1 else "1 video"
        images = f" and {len(names)} image{'s' * (len(names) > 1)}" if names else ""
        raise VideoError(f"{path} is a folder of {number}{images}, wanted one video; give {every}")
    if not names:
        inside = f"; it holds the folders {', '.join(sorted(folders)[:4])}" if folders else ""
        raise VideoError(
            f"{path} is a folder without images{inside}; wanted frames in it, "
            f"named *{', *'.join(sorted(IMAGE_SUFFIXES))}"
        )
    numbered = all(re.search("[0-9]", name) for name in names)
    nested = any(map(_holds_videos, (path / name for name in folders)))
    if others and (len(names) == 1 or nested or (folders and not numbered)):
        held = ", ".join(sorted(one.name for one in others)[:4])
        raise VideoError(
            f"{path} holds {len(names)} image{'s' * (len(names) > 1)} ({', '.join(names[:2])}) and "
            f"other things ({held}); {wanted}"
        )


def _holds_videos(folder: Path) -> bool:
    """Whether a video file lies in a folder, or in one of its folders."""
    found = (one for pattern in ("*", "*/*") for one in folder.glob(pattern))
    return any(one.suffix.lower() in VIDEO_SUFFIXES for one in found)


def frame_names(folder: Path) -> list[str]:
    """The names of the images directly in a folder, in the order of showing."""
    return sorted((image.name for image in folder.iterdir() if _is_image(image)), key=_natural)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _natural(name: str) -> tuple[list[str | int], str]:
    """Order numbers in names by value: frame2, frame10; the name itself parts 1 from 01."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


_ANIMATED = ("PNG", "WEBP")  # not MPO, which cameras write: one photo and its variants

# What PIL says of declared sizes beyond its own limits: ours are lower, and are told in our words.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
IMAGE_ERRORS = (OSError, ValueError, SyntaxError, *_BOMBS)  # what PIL raises of a bad image


def _read_image(path: Path) -> UInt8[np.ndarray, "_ _ 3"]:
    try:
        with Image.open(path) as image:
            check_frame_size(path, height=image.height, width=image.width)
            num_frames = getattr(image, "n_frames", 1)
            if image.format in _ANIMATED and num_frames > 1:
                raise VideoError(
                    f"{path} is an animation of {num_frames} frames, wanted one image of a "
                    "folder of frames; give the animation itself as a video"
                )
            return np.asarray(image.convert("RGB"))
    except VideoError:
        raise
    except IMAGE_ERRORS as error:
        raise VideoError(f"{path} cannot be read as an image ({error}); {REMEDY}") from error
