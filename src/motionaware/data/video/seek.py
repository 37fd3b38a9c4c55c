"""Decodes chosen frames of an indexed file, and as few others as the codec allows.

Open     Headers are trusted: FFmpeg does not probe.
Skip     In h264, a frame that is not a reference frame is decoded only if it is wanted.
Drain    A decoder holds frames back to reorder them. After the last wanted packet it is flushed,
         instead of being fed the packets that follow.

All three assume a valid file. The timestamps of decoded frames are therefore verified against the
index. If one does not match, or the decoder reports damage, decoding stops here; file.py then
decodes the file from its start and skips nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Int64


def seek_frames(
    container: InputContainer,
    stream: VideoStream,
    indices: Sequence[int],
    *,
    pts: Int64[np.ndarray, "n"],
    keyframes: Int64[np.ndarray, "k"],
) -> Iterator[VideoFrame]:
    """Yield the frames with these indices; stop early if the file does not match its index.

    Args:
        container: A container that was just opened.
        stream: Its video stream.
        indices: Indices of frames, ascending and unique.
        pts: Presentation timestamp of each frame, in the time base of the stream.
        keyframes: Indices of the frames at which decoding can start, ascending; 0 is one of them.
    """
    try:
        for keyframe, group in _group_by_keyframe(indices, keyframes.tolist()):
            wanted_pts = pts[group].tolist()
            keyframe_pts = int(pts[keyframe])
            if keyframe:
                container.seek(keyframe_pts, stream=stream)
            found: dict[int | None, VideoFrame] = {}
            for frame in _decode_until(
                container, stream, set(wanted_pts), start=keyframe_pts if keyframe else None
            ):
                if frame.is_corrupt:  # frames that refer to it, also earlier ones, may be damaged
                    return
                if frame.pts in wanted_pts:
                    found[frame.pts] = frame
            if len(found) < len(wanted_pts):
                return
            yield from (found[timestamp] for timestamp in wanted_pts)
    except FFmpegError:
        return


def _group_by_keyframe(indices: Sequence[int], keyframes: list[int]) -> list[tuple[int, list[int]]]:
    """Group indices into runs that are decoded without a seek; return each with its keyframe.

    A new run begins where there is a keyframe between two consecutive indices.
    """
    groups: list[tuple[int, list[int]]] = []
    positions = np.searchsorted(keyframes, indices, side="right")
    for index, position in zip(indices, positions, strict=True):
        keyframe = keyframes[position - 1]
        if not groups or keyframe > groups[-1][1][-1]:
            groups.append((keyframe, []))
        groups[-1][1].append(index)
    return groups


def _decode_until(
    container: InputContainer, stream: VideoStream, wanted_pts: set[int], *, start: int | None
) -> Iterator[VideoFrame]:
    """Yield frames from the keyframe with pts `start` until the packets `wanted_pts` are decoded.

    `start` None is the current position of the container. Other frames are yielded too.
    """
    context = stream.codec_context
    can_skip = context.codec.canonical_name == "h264"
    for packet in container.demux(stream):
        if start is not None and not (packet.pts == start and packet.is_keyframe):
            continue  # a seek may stop at an earlier keyframe
        start = None
        if can_skip:
            context.skip_frame = "DEFAULT" if packet.pts in wanted_pts else "NONREF"
        for frame in packet.decode():
            if isinstance(frame, VideoFrame):
                yield frame
        if not packet.size:  # end of file: this packet flushed the decoder
            return
        wanted_pts -= {packet.pts}
        if not wanted_pts:
            break
    yield from context.decode(None)
