"""Reads WebP images as videos: each frame of an animation as it is shown, composited by Pillow.

FFmpeg 8.1 has no decoder for animated WebP. All WebP files are read here, still ones too, as videos
of one frame. Transparency is dropped: a pixel has its stored colour, as in frames that FFmpeg
decodes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from motionaware.data.video.base import REMEDY, Video, check_frame_size
from motionaware.data.video.frame_folder import IMAGE_ERRORS
from motionaware.errors import VideoError

# As FFmpeg and browsers show GIF: frames said to last shorter than the first last the second.
_SHORTEST_MS, _USUAL_MS = 20, 100

_HEAD_BYTES = 21  # up to the flags of a WebP file


def is_webp(path: Path) -> bool:
    """True if the first bytes of a file are those of a WebP image, animated or not."""
    head = _head(path)
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def is_animated_webp(path: Path) -> bool:
    """True if a file is named `.webp` and its header announces an animation."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _WebP(Video):
    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        with _opened(self.path) as image:
            for index in wanted:
                image.seek(index)
                yield np.asarray(image.convert("RGB"))


def open_webp(path: Path) -> Video:
    """Open a WebP file; every frame is decoded once, for its time.

    Raises:
        VideoError: It cannot be read, or is cut short.
    """
    _check_whole(path)
    durations = []
    with _opened(path) as image:
        check_frame_size(path, height=image.height, width=image.width)
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            duration = int(image.info.get("duration", 0))
            durations.append(duration if duration >= _SHORTEST_MS else _USUAL_MS)
        return _WebP(
            path=path,
            num_frames=len(durations),
            height=image.height,
            width=image.width,
            times_seconds=np.cumsum([0, *durations[:-1]]) / 1000,
        )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            yield image
    except VideoError:
        raise
    except (*IMAGE_ERRORS, EOFError) as error:
        raise VideoError(f"{path} cannot be read as a WebP image ({error}); {REMEDY}") from error


def _check_whole(path: Path) -> None:
    """Compare the size that the head announces with the file's."""
    with path.open("rb") as file:
        announced = int.from_bytes(file.read(8)[4:], "little") + 8
    present = path.stat().st_size
    if present < announced:
        raise VideoError(
            f"{path} is cut short: {present} of the {announced} bytes it announces are there; "
            "fetch it again, or leave it out"
        )
