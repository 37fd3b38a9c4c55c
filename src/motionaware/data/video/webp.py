"""Reads WebP images as videos: one frame for each displayed, composited frame of an animation.

Pillow decodes them, because FFmpeg 8.1 has no decoder for animated WebP. A still WebP is a video of
one frame. Transparency is dropped: a pixel keeps its stored colour, as in frames that FFmpeg
decodes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from motionaware.data.video.base import DAMAGED_FILE_HINT, Video, check_frame_size
from motionaware.data.video.frame_folder import IMAGE_ERRORS
from motionaware.errors import VideoError

# Frame durations below _MIN_DURATION_MS are replaced, as FFmpeg and browsers do for GIF.
_MIN_DURATION_MS, _DEFAULT_DURATION_MS = 20, 100

_HEADER_BYTES = 21  # of a WebP file, up to its flags


def is_webp(path: Path) -> bool:
    """True if the first bytes of a file are those of a WebP image, animated or still."""
    header = _read_header(path)
    return header[:4] == b"RIFF" and header[8:12] == b"WEBP"


def is_animated_webp(path: Path) -> bool:
    """True if a file is named `.webp` and its header announces an animation."""
    if path.suffix.lower() != ".webp":
        return False
    header = _read_header(path)
    return is_webp(path) and header[12:16] == b"VP8X" and bool(header[20] & 2)


def _read_header(path: Path) -> bytes:
    """Return the first bytes of a file, zero-padded; zeros if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES).ljust(_HEADER_BYTES, b"\0")
    except OSError:
        return bytes(_HEADER_BYTES)


@dataclass(frozen=True, kw_only=True, eq=False)
class _WebPVideo(Video):
    def _read(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        with _open_image(self.path) as image:
            for index in indices:
                image.seek(index)
                yield np.asarray(image.convert("RGB"))


def open_webp(path: Path) -> Video:
    """Open a WebP file and decode every frame once, for its duration.

    Raises:
        VideoError: The file cannot be read, or is truncated.
    """
    _check_not_truncated(path)
    durations_ms = []
    with _open_image(path) as image:
        check_frame_size(path, height=image.height, width=image.width)
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            duration = int(image.info.get("duration", 0))
            durations_ms.append(duration if duration >= _MIN_DURATION_MS else _DEFAULT_DURATION_MS)
        return _WebPVideo(
            path=path,
            num_frames=len(durations_ms),
            height=image.height,
            width=image.width,
            times_seconds=np.cumsum([0, *durations_ms[:-1]]) / 1000,
        )


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            yield image
    except VideoError:
        raise
    except (*IMAGE_ERRORS, EOFError) as error:
        raise VideoError(
            f"{path} cannot be read as a WebP image ({error}); {DAMAGED_FILE_HINT}"
        ) from error


def _check_not_truncated(path: Path) -> None:
    """Raise VideoError if the file is shorter than its RIFF header announces."""
    with path.open("rb") as file:
        announced = int.from_bytes(file.read(8)[4:], "little") + 8
    present = path.stat().st_size
    if present < announced:
        raise VideoError(
            f"{path} is cut short: {present} of the {announced} bytes it announces are there; "
            "fetch it again, or leave it out"
        )
