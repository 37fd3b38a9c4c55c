"""Reads the frames of a file, a camera or a pipe one after the other, without an index.

The source is read once, from its start, so that it may be endless. Every frame that the decoder
outputs is yielded, with its number and its time.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from motionaware.data.video.base import DAMAGED_FILE_HINT, SizeChange
from motionaware.data.video.container import check_not_truncated, decode_stream, open_source
from motionaware.data.video.frame_to_rgb import FrameToRGB, frame_geometry
from motionaware.data.video.open import open_video
from motionaware.data.video.webp import is_webp
from motionaware.errors import VideoError

STDIN = "-"
_STDIN_HINT = (
    "pipe a container that can be read from its start: ffmpeg ... -f matroska -, or an mp4 written "
    "with -movflags +faststart"
)
_log = logging.getLogger("motionaware.data.video")  # the logger of `Video.notes`
_CAMERA = re.compile(r"(?:/dev/video)?(\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveFrame:
    """One frame of a live source.

    Attributes:
        number: Number of frames decoded before it.
        seconds: Presentation or capture time; the first frame has 0. None without timestamps.
        num_lost: Frames missing before this one, by the clock of a camera.
        image: RGB in [0, 255].
    """

    number: int
    seconds: float | None
    num_lost: int
    image: UInt8[Tensor, "3 H W"]


def is_camera(source: str | Path) -> bool:
    """True if a source is the number or the device file of a camera.

    >>> is_camera("0"), is_camera("/dev/video1"), is_camera("cat.mp4")
    (True, True, False)
    """
    return _CAMERA.fullmatch(str(source)) is not None


def live_frames(
    source: str | Path,
    *,
    square_pixels: bool = True,
    size_change: SizeChange = "scale",
    note: Callable[[str], None] = _log.warning,
) -> Iterator[LiveFrame]:
    """Yield the frames of a source as they arrive.

    Args:
        source: A file, a folder of frames, a camera (`0`, `/dev/video0`), or `-`, which reads a
            video from standard input.
        square_pixels: As for `open_video`.
        size_change: As for `open_video`.
        note: Receives one line for each fact that is changed or ignored; logs it by default.

    Raises:
        VideoError: The source cannot be opened or decoded. A truncated file raises it after its
            last frame.
    """
    path = Path(source)
    if path.is_dir() or (path.is_file() and is_webp(path)):
        yield from _frames_of_images(source)  # not `path`: Path("") is the current folder
        return
    from_camera = is_camera(source) and not path.is_file()
    number = 0

    def note_with_source(line: str) -> None:
        note(f"{source}: {line}")

    with _open(source) as (container, stream):
        try:
            first_seconds = previous_seconds = to_rgb = None
            for number, frame in enumerate(decode_stream(container, stream)):
                if to_rgb is None:
                    geometry = frame_geometry(
                        frame,
                        container,
                        stream,
                        path=path,
                        square_pixels=square_pixels,
                        note=note_with_source,
                    )
                    to_rgb = FrameToRGB(geometry, size_change=size_change, note=note_with_source)
                rgb = to_rgb(frame, name=f"{source}: frame {number}")
                seconds = frame.time
                if seconds is None and stream.average_rate:
                    seconds = number / float(stream.average_rate)
                first_seconds = seconds if first_seconds is None else first_seconds
                num_lost = _num_lost(previous_seconds, seconds, stream) if from_camera else 0
                previous_seconds = seconds
                yield LiveFrame(
                    number=number,
                    seconds=None
                    if seconds is None or first_seconds is None
                    else seconds - first_seconds,
                    num_lost=num_lost,
                    image=_to_tensor(rgb),
                )
                number += 1
            if path.is_file():
                check_not_truncated(path, container, stream)
        except FFmpegError as error:
            raise VideoError(
                f"{source}: frame {number} does not decode: {error.strerror}; "
                f"{_STDIN_HINT if str(source) == STDIN else DAMAGED_FILE_HINT}"
            ) from error
    if number == 0:
        raise VideoError(f"{source} has a video stream, but no frame in it; {DAMAGED_FILE_HINT}")


def _frames_of_images(path: str | Path) -> Iterator[LiveFrame]:
    """Yield the frames of a folder or a WebP animation, which FFmpeg does not decode."""
    video = open_video(path)
    times = video.times_seconds
    for number, rgb in enumerate(video.iter_frames()):
        yield LiveFrame(
            number=number,
            seconds=None if times is None else float(times[number]),
            num_lost=0,
            image=_to_tensor(rgb),
        )


def _to_tensor(rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    # A copy: the array may be a view of the decoder's memory, which the next frame overwrites.
    return rearrange(torch.tensor(rgb.copy()), "h w c -> c h w")


def _open(source: str | Path) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
    path = Path(source)
    if str(source) == STDIN:
        return open_source(sys.stdin.buffer, Path("the standard input"), remedy=_STDIN_HINT)
    match = _CAMERA.fullmatch(str(source))
    if match and not path.is_file():
        if sys.platform != "linux":
            raise VideoError(
                f"camera {source} can be read on Linux only, this is {sys.platform}; pipe it: "
                "ffmpeg ... -f matroska - | motionaware stream CHECKPOINT -"
            )
        device = f"/dev/video{match[1]}"
        remedy = "check that it is plugged in and that you may read it: ls -l /dev/video*"
        return open_source(device, Path(device), remedy=remedy, format="video4linux2,v4l2")
    if not path.exists():
        raise VideoError(
            f"{source} does not exist; wanted a video file, a folder of frames, a camera such as 0 "
            f"or /dev/video0, or {STDIN} for the standard input"
        )
    return open_source(f"file:{path}", path, remedy=DAMAGED_FILE_HINT)


def _num_lost(previous: float | None, seconds: float | None, stream: VideoStream) -> int:
    """Return the number of frames missing between two times at the average frame rate."""
    if previous is None or seconds is None or not stream.average_rate:
        return 0
    return max(0, round((seconds - previous) * float(stream.average_rate)) - 1)
