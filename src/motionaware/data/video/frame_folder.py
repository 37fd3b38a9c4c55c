"""Videos that are folders of images, one image a frame."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from motionaware.data.video.base import (
    IMAGE_SUFFIXES,
    REMEDY,
    VIDEO_SUFFIXES,
    Video,
    check_frame_size,
)
from motionaware.errors import VideoError


def is_frame_folder(path: str | Path) -> bool:
    """Return whether `path` is a folder that directly holds an image.

    It may still be refused when it is opened: see `open_video`.
    """
    return Path(path).is_dir() and any(map(_is_image, Path(path).iterdir()))


@dataclass(frozen=True, kw_only=True, eq=False)
class _FrameFolder(Video):
    names: tuple[str, ...]

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        return (_read_image(self.path / self.names[index]) for index in wanted)

    def _name(self, index: int) -> str:
        return str(self.path / self.names[index])


def open_frame_folder(path: Path) -> Video:
    """Open a folder of images as one video.

    Raises:
        VideoError: The folder holds no image, or images of several series, or other things.
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
