"""Opens a container with FFmpeg (PyAV), decodes its packets, and detects truncated files.

Most containers describe their streams in the header. FFmpeg decodes a few frames all the same, to
check (it probes). `trust_headers` skips this and uses the header fields; the timestamps of decoded
frames are verified later, against the index.
"""

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from motionaware.data.video.base import DAMAGED_FILE_HINT, MAX_FRAME_PIXELS, check_frame_size
from motionaware.errors import VideoError

# Names of container formats in FFmpeg.
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"
AVI = "avi"
_FORMATS_WITH_COMPLETE_HEADERS = frozenset({MP4, MATROSKA, AVI})
_WEBP_FORMATS = frozenset({"webp_pipe", "webp"})
# An empty list of codecs: FFmpeg can decode nothing while it opens the file.
_NO_PROBING = {"codec_whitelist": "none", "probesize": "32", "analyzeduration": "0"}


def can_decode(codec: str) -> bool:
    """True if FFmpeg has a decoder for this codec, for example `h264`."""
    return codec in av.codecs_available


def open_container(
    path: Path, *, trust_headers: bool = False
) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
    """Open a file; see `open_source`."""
    # The prefix "file:" keeps FFmpeg from reading a colon in the name as a protocol.
    return open_source(f"file:{path}", path, remedy=DAMAGED_FILE_HINT, trust_headers=trust_headers)


@contextmanager
def open_source(
    source: str | BinaryIO,
    path: Path,
    *,
    remedy: str,
    format: str | None = None,
    trust_headers: bool = False,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open anything that FFmpeg can read; yield its container and its video stream.

    Args:
        source: A URL of FFmpeg, or an open file.
        path: Name of the source in error messages.
        remedy: What the error tells the user to do.
        format: Name of the container format in FFmpeg; None detects it.
        trust_headers: Do not probe; use the header fields.

    Raises:
        VideoError: The source cannot be opened, or has no video stream that can be decoded.
    """
    container = _open_without_probing(source) if trust_headers and isinstance(source, str) else None
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
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise VideoError(f"{path} has no video stream; found {kinds}; wanted a video")
        if container.format.name in _WEBP_FORMATS:
            raise VideoError(
                f"{path} is a WebP image, which can be read from a file only; give its path"
            )
        if stream.codec_context is None:
            raise VideoError(
                f"{path} uses a codec that FFmpeg cannot decode here; re-encode it, for example "
                "as h264"
            )
        check_frame_size(path, height=stream.height, width=stream.width)
        # DataLoader workers are processes; decoder threads in each of them would only compete.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        # The frame size may grow within a stream: the decoder checks it before it allocates memory.
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        yield container, stream


def _open_without_probing(source: str) -> InputContainer | None:
    """Open a source from its headers alone; None if they do not describe its one video stream."""
    with suppress(FFmpegError):  # the caller opens it with probing and reports the error
        container = av.open(source, "r", metadata_errors="ignore", options=_NO_PROBING)
        if (
            container.format.name in _FORMATS_WITH_COMPLETE_HEADERS
            and len(container.streams.video) == 1
        ):
            return container
        container.close()
    return None


def decode_stream(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames from the current position of the container to its end."""
    for packet in container.demux(stream):
        yield from decode_packet(packet)


def decode_packet(packet: Packet) -> list[VideoFrame]:
    """Return the frames that the decoder outputs for a packet; none for a truncated last packet."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        if not packet.is_corrupt:
            raise
        return []


def check_not_truncated(path: Path, container: InputContainer, stream: VideoStream) -> None:
    """Raise VideoError if a file announces more frames than it holds.

    Call it after all packets have been demuxed.

    MP4     The sample table gives the byte range of each frame. Frames beyond the end of the file
            are missing; the count is exact.
    AVI     The header gives the length in frames, dropped frames included; the index gives the
            position of the last packet. The two may differ by two frames, by a twentieth of the
            length (some headers are computed from a rounded frame rate), or by the longest duration
            of one frame, which the last frame may have.
    others  The container announces no length, so that nothing can be checked.
    """
    entries = list(stream.index_entries)
    if container.format.name == MP4:
        size = path.stat().st_size
        announced, tolerance = len(entries), 0
        present = sum(entry.pos + entry.size <= size for entry in entries)
    elif container.format.name == AVI:
        ends = [0, *(entry.timestamp + 1 for entry in entries)]
        announced, present = stream.frames, ends[-1]
        tolerance = max(2, announced // 20, *(end - start for start, end in pairwise(ends)))
    else:
        return
    if present + tolerance < announced:
        raise VideoError(
            f"{path} is cut short: {present} of the {announced} frames it announces can be read; "
            "fetch it again, or re-encode what is there: "
            f"ffmpeg -i {shlex.quote(str(path))} "
            f"{shlex.quote(str(path.with_name(f'{path.stem}_short.mp4')))}"
        )
