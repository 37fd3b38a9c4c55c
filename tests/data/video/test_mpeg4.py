from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from av.packet import Packet

from motionaware.data.video.mpeg4 import has_one_frame_in_display_order, headers_before_frame


def packets(path: Path) -> Iterator[Packet]:
    with av.open(path) as container:
        yield from (packet for packet in container.demux(video=0) if packet.size)


@pytest.mark.parametrize(("name", "expected"), [("mpeg4.avi", True), ("mpeg4_b_frames.avi", False)])
def test_b_frames_are_not_in_display_order(samples, name, expected):
    found = [has_one_frame_in_display_order(packet) for packet in packets(samples / name)]
    assert all(found) is expected


def test_packets_with_two_frames_or_a_repeated_frame_are_detected(samples):
    frame = bytes(next(packets(samples / "mpeg4.avi")))
    assert has_one_frame_in_display_order(Packet(frame))
    assert not has_one_frame_in_display_order(Packet(frame + frame))
    assert not has_one_frame_in_display_order(Packet(b"\x00\x00\x01\xb6\x50" + bytes(8)))


def test_keyframes_of_one_encoder_have_equal_headers(samples):
    keyframes = [packet for packet in packets(samples / "mpeg4.avi") if packet.is_keyframe]
    headers = {headers_before_frame(packet) for packet in keyframes}
    assert len(keyframes) == 4
    assert len(headers) == 1
    assert b"Lavc" in headers.pop()
