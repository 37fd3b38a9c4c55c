"""Cropping margins of Matroska and MP4 files."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from motionaware.data.video.live import live_frames
from motionaware.data.video.open import open_video


def ebml_element(key: int, content: bytes) -> bytes:
    size = (len(content) | 1 << 56).to_bytes(8)
    return key.to_bytes((key.bit_length() + 7) // 8) + size + content


def add_pixel_crop(path: Path, **margins: int) -> Path:
    """Add PixelCrop elements to the video track of a Matroska file.

    The bytes are taken from the Void element that the muxer leaves before the tracks, so that no
    cluster moves.
    """
    keys = {"top": 0x54BB, "bottom": 0x54AA, "left": 0x54CC, "right": 0x54DD}
    crop = b"".join(ebml_element(keys[side], bytes([size])) for side, size in margins.items())
    content = bytearray(path.read_bytes())
    void = content.index(b"\xec", content.index(b"\x11\x4d\x9b\x74"))
    resize_element(content, void + 1, by=-len(crop))
    del content[void + 9 : void + 9 + len(crop)]
    offset = end = void
    for key in (b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):
        offset = content.index(key, offset) + len(key)
        offset, end = resize_element(content, offset, by=len(crop))
        if content[offset : offset + 2] == b"\xbf\x84":  # a CRC-32 element, now wrong
            content[offset] = 0xEC  # Void
    content[end:end] = crop
    path.write_bytes(content)
    return path


def resize_element(content: bytearray, offset: int, *, by: int) -> tuple[int, int]:
    """Change the size field at `offset`; return where the old content begins and ends."""
    length = 9 - content[offset].bit_length()
    size = int.from_bytes(content[offset : offset + length]) & ~(1 << 7 * length)
    content[offset : offset + length] = ((size + by) | 1 << 7 * length).to_bytes(length)
    return offset + length, offset + length + size


def add_clean_aperture(path: Path, *values: int) -> Path:
    """Add a `clap` box to the first sample entry of an MP4 file whose movie box comes last."""
    box = struct.pack(">I4s8i", 40, b"clap", *values)
    content = bytearray(path.read_bytes())
    begin = end = 0
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        begin = content.index(kind, begin) - 4
        (size,) = struct.unpack_from(">I", content, begin)
        struct.pack_into(">I", content, begin, size + len(box))
        end = begin + size
        begin += 8
    content[end:end] = box
    path.write_bytes(content)
    return path


@pytest.fixture
def encode_bordered(encode_video) -> Callable[..., Path]:
    """Encode 3 grey frames of 64 x 96 with a white border: top 4, bottom 2, left 16, right 8."""
    frame = np.full((64, 96, 3), 255, np.uint8)
    frame[4:-2, 16:-8] = 100
    return lambda path, **options: encode_video(
        path, [frame] * 3, pixel_format="yuv444p", **options
    )


# 72 x 58 pixels; the centre is 4 pixels right of the frame's centre and 1 pixel below it.
APERTURE = (72, 1, 58, 1, 4, 1, 1, 1)


def assert_border_is_cropped(path: Path) -> None:
    video = open_video(path)
    assert (video.height, video.width) == (58, 72)
    live = next(iter(live_frames(path))).image
    for frame in (*video.frames([0, 2]), *video.frames([1]), live):
        assert frame.shape == (3, 58, 72)
        assert (frame.int() - 100).abs().max() < 12


def test_the_pixel_crop_of_matroska_is_applied(tmp_path, encode_bordered):
    path = encode_bordered(tmp_path / "a.mkv")
    assert open_video(path).width == 96
    assert_border_is_cropped(add_pixel_crop(path, top=4, bottom=2, left=16, right=8))


def test_the_clean_aperture_of_mp4_is_applied(tmp_path, encode_bordered):
    assert_border_is_cropped(add_clean_aperture(encode_bordered(tmp_path / "a.mp4"), *APERTURE))


def test_pixels_are_made_square_after_cropping(tmp_path, encode_bordered):
    path = encode_bordered(tmp_path / "a.mp4", aspect_ratio=Fraction(2))
    video = open_video(add_clean_aperture(path, *APERTURE))
    assert (video.height, video.width) == (58, 144)
    assert (video.frames([0]).int() - 100).abs().max() < 12


@pytest.mark.parametrize(
    "values",
    [(72, 0, 58, 1, 4, 1, 1, 1), (200, 1, 100, 1, 0, 1, 0, 1), (72, 1, 58, 1, 90, 1, -60, 1)],
)
def test_a_clean_aperture_that_is_damaged_or_exceeds_the_frame_is_ignored(
    tmp_path, values, encode_bordered
):
    video = open_video(add_clean_aperture(encode_bordered(tmp_path / "a.mp4"), *values))
    assert (video.height, video.width) == (64, 96)
    assert video.frames([0]).shape == (1, 3, 64, 96)


def test_the_cropping_of_the_h264_codec_is_applied_once(tmp_path, encode_video):
    grey = np.full((50, 70, 3), 90, np.uint8)  # stored as 64 x 80
    path = encode_video(tmp_path / "a.mp4", [grey] * 3)
    assert open_video(path).frames([0]).shape == (1, 3, 50, 70)
