"""Opens what FFmpeg can read, decodes its packets, and converts frames to the pictures shown.

Headers    Most containers say what is in them. FFmpeg would decode a few frames to be sure; `quick`
           skips this, because the frames that are read later are verified against an index.
Picture    FFmpeg's plain conversion to RGB, then what players do: the cropping, rotation and
           mirroring noted in the file are applied, pixels that are not square are made square, and
           frames of another size than the first are scaled to it. All scaling is one pass with the
           conversion (swscale, bilinear).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
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

from motionaware.data.video.base import (
    MAX_FRAME_PIXELS,
    REMEDY,
    SizeChange,
    check_frame_size,
    is_too_large,
)
from motionaware.data.video.cropping import Margins, matroska_margins, mp4_margins
from motionaware.errors import VideoError

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"
AVI = "avi"
# A list of no codecs: nothing is decoded to learn what the headers say.
_TRUST_HEADERS = {"codec_whitelist": "none", "probesize": "32", "analyzeduration": "0"}
_WITH_TELLING_HEADERS = frozenset({MP4, MATROSKA, AVI})
_WEBP_FORMATS = frozenset({"webp_pipe", "webp"})

_MAX_ASPECT_RATIO = 10  # of a pixel; what is stored beyond it, either way, is taken for an error
_SQUARE_ENOUGH = Fraction(1, 100)  # a pixel that differs less from a square is not resampled


def can_decode(codec: str) -> bool:
    """Tell whether this build of the decoders knows a codec, `h264` for example."""
    return codec in av.codecs_available


def opened_file(
    path: Path, *, trust_headers: bool = False
) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
    """Open a file; do not probe it where its headers describe its streams."""
    # "file:" keeps a colon in the name from being read as a protocol.
    return opened(f"file:{path}", path, remedy=REMEDY, trust_headers=trust_headers)


@contextmanager
def opened(
    source: str | BinaryIO,
    path: Path,
    *,
    remedy: str,
    format: str | None = None,
    trust_headers: bool = False,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open what FFmpeg can read: its container, and the video in it.

    Args:
        source: A place as FFmpeg names it, or an open file.
        path: What an error calls it.
        remedy: What an error says to do.
        format: As FFmpeg names it, where the source does not say itself.
        trust_headers: Do not probe the streams; use the header fields as they are.

    Raises:
        VideoError: It does not open, or has no video that can be decoded.
    """
    container = _by_headers(source) if trust_headers and isinstance(source, str) else None
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
        if container.format.name in _WEBP_FORMATS:
            raise VideoError(
                f"{path} is a WebP image, which can be read from a file only; give its path"
            )
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


@dataclass(frozen=True)
class Shape:
    """How the first frame of a file is shown; all its frames get this size.

    Attributes:
        height, width: Of a picture as shown, in pixels.
        stored: Height and width of the first frame after cropping and rotation, before its pixels
            are made square.
        margins: What is cropped from each stored frame, before rotation.
    """

    height: int
    width: int
    stored: tuple[int, int]
    margins: Margins


def shape_of(
    frame: VideoFrame,
    container: InputContainer,
    stream: VideoStream,
    *,
    path: Path,
    square_pixels: bool,
    note: Callable[[str], None],
) -> Shape:
    """Decide the size of all pictures of a file from its first frame.

    Args:
        frame: The first frame of `stream`.
        container: Where it comes from.
        stream: Likewise.
        path: Of the file.
        square_pixels: Whether the width is scaled by the sample aspect ratio.
        note: Called with one line, without the name of the file, for each fact that is ignored.

    Raises:
        VideoError: The frame is larger than is read.
    """
    check_frame_size(path, height=frame.height, width=frame.width)
    margins = _margins_of(path, container, stream)
    height, width = _cropped_size(frame, margins)
    ratio = _aspect_ratio(stream, height, width, note=note) if square_pixels else Fraction(1)
    shown_width = max(1, round(width * ratio))
    if _is_turned(frame):
        return Shape(shown_width, height, (width, height), margins)
    return Shape(height, shown_width, (height, width), margins)


def _margins_of(path: Path, container: InputContainer, stream: VideoStream) -> Margins:
    if container.format.name == MATROSKA:
        return matroska_margins(path, place=container.streams.video.index(stream))
    if container.format.name == MP4:
        return mp4_margins(path, track_id=stream.id, height=stream.height, width=stream.width)
    return Margins()


def _aspect_ratio(
    stream: VideoStream, height: int, width: int, *, note: Callable[[str], None]
) -> Fraction:
    """Width of a pixel over its height. As in players, the container goes before the codec."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not ratio or ratio < 0 or abs(ratio - 1) <= _SQUARE_ENOUGH:
        return Fraction(1)
    if max(ratio, 1 / ratio) > _MAX_ASPECT_RATIO or is_too_large(height, round(width * ratio)):
        note(f"its pixels are said to be {ratio} times as wide as high; they are taken as square")
        return Fraction(1)
    return ratio


class FrameToRGB:
    """Converts frames to RGB pictures as they are shown: cropped, upright, all of one size.

    Make one for each reading of a file: its conversion is set up once and used for all frames.

    Args:
        shape: What the first frame of the file says.
        size_change: What is done with frames that are stored in another size; see `open_video`.
        note: Called with one line, without the name of the file, when the first is scaled.
    """

    def __init__(
        self, shape: Shape, *, size_change: SizeChange, note: Callable[[str], None]
    ) -> None:
        self.shape, self.size_change, self.note = shape, size_change, note
        self._noted = False
        self._reformatter, self._scaler = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: VideoFrame, *, name: str) -> UInt8[np.ndarray, "_ _ 3"]:
        """Convert a frame; the picture may be a window on the decoder's memory.

        Args:
            frame: As decoded.
            name: What an error calls it.

        Raises:
            VideoError: It is stored in another size than the first, and that is refused.
        """
        if self._stored_size(frame) != self.shape.stored:
            self._meet_other_size(frame, name)
        height, width, margins = self.shape.height, self.shape.width, self.shape.margins
        a, b, c, d = _matrix(frame)
        turned = a == 0 and d == 0
        if turned:
            height, width = width, height
        if margins and _fits(frame, margins):
            picture = _rgb(frame, self._reformatter)
            below, behind = frame.height - margins.bottom, frame.width - margins.right
            picture = picture[margins.top : below, margins.left : behind]
            if picture.shape[:2] != (height, width):
                cropped = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                picture = _rgb(cropped, self._scaler, height=height, width=width)
        else:
            picture = _rgb(frame, self._reformatter, height=height, width=width)
        if turned:
            picture, a, d = picture.swapaxes(0, 1), c, b
        return picture[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]

    def _stored_size(self, frame: VideoFrame) -> tuple[int, int]:
        height, width = _cropped_size(frame, self.shape.margins)
        return (width, height) if _is_turned(frame) else (height, width)

    def _meet_other_size(self, frame: VideoFrame, name: str) -> None:
        if self.size_change == "refuse":
            (height, width), (first_height, first_width) = (
                self._stored_size(frame),
                self.shape.stored,
            )
            raise VideoError(
                f"{name} is {height} pixels high, {width} wide, but the first frame is "
                f"{first_height} high, {first_width} wide; resize the video, leave it out, or "
                "choose data.size_change: scale"
            )
        if not self._noted:
            self._noted = True
            self.note(  # the same words for all frames: a video has one such note
                "the size of its frames changes; all are scaled to that of the first, "
                f"{self.shape.height} x {self.shape.width} pixels (height x width)"
            )


def _rgb(
    frame: VideoFrame,
    reformatter: VideoReformatter,
    *,
    height: int | None = None,
    width: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    # Twice as fast as frame.to_ndarray(format="rgb24"), which starts threads for every frame.
    rgb = reformatter.reformat(frame, width, height, format="rgb24", threads=1)
    shape, strides = (rgb.height, rgb.width, 3), (rgb.planes[0].line_size, 3, 1)
    return np.ndarray(shape, np.uint8, buffer=memoryview(rgb.planes[0]), strides=strides)


def _fits(frame: VideoFrame, margins: Margins) -> bool:
    """True if the margins leave something of a frame."""
    return (
        margins.top + margins.bottom < frame.height and margins.left + margins.right < frame.width
    )


def _cropped_size(frame: VideoFrame, margins: Margins) -> tuple[int, int]:
    if not _fits(frame, margins):
        return frame.height, frame.width
    return (
        frame.height - margins.top - margins.bottom,
        frame.width - margins.left - margins.right,
    )


def _is_turned(frame: VideoFrame) -> bool:
    """True if height and width change places when the frame is put upright."""
    a, _, _, d = _matrix(frame)
    return a == 0 and d == 0


# By quarter turns anticlockwise.
_QUARTER_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


def _matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d: a point (x, y) is shown at (a x + c y, b x + d y)."""
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18.1 has no name for some kinds of side data, such as EXIF, and then gives none.
        # The rotation is read another way; a mirrored EXIF orientation is shown unmirrored.
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(stored), dtype=np.int32)[:5].tolist()
    return a, b, c, d
