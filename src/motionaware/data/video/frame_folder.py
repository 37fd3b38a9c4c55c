"""Opens folders of images as videos: each image is one frame."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from motionaware.data.video.base import (
    DAMAGED_FILE_HINT,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Video,
    check_frame_size,
)
from motionaware.errors import VideoError
from motionaware.messages import count


def is_frame_folder(path: str | Path) -> bool:
    """True if `path` is a folder that directly contains an image.

    `open_video` may still refuse it, for example because it contains other things too.
    """
    return Path(path).is_dir() and any(map(_is_image, Path(path).iterdir()))


@dataclass(frozen=True, kw_only=True, eq=False)
class _FrameFolder(Video):
    names: tuple[str, ...]

    def _read(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        return (_read_image(self.path / self.names[index]) for index in indices)

    def _frame_name(self, index: int) -> str:
        return str(self.path / self.names[index])


def open_frame_folder(path: Path) -> Video:
    """Open a folder of images as one video.

    Raises:
        VideoError: The folder contains no image, images of several series, or unrelated files.
    """
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
    """Refuse a folder that contains videos, no image, or one image among other things.

    A folder of two images or more may contain other files: some data sets put a text file there.

    Raises:
        VideoError: The message lists what the folder contains and what to give instead.
    """
    others = [
        entry for entry in path.iterdir() if not entry.name.startswith(".") and not _is_image(entry)
    ]
    videos = [
        entry for entry in others if entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file()
    ]
    folders = [entry.name for entry in others if entry.is_dir()]
    if videos:
        patterns = " ".join(
            f"{shlex.quote(str(path))}/*{suffix}"
            for suffix in sorted({video.suffix for video in videos})
        )
        images = f" and {count(len(names), 'image')}" if names else ""
        raise VideoError(
            f"{path} is a folder of {count(len(videos), 'video')}{images}, wanted one video; give "
            f"{patterns}"
        )
    if not names:
        found = f"; it holds the folders {', '.join(sorted(folders)[:4])}" if folders else ""
        raise VideoError(
            f"{path} is a folder without images{found}; wanted frames in it, "
            f"named *{', *'.join(sorted(IMAGE_SUFFIXES))}"
        )
    all_numbered = all(re.search("[0-9]", name) for name in names)
    nested_videos = any(map(_contains_video, (path / name for name in folders)))
    if others and (len(names) == 1 or nested_videos or (folders and not all_numbered)):
        other_names = ", ".join(sorted(entry.name for entry in others)[:4])
        raise VideoError(
            f"{path} holds {count(len(names), 'image')} ({', '.join(names[:2])}) and other things "
            f"({other_names}); wanted one video: a file, or a folder of its frames and nothing else"
        )


def _contains_video(folder: Path) -> bool:
    """True if a folder, or one of its direct subfolders, contains a video file."""
    entries = (entry for pattern in ("*", "*/*") for entry in folder.glob(pattern))
    return any(entry.suffix.lower() in VIDEO_SUFFIXES for entry in entries)


def frame_names(folder: Path) -> list[str]:
    """Return the names of the images directly in a folder, in display order."""
    return sorted(
        (image.name for image in folder.iterdir() if _is_image(image)), key=_natural_sort_key
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _natural_sort_key(name: str) -> tuple[list[str | int], str]:
    """Sort numbers by value (frame2 before frame10); the name itself distinguishes 1 from 01."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


_ANIMATED_FORMATS = ("PNG", "WEBP")  # not MPO, the format of cameras: one photo and its variants

# Pillow has its own limits for declared sizes; ours are lower, so check_frame_size raises first.
_SIZE_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
IMAGE_ERRORS = (OSError, ValueError, SyntaxError, *_SIZE_ERRORS)
"""What Pillow raises for an image that it cannot read."""


def _read_image(path: Path) -> UInt8[np.ndarray, "_ _ 3"]:
    try:
        with Image.open(path) as image:
            check_frame_size(path, height=image.height, width=image.width)
            num_frames = getattr(image, "n_frames", 1)
            if image.format in _ANIMATED_FORMATS and num_frames > 1:
                raise VideoError(
                    f"{path} is an animation of {num_frames} frames, wanted one image of a "
                    "folder of frames; give the animation itself as a video"
                )
            return np.asarray(image.convert("RGB"))
    except VideoError:
        raise
    except IMAGE_ERRORS as error:
        raise VideoError(
            f"{path} cannot be read as an image ({error}); {DAMAGED_FILE_HINT}"
        ) from error
