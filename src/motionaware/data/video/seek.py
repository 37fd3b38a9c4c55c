"""The frames wanted of an indexed file, and as little else as the codec allows.

Open     Headers say what FFmpeg would else decode a few frames to find out.
Skip     A frame that no other is made from is decoded only where it is wanted (h264, whose packets
         say so).
Drain    Decoders hold frames back to put them in order. Once all packets that are wanted are in, it
         is asked for what it holds, instead of being fed what follows.

All three rely on files that are as they should be. The times of the frames that come are held
against the index. What does not fit, or what the decoder calls damaged, ends the reading:
video_file.py then decodes from the start of the file, skipping nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Int64

_VOP = b"\x00\x00\x01\xb6"  # begins a picture of MPEG-4 part 2; the next two bits are its kind
_GROUP = b"\x00\x00\x01\xb3"  # may stand before a keyframe, and say the time of day
_LARGEST_EMPTY_BYTES = 16  # a picture that only repeats the one before is at most as large


def wanted_frames(
    container: InputContainer,
    stream: VideoStream,
    wanted: Sequence[int],
    *,
    ticks: Int64[np.ndarray, "n"],
    keys: Int64[np.ndarray, "k"],
) -> Iterator[VideoFrame]:
    """Yield the frames numbered `wanted`, which ascend; end early where the file is not as indexed.

    Args:
        container: A file that was just opened.
        stream: Its video.
        wanted: Numbers of frames, none twice.
        ticks: When each frame is shown, in the stream's own unit.
        keys: The frames at which decoding can start, ascending, 0 among them.
    """
    try:
        for key, numbers in _runs(wanted, keys.tolist()):
            due = ticks[numbers].tolist()
            start = int(ticks[key])
            if key:
                container.seek(start, stream=stream)
            found: dict[int | None, VideoFrame] = {}
            for frame in _run(container, stream, set(due), start=start if key else None):
                if frame.is_corrupt:  # others may be made from it, those shown before it too
                    return
                if frame.pts in due:
                    found[frame.pts] = frame
            if len(found) < len(due):
                return
            yield from (found[tick] for tick in due)
    except FFmpegError:
        return


def is_one_picture(packet: Packet) -> bool:
    """Tell whether a packet of MPEG-4 part 2 holds one picture that is shown when its turn comes.

    Not so where it holds two, or one made from a later one, or one that only repeats the last.
    """
    content = bytes(packet)
    begin = content.find(_VOP)
    kind = content[begin + 4] >> 6 if 0 <= begin < len(content) - 4 else None
    return (
        kind in (0, 1)  # made from nothing, or from what was before
        and len(content) > _LARGEST_EMPTY_BYTES
        and content.find(_VOP, begin + 4) < 0
    )


def headers_of(packet: Packet) -> bytes:
    """What stands in a packet of MPEG-4 part 2 before its picture, the time of day left out.

    It tells the decoder what wrote the picture, on which the last bits depend: one that starts at a
    later keyframe must have read the same.
    """
    content = bytes(packet)
    return content[: min(content.find(mark) % (len(content) + 1) for mark in (_VOP, _GROUP))]


def _runs(wanted: Sequence[int], keys: list[int]) -> list[tuple[int, list[int]]]:
    """Where decoding starts, and the frames wanted before a later keyframe is a better start."""
    runs: list[tuple[int, list[int]]] = []
    for number, at in zip(wanted, np.searchsorted(keys, wanted, side="right"), strict=True):
        if not runs or keys[at - 1] > runs[-1][1][-1]:
            runs.append((keys[at - 1], []))
        runs[-1][1].append(number)
    return runs


def _run(
    container: InputContainer, stream: VideoStream, wanted: set[int], *, start: int | None
) -> Iterator[VideoFrame]:
    """Decode from the packet shown at `start` until the frames shown at `wanted` have come."""
    context = stream.codec_context
    may_skip = context.codec.canonical_name == "h264"
    for packet in container.demux(stream):
        if start is not None and not (packet.pts == start and packet.is_keyframe):
            continue  # a seek may stop at a keyframe before
        start = None
        if may_skip:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in packet.decode():
            if isinstance(frame, VideoFrame):
                yield frame
        if not packet.size:  # the file's end: the decoder holds nothing any more
            return
        wanted -= {packet.pts}
        if not wanted:
            break
    yield from context.decode(None)
