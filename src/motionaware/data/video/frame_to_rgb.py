"""Converts decoded frames to RGB as players display them.

Conversion to RGB is FFmpeg's default. The cropping, rotation and mirroring that the file declares
are applied, non-square pixels are made square, and frames whose size differs from the first frame's
are scaled to it. Scaling and conversion are one pass (swscale, bilinear).
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from motionaware.data.video.base import SizeChange, check_frame_size, exceeds_size_limit
from motionaware.data.video.container import MATROSKA, MP4
from motionaware.data.video.cropping import Margins, matroska_margins, mp4_margins
from motionaware.errors import VideoError

_MAX_ASPECT_RATIO = 10  # of a pixel; a ratio beyond it, or below 1/10, is treated as an error
_ASPECT_RATIO_TOLERANCE = Fraction(1, 100)  # pixels this close to square are not resampled


@dataclass(frozen=True)
class FrameGeometry:
    """Size of the displayed frames of a file, determined by its first frame.

    Attributes:
        height, width: Size of a displayed frame, in pixels.
        stored: Height and width of the first frame after cropping and rotation, before its pixels
            are made square.
        margins: Pixels to crop from each decoded frame, before rotation.
    """

    height: int
    width: int
    stored: tuple[int, int]
    margins: Margins


def frame_geometry(
    first_frame: VideoFrame,
    container: InputContainer,
    stream: VideoStream,
    *,
    path: Path,
    square_pixels: bool,
    note: Callable[[str], None],
) -> FrameGeometry:
    """Return the geometry that all frames of a file get from its first frame.

    Args:
        first_frame: The first decoded frame of `stream`.
        container: The open container.
        stream: Its video stream.
        path: The file.
        square_pixels: Scale the width by the sample aspect ratio.
        note: Receives one line, without the name of the file, for each fact that is ignored.

    Raises:
        VideoError: The frame exceeds the size limit.
    """
    check_frame_size(path, height=first_frame.height, width=first_frame.width)
    margins = _read_margins(path, container, stream)
    height, width = _cropped_size(first_frame, margins)
    ratio = _sample_aspect_ratio(stream, height, width, note=note) if square_pixels else Fraction(1)
    display_width = max(1, round(width * ratio))
    if _is_rotated_by_90(first_frame):
        return FrameGeometry(display_width, height, (width, height), margins)
    return FrameGeometry(height, display_width, (height, width), margins)


def _read_margins(path: Path, container: InputContainer, stream: VideoStream) -> Margins:
    if container.format.name == MATROSKA:
        return matroska_margins(path, track_position=container.streams.video.index(stream))
    if container.format.name == MP4:
        return mp4_margins(path, track_id=stream.id, height=stream.height, width=stream.width)
    return Margins()


def _sample_aspect_ratio(
    stream: VideoStream, height: int, width: int, *, note: Callable[[str], None]
) -> Fraction:
    """Return the width of a pixel over its height; the container overrides the codec."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not ratio or ratio < 0 or abs(ratio - 1) <= _ASPECT_RATIO_TOLERANCE:
        return Fraction(1)
    if max(ratio, 1 / ratio) > _MAX_ASPECT_RATIO or exceeds_size_limit(
        height, round(width * ratio)
    ):
        note(f"its pixels are said to be {ratio} times as wide as high; they are taken as square")
        return Fraction(1)
    return ratio


class FrameToRGB:
    """Converts decoded frames to RGB arrays of one size: cropped, rotated and scaled for display.

    Create one for each reading of a file; it reuses the converters between frames.

    Args:
        geometry: Geometry of the file's first frame.
        size_change: What to do with frames of another size; see `open_video`.
        note: Receives one line, without the name of the file, when the first frame is scaled.
    """

    def __init__(
        self, geometry: FrameGeometry, *, size_change: SizeChange, note: Callable[[str], None]
    ) -> None:
        self.geometry, self.size_change, self.note = geometry, size_change, note
        self._noted = False
        self._reformatter, self._scaler = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: VideoFrame, *, name: str) -> UInt8[np.ndarray, "_ _ 3"]:
        """Convert one frame; the result may be a view of the decoder's memory.

        Args:
            frame: The decoded frame.
            name: Name of the frame in error messages.

        Raises:
            VideoError: Its size differs from the first frame's and `size_change` is `refuse`.
        """
        if self._stored_size(frame) != self.geometry.stored:
            self._handle_size_change(frame, name)
        height, width, margins = self.geometry.height, self.geometry.width, self.geometry.margins
        a, b, c, d = _display_matrix(frame)
        rotated_by_90 = a == 0 and d == 0
        if rotated_by_90:
            height, width = width, height
        if margins and _fits(frame, margins):
            rgb = _to_rgb(frame, self._reformatter)
            bottom, right = frame.height - margins.bottom, frame.width - margins.right
            rgb = rgb[margins.top : bottom, margins.left : right]
            if rgb.shape[:2] != (height, width):
                cropped = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                rgb = _to_rgb(cropped, self._scaler, height=height, width=width)
        else:
            rgb = _to_rgb(frame, self._reformatter, height=height, width=width)
        if rotated_by_90:
            rgb, a, d = rgb.swapaxes(0, 1), c, b
        return rgb[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]

    def _stored_size(self, frame: VideoFrame) -> tuple[int, int]:
        height, width = _cropped_size(frame, self.geometry.margins)
        return (width, height) if _is_rotated_by_90(frame) else (height, width)

    def _handle_size_change(self, frame: VideoFrame, name: str) -> None:
        if self.size_change == "refuse":
            height, width = self._stored_size(frame)
            first_height, first_width = self.geometry.stored
            raise VideoError(
                f"{name} is {height} pixels high, {width} wide, but the first frame is "
                f"{first_height} high, {first_width} wide; resize the video, leave it out, or "
                "choose data.size_change: scale"
            )
        if not self._noted:
            self._noted = True
            self.note(  # without the frame's index, so that a video has one such note
                "the size of its frames changes; all are scaled to that of the first, "
                f"{self.geometry.height} x {self.geometry.width} pixels (height x width)"
            )


def _to_rgb(
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
    """True if cropping the margins leaves at least one pixel of the frame."""
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


def _is_rotated_by_90(frame: VideoFrame) -> bool:
    """True if the display matrix exchanges height and width."""
    a, _, _, d = _display_matrix(frame)
    return a == 0 and d == 0


_ROTATIONS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))  # 0, 90, .. degrees ccw


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d: the point (x, y) is displayed at (a x + c y, b x + d y)."""
    try:
        stored = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18.1 cannot name some kinds of side data, such as EXIF, and then returns none at all.
        # frame.rotation still works; mirroring from an EXIF orientation is not applied.
        return _ROTATIONS[round(frame.rotation / 90) % 4]
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(stored), dtype=np.int32)[:5].tolist()
    return a, b, c, d
