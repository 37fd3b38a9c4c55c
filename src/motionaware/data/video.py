"""A video file or a folder of frames -> the frames asked for. The only importer of decoders.

A frame has one number: its place in the order of showing, 0 for the first; decoding the whole file
gives the frames in that order. `open_video` finds how many there are, `Video.frames` reads some.

Index    Most files say when each of their packets is shown: to read the packets without decoding
         them is to know every frame. A file that does not say, or whose word is doubtful, is
         decoded once and its frames are counted.
Jump     Decoding goes on from where it is, unless a keyframe lies well ahead and not behind the
         frame wanted. Every frame's time is held against the index; if a jump goes astray, the file
         is decoded from its start.
Picture  FFmpeg's plain conversion to RGB. Turns and mirrorings noted in the file are applied;
         pixels that are not square stay as stored.
"""

import os
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import Float64, Int64, UInt8
from PIL import Image
from torch import Tensor

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})

MAX_FRAME_PIXELS = 2**26  # 8192 x 8192; beyond it a file is taken to be broken or hostile
MIN_JUMP_FRAMES = 4  # a jump costs about as much as decoding so many frames (h264 with B-frames)

# Containers that store when a frame is shown, and codecs whose every packet is one shown frame.
# Elsewhere times are guessed (avi), and packets may show nothing (VP8) or half a frame (MPEG-2).
CONTAINERS_WITH_TIMES = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
CODECS_WITH_ONE_FRAME_A_PACKET = frozenset({"h264", "hevc", "vp9", "av1"})

_REMEDY = "the file is likely damaged: fetch it again, re-encode it, or leave it out"


class VideoError(ValueError):
    """One video cannot be read or written: which, what was found, what was wanted, what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Video(ABC):
    """What is known of a video. It keeps no file open: cheap to pickle, to cache, to share.

    `height` and `width` are in pixels, as shown. `times_seconds` says when each frame is shown, the
    first at 0; None for a folder of frames, which has no clock.
    """

    path: Path
    num_frames: int
    height: int
    width: int
    times_seconds: Float64[np.ndarray, "n"] | None

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "t 3 h w"]:
        """Read frames, RGB in [0, 255], in the order of `indices`, which may repeat.

        In memory channels come last, as decoders write them: a crop or a resize is faster so.

        Raises:
            IndexError: an index is not in `[0, num_frames)`.
            VideoError: a frame cannot be read, or is not of the video's size.
        """
        places: dict[int, list[int]] = defaultdict(list)
        for place, index in enumerate(indices):
            if not 0 <= index < self.num_frames:
                raise IndexError(
                    f"frame {index} was asked of {self.path}, which has {self.num_frames} frames: "
                    f"wanted 0 to {self.num_frames - 1}"
                )
            places[index].append(place)
        wanted = sorted(places)
        pictures = np.empty((len(indices), self.height, self.width, 3), dtype=np.uint8)
        for index, picture in zip(wanted, self._pictures(wanted), strict=True):
            if picture.shape != pictures.shape[1:]:
                raise VideoError(
                    f"{self._name(index)} is {picture.shape[0]} pixels high, {picture.shape[1]} "
                    f"wide, but {self._name(0)} is {self.height} high, {self.width} wide; a video "
                    "has one size: resize its frames, or leave it out"
                )
            for place in places[index]:
                pictures[place] = picture
        return rearrange(torch.from_numpy(pictures), "t h w c -> t c h w")

    def _name(self, index: int) -> str:
        return f"{self.path}: frame {index} of {self.num_frames}"

    @abstractmethod
    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Yield the frames numbered `wanted`: ascending, none twice."""


def open_video(path: str | Path) -> Video:
    """Open a video file, or a folder of images named in the order of showing (2 comes before 10).

    Raises:
        VideoError: nothing is there, or it is no video, or it has no frame that can be read.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise VideoError(f"{path} does not exist; wanted a video file or a folder of frames")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is an empty file, wanted a video; fetch it again")
    return _open_file(path)


def is_frame_folder(path: str | Path) -> bool:
    """Tell whether `path` is a folder that directly holds an image."""
    return Path(path).is_dir() and any(map(_is_image, Path(path).iterdir()))


# --------------------------------------------------------------------------------- video files


@dataclass(frozen=True, kw_only=True, eq=False)
class _VideoFile(Video):
    """`ticks` says when each frame is shown, in the stream's own unit; None: frames are counted.

    `keys` are the frames at which decoding can start, ascending, 0 among them.
    """

    ticks: Int64[np.ndarray, "n"] | None
    keys: Int64[np.ndarray, "k"]

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        num_read = 0
        try:
            for frame in self._decode(wanted, jump=True):
                yield _to_rgb(frame)
                num_read += 1
        except VideoError:
            if len(self.keys) == 1:
                raise
            # A jump may have gone astray: what decoding from the start says, stands.
            for frame in self._decode(wanted[num_read:], jump=False):
                yield _to_rgb(frame)

    def _decode(self, wanted: list[int], *, jump: bool) -> Iterator[VideoFrame]:
        with _opened(self.path) as (container, stream):
            numbered, upcoming = self._numbered(container, stream, start=0), 0
            for index in wanted:
                key = int(self.keys[np.searchsorted(self.keys, index, side="right") - 1])
                if jump and key - upcoming >= MIN_JUMP_FRAMES:
                    numbered = self._numbered(container, stream, start=key)
                yield next(frame for number, frame in numbered if number == index)
                upcoming = index + 1

    def _numbered(
        self, container: InputContainer, stream: VideoStream, *, start: int
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the keyframe `start` on; every frame must be the one the index announced."""
        frames = _decoded(container, stream)
        number = start
        try:
            if start and self.ticks is not None:
                tick = int(self.ticks[start])
                container.seek(tick, stream=stream)
                # Frames stored after a keyframe but shown before it lack what they were made from.
                frames = dropwhile(lambda frame: frame.pts is None or frame.pts < tick, frames)
            for number in range(start, self.num_frames):
                frame = next(frames, None)
                if frame is None:
                    raise self._undecodable(number, found="the end of the video")
                if self.ticks is not None and frame.pts != self.ticks[number]:
                    raise self._undecodable(number, found="another frame in its place")
                yield number, frame
        except FFmpegError as error:
            raise self._undecodable(number, found=error.strerror) from error

    def _undecodable(self, number: int, *, found: str | None) -> VideoError:
        return VideoError(f"{self._name(number)} does not decode, found: {found}; {_REMEDY}")


def _open_file(path: Path) -> Video:
    with _opened(path) as (container, stream):
        index = _index_by_packets(container, stream)
    with _opened(path) as (container, stream):
        frames = _decoded(container, stream)
        counted: list[int | None] = []
        try:
            first = next(frames, None)
            if first is None:
                raise VideoError(f"{path} has a video stream, but no frame in it; {_REMEDY}")
            height, width, _ = _to_rgb(first).shape
            counted.append(first.pts)
            if index is None or first.pts != index[0][0]:
                index = None
                for frame in frames:
                    counted.append(frame.pts)
        except FFmpegError as error:
            raise VideoError(
                f"{path}: frame {len(counted)} does not decode: {error.strerror}; {_REMEDY}"
            ) from error
        ticks, keys = index or (None, np.zeros(1, dtype=np.int64))
        shown = counted if ticks is None else ticks.tolist()
        return _VideoFile(
            path=path,
            num_frames=len(shown),
            height=height,
            width=width,
            times_seconds=_times_seconds(stream, shown),
            ticks=ticks,
            keys=keys,
        )


def _index_by_packets(
    container: InputContainer, stream: VideoStream
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "k"]] | None:
    """Find the ticks and the keys without decoding; None where packets cannot tell."""
    if (
        container.format.name not in CONTAINERS_WITH_TIMES
        or stream.codec_context.codec.canonical_name not in CODECS_WITH_ONE_FRAME_A_PACKET
    ):
        return None
    ticks, shown, keys = [], [], []
    for packet in container.demux(stream):
        if packet.size:  # the last packet is empty: it only flushes the decoder
            if packet.pts is None or packet.is_corrupt:
                return None
            ticks.append(packet.pts)
            if not packet.is_discard:  # such packets are decoded for others' sake, never shown
                shown.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
    if not shown or len(set(ticks)) < len(ticks) or min(ticks) != ticks[0]:
        return None  # two frames at once, or some before the first keyframe, which may not decode
    order = np.array(sorted(shown), dtype=np.int64)
    return order, np.union1d([0], np.searchsorted(order, keys)).astype(np.int64)


def _times_seconds(
    stream: VideoStream, ticks: Sequence[int | None]
) -> Float64[np.ndarray, "n"] | None:
    known = np.array(sorted(tick for tick in ticks if tick is not None), dtype=np.float64)
    if stream.time_base and len(known) == len(ticks) and (np.diff(known) > 0).all():
        return (known - known[0]) * float(stream.time_base)
    if stream.average_rate:
        return np.arange(len(ticks)) / float(stream.average_rate)
    return None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        # "file:" keeps a colon in the name from being read as a protocol.
        container = av.open(f"file:{path}", metadata_errors="ignore")
    except FFmpegError as error:
        raise VideoError(f"{path} does not open as a video: {error.strerror}; {_REMEDY}") from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            raise VideoError(f"{path} has no video stream; found {kinds}; wanted a video")
        if stream.codec_context is None:
            raise VideoError(f"{path} is in a codec that has no decoder here; wanted h264, say")
        _check_size(path, height=stream.height, width=stream.width)
        # Loaders work in processes: threads inside each would only compete.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        yield container, stream


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode on from where the file stands; a packet that the file's end cuts may give no frame."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except FFmpegError:
            if not packet.is_corrupt:
                raise


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


# --------------------------------------------------------------------------- folders of frames


@dataclass(frozen=True, kw_only=True, eq=False)
class _FrameFolder(Video):
    names: tuple[str, ...]

    def _pictures(self, wanted: list[int]) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        return (_read_image(self.path / self.names[index]) for index in wanted)

    def _name(self, index: int) -> str:
        return str(self.path / self.names[index])


def _open_folder(path: Path) -> Video:
    names = sorted((image.name for image in path.iterdir() if _is_image(image)), key=_natural)
    if not names:
        raise VideoError(
            f"{path} is a folder without images; wanted frames in it, "
            f"named *{', *'.join(sorted(IMAGE_SUFFIXES))}"
        )
    height, width, _ = _read_image(path / names[0]).shape
    return _FrameFolder(
        path=path,
        num_frames=len(names),
        height=height,
        width=width,
        times_seconds=None,
        names=tuple(names),
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _natural(name: str) -> tuple[list[str | int], str]:
    """Order numbers in names by value: frame2, frame10; the name itself parts 1 from 01."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _read_image(path: Path) -> UInt8[np.ndarray, "_ _ 3"]:
    try:
        with Image.open(path) as image:
            _check_size(path, height=image.height, width=image.width)
            return np.asarray(image.convert("RGB"))
    except VideoError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path} cannot be read as an image ({error}); {_REMEDY}") from error


def _check_size(path: Path, *, height: int, width: int) -> None:
    if height * width > MAX_FRAME_PIXELS:
        raise VideoError(
            f"{path} has frames of {height} x {width} pixels; wanted at most {MAX_FRAME_PIXELS} "
            "pixels a frame: resize it"
        )


# ------------------------------------------------------------------------------------- writing


def write_video(
    path: str | Path, frames: UInt8[Tensor, "t 3 h w"], *, fps: float | int, crf: int = 17
) -> None:
    """Write RGB frames as an H.264 mp4 file; the file appears whole or not at all.

    Colour is stored at half resolution (4:2:0), which any player shows; H.264 knows that for even
    sizes only, so odd ones are stored at full resolution (4:4:4), which some browsers do not show.

    Args:
        path: the file; its folder must exist.
        frames: RGB in [0, 255].
        fps: frames a second.
        crf: constant rate factor of x264, from 0 (almost lossless) to 51 (worst).

    Raises:
        VideoError: an argument is out of range, or the file cannot be written.
    """
    path = Path(path)
    num_frames, _, height, width = frames.shape
    for fact, holds, wanted in (
        (f"{num_frames = }", num_frames >= 1, "1 or more"),
        (f"{fps = }", fps > 0, "more than 0"),
        (f"{crf = }", 0 <= crf <= 51, "0 to 51"),
    ):
        if not holds:
            raise VideoError(f"{path}: got {fact}; wanted {wanted}")
    whole = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(f"file:{whole}", "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = height, width
            stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
            stream.options = {"crf": str(crf)}
            for picture in frames.permute(0, 2, 3, 1).contiguous().cpu().numpy():
                container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        whole.replace(path)
    except FFmpegError as error:
        raise VideoError(f"{path} cannot be written as a video: {error.strerror}") from error
    finally:
        whole.unlink(missing_ok=True)
