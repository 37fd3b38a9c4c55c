"""A video file -> its index, and the frames asked for. The only reader of FFmpeg (PyAV).

Index    Most files say when each of their packets is shown: to read the packets without decoding
         them is to know every frame. A file that does not say, or whose word is doubtful, is
         decoded once and its frames are counted.
Whole    A file that announces more frames than it holds was cut short, and is refused.
Frames   Read as video_quick.py says; where that does not give what the index announced, the file is
         decoded from its start, and every frame's time is held against the index.
Picture  FFmpeg's plain conversion to RGB. Turns and mirrorings noted in the file are applied;
         pixels that are not square stay as stored.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float64, Int64, UInt8

from motionaware.data.video import REMEDY, Video, VideoError, check_frame_size
from motionaware.data.video_quick import TRUST_HEADERS, is_one_picture, wanted_frames

# Containers that store when a frame is shown, and codecs whose every packet is one shown frame.
# Elsewhere times are guessed (avi), and packets may show nothing (VP8) or half a frame (MPEG-2).
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
CONTAINERS_WITH_TIMES = frozenset({MP4, "matroska,webm"})
QUICK_CONTAINERS = CONTAINERS_WITH_TIMES | {"avi"}  # whose headers name size and codec
# Only where each packet of an avi holds one MPEG-4 picture in the order of showing is it known.
AVI_WITH_MPEG4 = ("avi", "mpeg4")
CODECS_WITH_ONE_FRAME_A_PACKET = frozenset({"h264", "hevc", "vp9", "av1"})


@dataclass(frozen=True, kw_only=True, eq=False)
class _VideoFile(Video):
    """`ticks` says when each frame is shown, in the stream's own unit; None: frames are counted.

    `keys` are the frames at which decoding can start, ascending, 0 among them.
    """

    ticks: Int64[np.ndarray, "n"] | None
    keys: Int64[np.ndarray, "k"]

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        num_read = 0
        if self.ticks is not None:
            with _opened(self.path, quick=True) as (container, stream):
                for frame in wanted_frames(
                    container, stream, wanted, ticks=self.ticks, keys=self.keys
                ):
                    yield _to_rgb(frame)
                    num_read += 1
        if num_read < len(wanted):  # what decoding from the start says, stands
            with _opened(self.path) as (container, stream):
                numbered = self._numbered(container, stream)
                for index in wanted[num_read:]:
                    yield next(_to_rgb(frame) for number, frame in numbered if number == index)

    def _numbered(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the start; every frame must be the one the index announced."""
        frames = _decoded(container, stream)
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


def can_decode(codec: str) -> bool:
    """Tell whether this build of the decoders knows a codec, `h264` for example."""
    return codec in av.codecs_available


def open_video_file(path: Path) -> Video:
    """Index a video file, or count its frames.

    Raises:
        VideoError: it is no video, or cut short, or has no frame that can be read.
    """
    for quick in (True, False):
        with _opened(path, quick=quick) as (container, stream):
            video = _index(path, container, stream, quick=quick)
        if video is not None:
            return video
    with _opened(path) as (container, stream):
        return _count(path, container, stream)


def _index(
    path: Path, container: InputContainer, stream: VideoStream, *, quick: bool
) -> Video | None:
    """Know all frames by their packets, decoding the first; None where packets cannot tell."""
    kind = container.format.name, stream.codec_context.codec.canonical_name
    if kind != AVI_WITH_MPEG4 and not (
        kind[0] in CONTAINERS_WITH_TIMES and kind[1] in CODECS_WITH_ONE_FRAME_A_PACKET
    ):
        return None
    first, ticks, shown, keys = None, [], [], []
    try:
        for packet in container.demux(stream):
            if first is None:
                frames = _frames_of(packet)
                if not frames and quick and not packet.is_discard:
                    frames = stream.codec_context.decode(None)  # not held back: one is enough
                    if not frames:
                        return None
                first = next(iter(frames), None)
            if packet.size:  # the last packet is empty: it only flushes the decoder
                if kind == AVI_WITH_MPEG4 and not is_one_picture(packet):
                    return None
                ticks.append(packet.pts)
                if not packet.is_discard:  # such a one is decoded for others' sake, never shown
                    shown.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
    except FFmpegError:
        return None  # counting the frames says at which one
    _check_whole(path, container, stream)
    if first is None or None in ticks or len(set(ticks)) < len(ticks):
        return None  # nothing, or of unknown time, or two at once
    order = np.array(sorted(shown), dtype=np.int64)
    if first.pts != order[0] or min(ticks) != ticks[0]:
        return None  # some come before the first keyframe, and may not decode
    height, width, _ = _to_rgb(first).shape
    return _VideoFile(
        path=path,
        num_frames=len(order),
        height=height,
        width=width,
        times_seconds=_times_seconds(stream, order.tolist()),
        ticks=order,
        keys=np.union1d([0], np.searchsorted(order, keys)).astype(np.int64),
    )


def _count(path: Path, container: InputContainer, stream: VideoStream) -> Video:
    """Decode every frame once; from then on a frame is found by counting."""
    height, width, shown = 0, 0, []
    try:
        for frame in _decoded(container, stream):
            if not shown:
                height, width, _ = _to_rgb(frame).shape
            shown.append(frame.pts)
    except FFmpegError as error:
        raise VideoError(
            f"{path}: frame {len(shown)} does not decode: {error.strerror}; {REMEDY}"
        ) from error
    _check_whole(path, container, stream)
    if not shown:
        raise VideoError(f"{path} has a video stream, but no frame in it; {REMEDY}")
    return _VideoFile(
        path=path,
        num_frames=len(shown),
        height=height,
        width=width,
        times_seconds=_times_seconds(stream, shown),
        ticks=None,
        keys=np.zeros(1, dtype=np.int64),
    )


def _check_whole(path: Path, container: InputContainer, stream: VideoStream) -> None:
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
            f"ffmpeg -i {shlex.quote(path.name)} {shlex.quote(f'{path.stem}_short.mp4')}"
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


def _open(path: Path, *, quick: bool) -> InputContainer:
    # "file:" keeps a colon in the name from being read as a protocol.
    url = f"file:{path}"
    if quick:
        try:
            container = av.open(url, metadata_errors="ignore", options=TRUST_HEADERS)
            if container.format.name in QUICK_CONTAINERS and len(container.streams.video) == 1:
                return container
            container.close()
        except FFmpegError:
            pass  # the slow way says why
    try:
        return av.open(url, metadata_errors="ignore")
    except FFmpegError as error:
        raise VideoError(f"{path} does not open as a video: {error.strerror}; {REMEDY}") from error


@contextmanager
def _opened(path: Path, *, quick: bool = False) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file; quick, where its headers can be trusted to say what is in it."""
    with _open(path, quick=quick) as container:
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
        yield container, stream


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode on from where the file stands."""
    for packet in container.demux(stream):
        yield from _frames_of(packet)


def _frames_of(packet: Packet) -> list[VideoFrame]:
    """Decode a packet; one that the file's end cuts may give no frame."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        if not packet.is_corrupt:
            raise
        return []


def _to_rgb(frame: VideoFrame) -> UInt8[np.ndarray, "_ _ 3"]:
    """Convert a frame and put it upright, as the display matrix stored with it says."""
    # Twice as fast as frame.to_ndarray(format="rgb24"), which starts threads for every frame.
    picture = frame.reformat(format="rgb24", threads=1).to_ndarray()
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return picture
    # A point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(stored), dtype=np.int32)[:5]
    if a == 0 and d == 0:
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: 1 if d >= 0 else -1, :: 1 if a >= 0 else -1]
