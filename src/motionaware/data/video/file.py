"""Opens video files: builds an index of all frames, then reads frames by index.

Index    In most formats every packet carries its timestamp, so that demuxing without decoding finds
         every frame. Where timestamps are missing or unreliable, the file is decoded once and its
         frames are counted.
Check    A file that announces more frames than it holds was truncated, and is refused.
Frames   seek.py decodes from the nearest keyframe. Where its output does not match the index, the
         file is decoded from the start and the timestamp of every frame is verified.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float64, Int64, UInt8

from motionaware.data.video.base import DAMAGED_FILE_HINT, SizeChange, Video
from motionaware.data.video.container import (
    AVI,
    MATROSKA,
    MP4,
    check_not_truncated,
    decode_packet,
    decode_stream,
    open_container,
)
from motionaware.data.video.frame_to_rgb import FrameGeometry, FrameToRGB, frame_geometry
from motionaware.data.video.mpeg4 import has_one_frame_in_display_order, headers_before_frame
from motionaware.data.video.seek import seek_frames
from motionaware.errors import VideoError

# Containers that store presentation timestamps, and codecs in which each packet is one displayed
# frame. Elsewhere FFmpeg guesses timestamps (AVI), and a packet may hold a hidden frame (VP8) or a
# single field (MPEG-2).
CONTAINERS_WITH_PTS = frozenset({MP4, MATROSKA})
CODECS_WITH_ONE_FRAME_PER_PACKET = frozenset({"h264", "hevc", "vp9", "av1"})
# The exception: MPEG-4 part 2 in AVI is indexed if all its packets pass the tests of mpeg4.py.
AVI_WITH_MPEG4 = (AVI, "mpeg4")


@dataclass(frozen=True, kw_only=True, eq=False)
class _VideoFile(Video):
    """A video file and its index.

    Attributes:
        pts: Presentation timestamp of each frame, in the time base of the stream. None if the file
            was indexed by decoding; frames are then found by counting from the start.
        keyframes: Indices of the frames at which decoding can start, ascending; 0 is one of them.
        geometry: Geometry of the displayed frames.
        size_change: What to do with frames of another size.
    """

    pts: Int64[np.ndarray, "n"] | None
    keyframes: Int64[np.ndarray, "k"]
    geometry: FrameGeometry
    size_change: SizeChange

    def _read(self, indices: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        num_read = 0
        to_rgb = FrameToRGB(self.geometry, size_change=self.size_change, note=self._add_file_note)
        if self.pts is not None and len(indices) < self.num_frames:  # all frames: nothing to skip
            with open_container(self.path, trust_headers=True) as (container, stream):
                for frame in seek_frames(
                    container, stream, indices, pts=self.pts, keyframes=self.keyframes
                ):
                    yield to_rgb(frame, name=self._frame_name(indices[num_read]))
                    num_read += 1
        if num_read < len(indices):  # seeking failed, or was not possible
            with open_container(self.path) as (container, stream):
                decoded = self._decode_from_start(container, stream)
                for index in indices[num_read:]:
                    frame = next(frame for number, frame in decoded if number == index)
                    yield to_rgb(frame, name=self._frame_name(index))

    def _add_file_note(self, line: str) -> None:
        self._add_note(f"{self.path}: {line}")

    def _decode_from_start(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Yield every frame with its index.

        Raises:
            VideoError: A frame is missing or damaged, or its timestamp differs from the index.
        """
        frames = decode_stream(container, stream)
        index = 0
        try:
            for index in range(self.num_frames):
                frame = next(frames, None)
                if frame is None:
                    raise self._decode_error(index, found="the end of the video")
                if self.pts is not None and frame.pts != self.pts[index]:
                    raise self._decode_error(index, found="a frame with another timestamp")
                yield index, frame
        except FFmpegError as error:
            raise self._decode_error(index, found=error.strerror) from error

    def _decode_error(self, index: int, *, found: str | None) -> VideoError:
        return VideoError(
            f"{self._frame_name(index)} does not decode, found: {found}; {DAMAGED_FILE_HINT}"
        )


def open_video_file(
    path: Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Build the index of a video file; the arguments are those of `open_video`.

    Raises:
        VideoError: The file is not a video, is truncated, or has no frame that can be decoded.
    """
    options = {"square_pixels": square_pixels, "size_change": size_change}
    for trust_headers in (True, False):
        with open_container(path, trust_headers=trust_headers) as (container, stream):
            format, codec = container.format.name, stream.codec_context.codec.canonical_name
            if (format, codec) != AVI_WITH_MPEG4 and not (
                format in CONTAINERS_WITH_PTS and codec in CODECS_WITH_ONE_FRAME_PER_PACKET
            ):
                break
            builder = _VideoBuilder(path, container, stream, **options)
            video = _index_by_demuxing(builder, trust_headers=trust_headers)
        if video is not None:
            return video
    with open_container(path) as (container, stream):
        return _index_by_decoding(_VideoBuilder(path, container, stream, **options))


@dataclass
class _VideoBuilder:
    """An open file and the options of `open_video`, from which the video is built."""

    path: Path
    container: InputContainer
    stream: VideoStream
    square_pixels: bool
    size_change: SizeChange
    notes: list[str] = field(default_factory=list)

    def geometry(self, first_frame: VideoFrame) -> FrameGeometry:
        """Return the geometry of the displayed frames."""
        return frame_geometry(
            first_frame,
            self.container,
            self.stream,
            path=self.path,
            square_pixels=self.square_pixels,
            note=self.notes.append,
        )

    def build(
        self,
        geometry: FrameGeometry,
        *,
        displayed_pts: Sequence[int | None],
        pts: Int64[np.ndarray, "n"] | None,
        keyframes: Int64[np.ndarray, "k"],
    ) -> Video:
        """Return the video.

        Args:
            geometry: Geometry of the displayed frames.
            displayed_pts: Timestamp of each frame, for `times_seconds`; None where unknown.
            pts: Verified timestamps, by which frames can be found; None to count frames instead.
            keyframes: Indices of the frames at which decoding can start.
        """
        video = _VideoFile(
            path=self.path,
            num_frames=len(displayed_pts),
            height=geometry.height,
            width=geometry.width,
            times_seconds=_times_seconds(self.stream, displayed_pts),
            pts=pts,
            keyframes=keyframes,
            geometry=geometry,
            size_change=self.size_change,
        )
        for note in self.notes:
            video._add_file_note(note)
        return video


def _index_by_demuxing(builder: _VideoBuilder, *, trust_headers: bool) -> Video | None:
    """Index all frames by their packets; decode only the first. None if this is not reliable."""
    container, stream = builder.container, builder.stream
    is_mpeg4 = stream.codec_context.codec.canonical_name == "mpeg4"
    first_frame, first_headers = None, None
    all_pts, displayed_pts, keyframe_pts = [], [], []
    try:
        for packet in container.demux(stream):
            if first_frame is None:
                frames = decode_packet(packet)
                if trust_headers and not frames and not packet.is_discard:
                    frames = stream.codec_context.decode(None)  # flush: one frame is enough
                    if not frames:
                        return None
                first_frame = next(iter(frames), None)
            if not packet.size:
                continue  # the last packet is empty: it only flushes the decoder
            if is_mpeg4 and not has_one_frame_in_display_order(packet):
                return None
            all_pts.append(packet.pts)
            if packet.is_discard:
                continue  # hidden by an edit list: a reference frame that is not displayed
            displayed_pts.append(packet.pts)
            if packet.is_keyframe:
                headers = headers_before_frame(packet) if is_mpeg4 else b""
                first_headers = headers if first_headers is None else first_headers
                if headers == first_headers:
                    keyframe_pts.append(packet.pts)
    except FFmpegError:
        return None  # decoding from the start reports the frame
    check_not_truncated(builder.path, container, stream)
    if first_frame is None or None in all_pts or len(set(all_pts)) < len(all_pts):
        return None  # no frame, a missing timestamp, or a duplicate one
    pts = np.array(sorted(displayed_pts), dtype=np.int64)
    if first_frame.pts != pts[0] or min(all_pts) != all_pts[0]:
        return None  # frames displayed before the first keyframe may not decode
    return builder.build(
        builder.geometry(first_frame),
        displayed_pts=pts.tolist(),
        pts=pts,
        keyframes=np.union1d([0], np.searchsorted(pts, keyframe_pts)).astype(np.int64),
    )


def _index_by_decoding(builder: _VideoBuilder) -> Video:
    """Decode every frame once and count; later reads find a frame by counting from the start."""
    path, geometry = builder.path, None
    displayed_pts: list[int | None] = []
    try:
        for frame in decode_stream(builder.container, builder.stream):
            geometry = geometry or builder.geometry(frame)
            displayed_pts.append(frame.pts)
    except FFmpegError as error:
        raise VideoError(
            f"{path}: frame {len(displayed_pts)} does not decode: {error.strerror}; "
            f"{DAMAGED_FILE_HINT}"
        ) from error
    check_not_truncated(path, builder.container, builder.stream)
    if geometry is None:
        raise VideoError(f"{path} has a video stream, but no frame in it; {DAMAGED_FILE_HINT}")
    return builder.build(
        geometry, displayed_pts=displayed_pts, pts=None, keyframes=np.zeros(1, dtype=np.int64)
    )


def _times_seconds(
    stream: VideoStream, pts: Sequence[int | None]
) -> Float64[np.ndarray, "n"] | None:
    """Return the time of each frame, or times at the average frame rate, or None without a rate.

    The average rate is used where timestamps are missing or not unique.
    """
    known = np.array(sorted(value for value in pts if value is not None), dtype=np.float64)
    if stream.time_base and len(known) == len(pts) and (np.diff(known) > 0).all():
        return (known - known[0]) * float(stream.time_base)
    if stream.average_rate:
        return np.arange(len(pts)) / float(stream.average_rate)
    return None
