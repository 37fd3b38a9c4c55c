"""What FFmpeg can read, opened: a container, the video in it, its packets decoded, a frame upright.

Headers    Most containers say what is in them. FFmpeg would decode a few frames to be sure; `quick`
           takes their word, since whoever reads frames holds each against an index.
Picture    FFmpeg's plain conversion to RGB. Turns and mirrorings noted in the file are applied;
           pixels that are not square stay as stored.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from motionaware.data.video import (
    MAX_FRAME_PIXELS,
    REMEDY,
    VideoError,
    check_frame_size,
)

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"
AVI = "avi"
# A list of no codecs: nothing is decoded to learn what the headers say.
_TRUST_HEADERS = {"codec_whitelist": "none", "probesize": "32", "analyzeduration": "0"}
_WITH_TELLING_HEADERS = frozenset({MP4, MATROSKA, AVI})


def can_decode(codec: str) -> bool:
    """Tell whether this build of the decoders knows a codec, `h264` for example."""
    return codec in av.codecs_available


def opened_file(
    path: Path, *, quick: bool = False
) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
    """Open a file; quick, where its headers say what is in it."""
    # "file:" keeps a colon in the name from being read as a protocol.
    return opened(f"file:{path}", path, remedy=REMEDY, quick=quick)


@contextmanager
def opened(
    source: str | BinaryIO,
    path: Path,
    *,
    remedy: str,
    format: str | None = None,
    quick: bool = False,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open what FFmpeg can read: its container, and the video in it.

    Args:
        source: A place as FFmpeg names it, or an open file.
        path: What an error calls it.
        remedy: What an error says to do.
        format: As FFmpeg names it, where the source does not say itself.
        quick: Whether its headers are taken at their word, if it has such.

    Raises:
        VideoError: It does not open, or has no video that can be decoded.
    """
    container = _by_headers(source) if quick and isinstance(source, str) else None
    if container is None:
        try:
            container = av.open(source, "r", metadata_errors="ignore", format=format)
        except FFmpegError as error:
            raise VideoError(
                f"{path} does not open as a video: {error.strerror}; {remedy}"
            ) from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            raise VideoError(f"{path} has no video stream; found {kinds}; wanted a video")
        if stream.codec_context is None:
            raise VideoError(f"{path} is in a codec that has no decoder here; wanted h264, say")
        check_frame_size(path, height=stream.height, width=stream.width)
        # Loaders work in processes: threads inside each would only compete.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        # A size may change within a stream: the decoder refuses before it asks for memory.
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        yield container, stream


def _by_headers(source: str) -> InputContainer | None:
    with suppress(FFmpegError):  # the slow way says why
        container = av.open(source, "r", metadata_errors="ignore", options=_TRUST_HEADERS)
        if container.format.name in _WITH_TELLING_HEADERS and len(container.streams.video) == 1:
            return container
        container.close()
    return None


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode on from where the file stands."""
    for packet in container.demux(stream):
        yield from frames_of(packet)


def frames_of(packet: Packet) -> list[VideoFrame]:
    """Decode a packet; one that the file's end cuts may give no frame."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        if not packet.is_corrupt:
            raise
        return []


class Upright:
    """Converts frames to RGB and puts them upright, as the display matrix stored with them says.

    One for each file that is read: what it makes for the first frame serves the others.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "_ _ 3"]:
        """Convert a frame; the picture may be a window on the decoder's memory."""
        # Twice as fast as frame.to_ndarray(format="rgb24"), which starts threads for every frame.
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        shape, strides = (rgb.height, rgb.width, 3), (rgb.planes[0].line_size, 3, 1)
        picture = np.ndarray(shape, np.uint8, buffer=memoryview(rgb.planes[0]), strides=strides)
        a, b, c, d = _matrix(frame)
        if a == 0 and d == 0:
            picture, a, d = picture.swapaxes(0, 1), c, b
        return picture[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]


def size_of(frame: VideoFrame) -> tuple[int, int]:
    """Height and width of a frame put upright, in pixels."""
    a, _, _, d = _matrix(frame)
    return (frame.width, frame.height) if a == 0 and d == 0 else (frame.height, frame.width)


def _matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """A point (x, y) is shown at (a x + c y, b x + d y)."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(stored), dtype=np.int32)[:5].tolist()
    return a, b, c, d
