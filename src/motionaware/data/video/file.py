"""A video file -> its index, and the frames asked for.

Index    Most files say when each of their packets is shown: to read the packets without decoding
         them is to know every frame. A file that does not say, or whose word is doubtful, is
         decoded once and its frames are counted.
Whole    A file that announces more frames than it holds was cut short, and is refused.
Frames   Read as video_quick.py says; where that does not give what the index announced, the file is
         decoded from its start, and every frame's time is held against the index.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float64, Int64, UInt8

from motionaware.data.video.base import REMEDY, SizeChange, Video
from motionaware.data.video.container import (
    AVI,
    MATROSKA,
    MP4,
    FrameToRGB,
    Shape,
    decoded,
    frames_of,
    opened_file,
    shape_of,
)
from motionaware.data.video.seek import headers_of, is_one_picture, wanted_frames
from motionaware.errors import VideoError

# Containers that store when a frame is shown, and codecs whose every packet is one shown frame.
# Elsewhere times are guessed (avi), and packets may show nothing (VP8) or half a frame (MPEG-2).
CONTAINERS_WITH_TIMES = frozenset({MP4, MATROSKA})
CODECS_WITH_ONE_FRAME_A_PACKET = frozenset({"h264", "hevc", "vp9", "av1"})
# Only where each packet of an avi holds one MPEG-4 picture in the order of showing is it known.
AVI_WITH_MPEG4 = (AVI, "mpeg4")


@dataclass(frozen=True, kw_only=True, eq=False)
class _VideoFile(Video):
    """`ticks` says when each frame is shown, in the stream's own unit; None: frames are counted.

    `keys` are the frames at which decoding can start, ascending, 0 among them. `shape` is the shape
    that all frames get; `size_change` says what is done with those stored in another size.
    """

    ticks: Int64[np.ndarray, "n"] | None
    keys: Int64[np.ndarray, "k"]
    shape: Shape
    size_change: SizeChange

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        num_read = 0
        to_picture = FrameToRGB(self.shape, size_change=self.size_change, note=self._note_of_file)
        if self.ticks is not None and len(wanted) < self.num_frames:  # else nothing can be left out
            with opened_file(self.path, trust_headers=True) as (container, stream):
                for frame in wanted_frames(
                    container, stream, wanted, ticks=self.ticks, keys=self.keys
                ):
                    yield to_picture(frame, name=self._name(wanted[num_read]))
                    num_read += 1
        if num_read < len(wanted):  # decoding from the start decides
            with opened_file(self.path) as (container, stream):
                numbered = self._numbered(container, stream)
                for index in wanted[num_read:]:
                    frame = next(frame for number, frame in numbered if number == index)
                    yield to_picture(frame, name=self._name(index))

    def _note_of_file(self, line: str) -> None:
        self._note(f"{self.path}: {line}")

    def _numbered(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the start; every frame must be the one the index announced."""
        frames = decoded(container, stream)
        number = 0
        try:
            for number in range(self.num_frames):
                frame = next(frames, None)
                if frame is None:
                    raise self._undecodable(number, found="the end of the video")
                if self.ticks is not None and frame.pts != self.ticks[number]:
                    raise self._undecodable(number, found="another frame in its place")
                yield number, frame
        except FFmpegError as error:
            raise self._undecodable(number, found=error.strerror) from error

    def _undecodable(self, number: int, *, found: str | None) -> VideoError:
        return VideoError(f"{self._name(number)} does not decode, found: {found}; {REMEDY}")


def open_video_file(
    path: Path, *, square_pixels: bool = True, size_change: SizeChange = "scale"
) -> Video:
    """Index a video file, or count its frames; the arguments are those of `open_video`.

    Raises:
        VideoError: it is no video, or cut short, or has no frame that can be read.
    """
    options = {"square_pixels": square_pixels, "size_change": size_change}
    for trust_headers in (True, False):
        with opened_file(path, trust_headers=trust_headers) as (container, stream):
            kind = container.format.name, stream.codec_context.codec.canonical_name
            if kind != AVI_WITH_MPEG4 and not (
                kind[0] in CONTAINERS_WITH_TIMES and kind[1] in CODECS_WITH_ONE_FRAME_A_PACKET
            ):
                break
            video = _index(
                _Opening(path, container, stream, **options), trust_headers=trust_headers
            )
        if video is not None:
            return video
    with opened_file(path) as (container, stream):
        return _count(_Opening(path, container, stream, **options))


@dataclass
class _Opening:
    """A file that is being opened, and what is asked of it."""

    path: Path
    container: InputContainer
    stream: VideoStream
    square_pixels: bool
    size_change: SizeChange
    notes: list[str] = field(default_factory=list)

    def shape(self, first: VideoFrame) -> Shape:
        """The shape that the first frame gives to all."""
        return shape_of(
            first,
            self.container,
            self.stream,
            path=self.path,
            square_pixels=self.square_pixels,
            note=self.notes.append,
        )

    def video(
        self,
        shape: Shape,
        *,
        shown: Sequence[int | None],
        ticks: Int64[np.ndarray, "n"] | None,
        keys: Int64[np.ndarray, "k"],
    ) -> Video:
        """The video whose frames are shown at `shown`, in the stream's own unit."""
        video = _VideoFile(
            path=self.path,
            num_frames=len(shown),
            height=shape.height,
            width=shape.width,
            times_seconds=_times_seconds(self.stream, shown),
            ticks=ticks,
            keys=keys,
            shape=shape,
            size_change=self.size_change,
        )
        for note in self.notes:
            video._note_of_file(note)
        return video


def _index(opening: _Opening, *, trust_headers: bool) -> Video | None:
    """Know all frames by their packets, decoding the first; None where packets cannot tell."""
    container, stream = opening.container, opening.stream
    mpeg4 = stream.codec_context.codec.canonical_name == "mpeg4"
    first, headers, ticks, shown, keys = None, None, [], [], []
    try:
        for packet in container.demux(stream):
            if first is None:
                frames = frames_of(packet)
                if trust_headers and not frames and not packet.is_discard:
                    frames = stream.codec_context.decode(None)  # not held back: one is enough
                    if not frames:
                        return None
                first = next(iter(frames), None)
            if not packet.size:
                continue  # the last packet is empty: it only flushes the decoder
            if mpeg4 and not is_one_picture(packet):
                return None
            ticks.append(packet.pts)
            if packet.is_discard:
                continue  # decoded for others' sake, never shown
            shown.append(packet.pts)
            if packet.is_keyframe:
                headers = headers_of(packet) if mpeg4 and headers is None else headers
                if not mpeg4 or headers_of(packet) == headers:
                    keys.append(packet.pts)
    except FFmpegError:
        return None  # counting the frames says at which one
    check_whole(opening.path, container, stream)
    if first is None or None in ticks or len(set(ticks)) < len(ticks):
        return None  # nothing, or of unknown time, or two at once
    order = np.array(sorted(shown), dtype=np.int64)
    if first.pts != order[0] or min(ticks) != ticks[0]:
        return None  # some come before the first keyframe, and may not decode
    return opening.video(
        opening.shape(first),
        shown=order.tolist(),
        ticks=order,
        keys=np.union1d([0], np.searchsorted(order, keys)).astype(np.int64),
    )


def _count(opening: _Opening) -> Video:
    """Decode every frame once; from then on a frame is found by counting."""
    path, shape = opening.path, None
    shown: list[int | None] = []
    try:
        for frame in decoded(opening.container, opening.stream):
            shape = shape or opening.shape(frame)
            shown.append(frame.pts)
    except FFmpegError as error:
        raise VideoError(
            f"{path}: frame {len(shown)} does not decode: {error.strerror}; {REMEDY}"
        ) from error
    check_whole(path, opening.container, opening.stream)
    if shape is None:
        raise VideoError(f"{path} has a video stream, but no frame in it; {REMEDY}")
    return opening.video(shape, shown=shown, ticks=None, keys=np.zeros(1, dtype=np.int64))


def check_whole(path: Path, container: InputContainer, stream: VideoStream) -> None:
    """Hold what the file announces against what is there, once all its packets have been read.

    An mp4 says where each frame's bytes lie: those beyond the file's end are lost, no more, no
    less. An avi says how many frames long it is, dropped ones included, and the places of its
    packets say how far they reach. It may fall a little short: headers err by a frame or two, some
    are computed from a rounded frame rate (a twentieth is allowed), and the last frame may stand as
    long as any before it. Other containers announce nothing: the video is what is there.
    """
    entries = list(stream.index_entries)
    if container.format.name == MP4:
        size = path.stat().st_size
        announced, slack = len(entries), 0
        present = sum(entry.pos + entry.size <= size for entry in entries)
    elif container.format.name == "avi":
        ends = [0, *(entry.timestamp + 1 for entry in entries)]
        announced, present = stream.frames, ends[-1]
        slack = max(2, announced // 20, *(end - start for start, end in pairwise(ends)))
    else:
        return
    if present + slack < announced:
        raise VideoError(
            f"{path} is cut short: {present} of the {announced} frames it announces can be read; "
            "fetch it again, or re-encode what is there: "
            f"ffmpeg -i {shlex.quote(str(path))} "
            f"{shlex.quote(str(path.with_name(f'{path.stem}_short.mp4')))}"
        )


def _times_seconds(
    stream: VideoStream, ticks: Sequence[int | None]
) -> Float64[np.ndarray, "n"] | None:
    known = np.array(sorted(tick for tick in ticks if tick is not None), dtype=np.float64)
    if stream.time_base and len(known) == len(ticks) and (np.diff(known) > 0).all():
        return (known - known[0]) * float(stream.time_base)
    if stream.average_rate:
        return np.arange(len(ticks)) / float(stream.average_rate)
    return None
