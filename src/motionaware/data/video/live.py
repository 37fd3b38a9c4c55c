"""A file, a camera or a pipe -> its frames, one after the other, as they come.

Nothing is indexed and nothing read twice, so what is here can be a source without an end. Every
frame that the decoder gives is given on, with its number and its time.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from motionaware.data.video.base import REMEDY, SizeChange
from motionaware.data.video.container import FrameToRGB, decoded, opened, shape_of
from motionaware.data.video.file import check_whole
from motionaware.data.video.open import open_video
from motionaware.data.video.webp import is_webp
from motionaware.errors import VideoError

PIPE = "-"
_PIPE_REMEDY = (
    "pipe a container that can be read from its start: ffmpeg ... -f matroska -, or an mp4 written "
    "with -movflags +faststart"
)
_log = logging.getLogger("motionaware.data.video")  # as for videos that are opened
_CAMERA = re.compile(r"(?:/dev/video)?(\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveFrame:
    """One frame of a source.

    Attributes:
        number: Its place among all frames that were decoded, from 0.
        seconds: When it is shown, or was taken, the first frame at 0; None without a clock.
        num_lost: Frames that a camera's clock says should lie between it and the one before.
        picture: RGB in [0, 255].
    """

    number: int
    seconds: float | None
    num_lost: int
    picture: UInt8[Tensor, "3 H W"]


def is_camera(source: str | Path) -> bool:
    """Tell whether a source is a camera: its number, or its device file.

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
    """Give the frames of a source as they come.

    Args:
        source: A file, a folder of frames, a camera (`0`, `/dev/video0`), or `-`, which reads a
            video file from the standard input.
        square_pixels: As for `open_video`.
        size_change: Likewise.
        note: Called with one line for each thing that is changed or ignored, once; by default the
            line is logged.

    Raises:
        VideoError: It is none of these, or breaks off; a file that is cut short is said to be so
            after its last frame.
    """
    path = Path(source)
    if path.is_dir() or (path.is_file() and is_webp(path)):
        yield from _frames_of_images(source)  # as given: an empty name would be the current folder
        return
    camera = is_camera(source) and not path.is_file()
    number = 0

    def note_of_file(line: str) -> None:
        note(f"{source}: {line}")

    with _open(source) as (container, stream):
        try:
            first = before = to_picture = None
            for number, frame in enumerate(decoded(container, stream)):
                if to_picture is None:
                    shape = shape_of(
                        frame,
                        container,
                        stream,
                        path=path,
                        square_pixels=square_pixels,
                        note=note_of_file,
                    )
                    to_picture = FrameToRGB(shape, size_change=size_change, note=note_of_file)
                picture = to_picture(frame, name=f"{source}: frame {number}")
                seconds = frame.time
                if seconds is None and stream.average_rate:
                    seconds = number / float(stream.average_rate)
                first = seconds if first is None else first
                num_lost = _num_lost(before, seconds, stream) if camera else 0
                before = seconds
                yield LiveFrame(
                    number=number,
                    seconds=None if seconds is None or first is None else seconds - first,
                    num_lost=num_lost,
                    picture=rearrange(torch.tensor(picture.copy()), "h w c -> c h w"),
                )
                number += 1
            if path.is_file():
                check_whole(path, container, stream)
        except FFmpegError as error:
            raise VideoError(
                f"{source}: frame {number} does not decode: {error.strerror}; "
                f"{_PIPE_REMEDY if str(source) == PIPE else REMEDY}"
            ) from error
    if number == 0:
        raise VideoError(f"{source} has a video stream, but no frame came; {REMEDY}")


def _frames_of_images(path: str | Path) -> Iterator[LiveFrame]:
    """The frames of a folder or of an animation, which are no stream of FFmpeg."""
    video = open_video(path)
    times = video.times_seconds
    for number, picture in enumerate(video.pictures()):
        yield LiveFrame(
            number=number,
            seconds=None if times is None else float(times[number]),
            num_lost=0,
            picture=rearrange(torch.tensor(picture.copy()), "h w c -> c h w"),
        )


def _open(source: str | Path) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
    path = Path(source)
    if str(source) == PIPE:
        return opened(sys.stdin.buffer, Path("the standard input"), remedy=_PIPE_REMEDY)
    match = _CAMERA.fullmatch(str(source))
    if match and not path.is_file():
        if sys.platform != "linux":
            raise VideoError(
                f"camera {source} can be read on Linux only, this is {sys.platform}; pipe it: "
                "ffmpeg ... -f matroska - | motionaware stream CHECKPOINT -"
            )
        device = f"/dev/video{match[1]}"
        remedy = "check that it is plugged in and that you may read it: ls -l /dev/video*"
        return opened(device, Path(device), remedy=remedy, format="video4linux2,v4l2")
    if not path.exists():
        raise VideoError(
            f"{source} does not exist; wanted a video file, a folder of frames, a camera such as 0 "
            f"or /dev/video0, or {PIPE} for the standard input"
        )
    return opened(f"file:{path}", path, remedy=REMEDY)


def _num_lost(before: float | None, now: float | None, stream: VideoStream) -> int:
    """Frames missing between two times, at the rate that the source gives."""
    if before is None or now is None or not stream.average_rate:
        return 0
    return max(0, round((now - before) * float(stream.average_rate)) - 1)
