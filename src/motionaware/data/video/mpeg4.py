"""Reads packets of MPEG-4 part 2, to decide whether an AVI file can be indexed without decoding."""

from av.packet import Packet

_VOP_START = b"\x00\x00\x01\xb6"  # a frame (video object plane); the next two bits are its type
_GROUP_START = b"\x00\x00\x01\xb3"  # optional before a keyframe; holds the time of day
_MAX_N_VOP_BYTES = 16  # a frame that only repeats the previous one (an N-VOP) is at most this large


def has_one_frame_in_display_order(packet: Packet) -> bool:
    """True if a packet holds exactly one I- or P-frame.

    False for B-frames, for packed bitstreams (several frames in a packet) and for N-VOPs, which
    repeat the previous frame.
    """
    content = bytes(packet)
    start = content.find(_VOP_START)
    frame_type = content[start + 4] >> 6 if 0 <= start < len(content) - 4 else None
    return (
        frame_type in (0, 1)  # I, P
        and len(content) > _MAX_N_VOP_BYTES
        and content.find(_VOP_START, start + 4) < 0
    )


def headers_before_frame(packet: Packet) -> bytes:
    """Return the headers that precede the frame in a packet, without the time of day.

    They name the encoder, and decoders work around the bugs of some encoders. Decoding may start at
    a later keyframe only if its headers equal those of the first.
    """
    content = bytes(packet)
    starts = (content.find(code) for code in (_VOP_START, _GROUP_START))
    return content[: min(start if start >= 0 else len(content) for start in starts)]
