"""Pictures of a file as players show them: square pixels, cropping, one size, upright."""

import logging
import pickle
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from PIL import Image, ImageOps

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Example, Split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import (
    SequentialBatchSampler,
    collect_notes,
    iterate_batches,
    make_loader,
)
from motionaware.data.video.frame_cache import FrameCache
from motionaware.data.video.live import live_frames
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError


def disc(height: int, width: int, *, wide: float = 1) -> np.ndarray:
    """A white disc that is round when a pixel is shown `wide` times as wide as high."""
    y, x = np.mgrid[:height, :width]
    near = (y - height / 2) ** 2 + ((x - width / 2) * wide) ** 2 < (0.3 * height) ** 2
    return np.where(near, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)


def bright(number: int, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 10 * number, np.uint8)


def encode(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    ratio: Fraction | None = None,
    turn: int | None = None,
) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if ratio is not None:
            stream.codec_context.sample_aspect_ratio = ratio
        if turn is not None:
            stream.set_display_rotation(turn)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def high_and_wide(frame: torch.Tensor) -> tuple[int, int]:
    lit = frame[0] > 127
    return int(lit.any(1).sum()), int(lit.any(0).sum())


# ---------------------------------------------------------------------------------- square pixels


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),  # noted by the container and the codec
        ("a.mkv", "libx264"),  # by the codec alone
        ("a.ts", "libx264"),
        ("a.avi", "mpeg4"),
    ],
)
@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(64, 45), Fraction(10, 11), Fraction(1, 2)])
def test_a_disc_is_round_whatever_the_shape_of_the_pixels(tmp_path, name, codec, ratio):
    picture = disc(96, 128, wide=float(ratio))
    path = encode(tmp_path / name, [picture] * 3, codec=codec, ratio=ratio)
    video = open_video(path)
    assert (video.height, video.width) == (96, round(128 * ratio))
    frames = video.frames([2, 0])
    assert frames.shape == (2, 3, 96, round(128 * ratio))
    for frame in (*frames, *video.frames([1]), next(iter(live_frames(path))).picture):
        high, wide = high_and_wide(frame)
        assert abs(high - wide) <= 2
    assert video.notes == []


def test_pixels_stay_as_stored_where_that_is_asked_for(tmp_path):
    path = encode(tmp_path / "a.mp4", [disc(96, 128, wide=2)] * 3, ratio=Fraction(2))
    video = open_video(path, square_pixels=False)
    assert (video.height, video.width) == (96, 128)
    high, wide = high_and_wide(video.frames([0])[0])
    assert abs(high - 2 * wide) <= 3
    assert next(iter(live_frames(path, square_pixels=False))).picture.shape == (3, 96, 128)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_pixels_are_made_square_before_a_turn(tmp_path, turn):
    picture = disc(96, 128, wide=2)
    picture[:4] = 200  # the upper edge
    path = encode(tmp_path / "a.mp4", [picture] * 2, ratio=Fraction(2), turn=turn)
    video = open_video(path)
    plain = encode(tmp_path / "b.mp4", [picture] * 2, ratio=Fraction(2))
    expected = torch.rot90(open_video(plain).frames([0, 1]), turn // 90, (2, 3))
    assert (video.height, video.width) == expected.shape[2:]
    assert torch.equal(video.frames([0, 1]), expected)


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(4320, 4319), Fraction(1280, 1281)])
def test_pixels_that_are_almost_square_are_not_resampled(tmp_path, ratio):
    path = encode(tmp_path / "a.mp4", [disc(96, 1280)] * 2, ratio=ratio)
    plain = open_video(path, square_pixels=False)
    video = open_video(path)
    assert video.width == 1280
    assert torch.equal(video.frames([1]), plain.frames([1]))


@pytest.mark.parametrize("ratio", [Fraction(10000), Fraction(1, 300)])
def test_an_aspect_ratio_beyond_reason_is_ignored_with_a_note(tmp_path, caplog, ratio):
    path = encode(tmp_path / "a.mp4", [disc(48, 64)] * 2, ratio=Fraction(2))
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, content.index(b"pasp") + 4, *ratio.as_integer_ratio())
    path.write_bytes(content)
    video = open_video(path)
    assert (video.height, video.width) == (48, 64)
    words = f"{path}: its pixels are said to be {ratio} times as wide as high; they are taken as"
    assert video.notes[0].startswith(words)
    assert caplog.messages == video.notes


def test_a_picture_that_would_become_too_large_keeps_its_stored_width(tmp_path, monkeypatch):
    monkeypatch.setattr("motionaware.data.video.base.MAX_SIDE_PIXELS", 100)
    path = encode(tmp_path / "a.mp4", [disc(48, 64)] * 2, ratio=Fraction(2))
    video = open_video(path)
    assert video.width == 64 and len(video.notes) == 1


def test_the_cache_keeps_square_pixels_and_stored_ones_apart(tmp_path):
    path = encode(tmp_path / "a.mp4", [disc(48, 64)] * 2, ratio=Fraction(2))
    for _ in range(2):
        for square, width in ((True, 128), (False, 64)):
            cache = FrameCache(tmp_path / "cache", max_gib=1, square_pixels=square)
            video = cache.open(path)
            assert video.width == video.frames([1]).shape[3] == width
            assert torch.equal(
                video.frames([1]), open_video(path, square_pixels=square).frames([1])
            )
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2


# --------------------------------------------------------------------------------------- cropping


def ebml(key: int, content: bytes) -> bytes:
    return (
        key.to_bytes((key.bit_length() + 7) // 8) + (len(content) | 1 << 56).to_bytes(8) + content
    )


def with_matroska_crop(path: Path, **margins: int) -> Path:
    """Add PixelCrop elements to the video of a Matroska file.

    They take the room of a Void element that the muxer leaves before the tracks, so that no
    cluster moves.
    """
    keys = {"top": 0x54BB, "bottom": 0x54AA, "left": 0x54CC, "right": 0x54DD}
    crop = b"".join(ebml(keys[side], bytes([pixels])) for side, pixels in margins.items())
    content = bytearray(path.read_bytes())
    void = content.index(b"\xec", content.index(b"\x11\x4d\x9b\x74"))
    resize_element(content, void + 1, by=-len(crop))
    del content[void + 9 : void + 9 + len(crop)]
    at = void
    for wanted in (b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):
        at = content.index(wanted, at) + len(wanted)
        at, end = resize_element(content, at, by=len(crop))
        if content[at : at + 2] == b"\xbf\x84":  # a checksum, which is no longer right
            content[at] = 0xEC
    content[end:end] = crop
    path.write_bytes(content)
    return path


def resize_element(content: bytearray, at: int, *, by: int) -> tuple[int, int]:
    """Change the size that stands at `at`; returns where the old content begins and ends."""
    length = 9 - content[at].bit_length()
    size = int.from_bytes(content[at : at + length]) & ~(1 << 7 * length)
    content[at : at + length] = ((size + by) | 1 << 7 * length).to_bytes(length)
    return at + length, at + length + size


def with_clean_aperture(path: Path, *values: int) -> Path:
    """Put a `clap` box into the first sample entry of an MP4 file whose movie box comes last."""
    box = struct.pack(">I4s8i", 40, b"clap", *values)
    content = bytearray(path.read_bytes())
    begin = 0
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        begin = content.index(kind, begin) - 4
        (size,) = struct.unpack_from(">I", content, begin)
        struct.pack_into(">I", content, begin, size + len(box))
        end = begin + size
        begin += 8
    content[end:end] = box
    path.write_bytes(content)
    return path


def framed() -> np.ndarray:
    """A grey field with a white frame: 4 rows above, 2 below, 16 columns before, 8 behind."""
    picture = np.full((64, 96, 3), 255, np.uint8)
    picture[4:-2, 16:-8] = 100
    return picture


def assert_only_the_field_is_shown(path: Path) -> None:
    video = open_video(path)
    assert (video.height, video.width) == (58, 72)
    live = next(iter(live_frames(path))).picture
    for frame in (*video.frames([0, 2]), *video.frames([1]), live):
        assert frame.shape == (3, 58, 72)
        assert (frame.int() - 100).abs().max() < 12


def test_matroska_pixel_crop_is_applied(tmp_path):
    path = encode(tmp_path / "a.mkv", [framed()] * 3, pixels="yuv444p")
    assert open_video(path).width == 96
    assert_only_the_field_is_shown(
        with_matroska_crop(path, top=4, bottom=2, left=16, right=8),
    )


def test_the_clean_aperture_of_an_mp4_is_applied(tmp_path):
    path = encode(tmp_path / "a.mp4", [framed()] * 3, pixels="yuv444p")
    # 72 x 58 pixels whose centre is 4 to the right of the frame's and 1 below it.
    assert_only_the_field_is_shown(with_clean_aperture(path, 72, 1, 58, 1, 4, 1, 1, 1))


def test_pixels_are_made_square_after_cropping(tmp_path):
    path = encode(tmp_path / "a.mp4", [framed()] * 3, pixels="yuv444p", ratio=Fraction(2))
    with_clean_aperture(path, 72, 1, 58, 1, 4, 1, 1, 1)
    video = open_video(path)
    assert (video.height, video.width) == (58, 144)
    assert (video.frames([0]).int() - 100).abs().max() < 12


@pytest.mark.parametrize(
    "values",
    [(72, 0, 58, 1, 4, 1, 1, 1), (200, 1, 100, 1, 0, 1, 0, 1), (72, 1, 58, 1, 90, 1, -60, 1)],
)
def test_an_aperture_that_is_damaged_or_outside_the_frame_is_not_applied(tmp_path, values):
    path = with_clean_aperture(encode(tmp_path / "a.mp4", [framed()] * 3), *values)
    video = open_video(path)
    assert (video.height, video.width) == (64, 96)
    assert video.frames([0]).shape == (1, 3, 64, 96)


def test_the_cropping_of_h264_itself_is_applied_once(tmp_path):
    path = encode(tmp_path / "a.mp4", [bright(9, 50, 70)] * 3)  # stored as 64 x 80
    assert open_video(path).frames([0]).shape == (1, 3, 50, 70)


# -------------------------------------------------------------------------- sizes that change


def joined_ts(folder: Path) -> Path:
    """A transport stream whose frames turn from 48 x 64 to 64 x 48 after 10."""
    parts = [
        encode(folder / f"{height}.ts", [bright(first + i, height, width) for i in range(10)])
        for first, height, width in ((0, 48, 64), (10, 64, 48))
    ]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def joined_mkv(folder: Path, codec: str = "libvpx-vp9", pixels: str = "yuv420p") -> Path:
    """The same in a file that is indexed by its packets, as recorders of calls write it."""
    path = folder / "joined.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        other = CodecContext.create(codec, "w")
        assert isinstance(other, VideoCodecContext)
        other.height, other.width, other.pix_fmt, other.time_base = 64, 48, pixels, Fraction(1, 25)
        for encoder, first, height, width in ((stream, 0, 48, 64), (other, 10, 64, 48)):
            pictures = [bright(first + i, height, width) for i in range(10)]
            for i, picture in enumerate([*pictures, None]):
                frame = picture if picture is None else av.VideoFrame.from_ndarray(picture)
                if frame is not None:
                    frame.pts, frame.time_base = first + i, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 25)
                    container.mux(packet)
    return path


JOINED = [joined_ts, joined_mkv, lambda folder: joined_mkv(folder, "mjpeg", "yuvj420p")]


@pytest.mark.parametrize("make", JOINED, ids=["ts", "vp9", "mjpeg"])
def test_frames_of_another_size_are_scaled_to_the_first_with_one_note(tmp_path, caplog, make):
    path = make(tmp_path)
    video = open_video(path)
    assert (video.num_frames, video.height, video.width) == (20, 48, 64)
    assert video.notes == []
    assert pickle.loads(pickle.dumps(video)).frames([15]).shape == (1, 3, 48, 64)
    caplog.clear()
    frames = video.frames(range(20))
    for number, frame in enumerate(frames):
        assert (frame.int() - 10 * number).abs().max() < 6
        assert torch.equal(video.frames([number])[0], frame)
    live = [frame.picture for frame in live_frames(path, note=lambda line: None)]
    assert torch.equal(torch.stack(live), frames)
    assert video.notes == [
        f"{path}: the size of its frames changes; all are scaled to that of the first, 48 x 64 "
        "pixels (height x width)"
    ]
    assert caplog.messages == video.notes


@pytest.mark.parametrize("make", JOINED, ids=["ts", "vp9", "mjpeg"])
def test_frames_of_another_size_are_refused_where_that_is_asked_for(tmp_path, make):
    path = make(tmp_path)
    video = open_video(path, size_change="refuse")
    assert video.frames([0, 9]).shape == (2, 3, 48, 64)
    words = r"frame 12 of 20 is 64 pixels high, 48 wide, but the first.*data.size_change: scale"
    with pytest.raises(VideoError, match=words):
        video.frames([0, 12])
    with pytest.raises(VideoError, match="frame 10 is 64 pixels high"):
        list(live_frames(path, size_change="refuse"))


def test_the_live_note_of_a_changing_size_is_given_once(tmp_path):
    notes: list[str] = []
    assert len(list(live_frames(joined_ts(tmp_path), note=notes.append))) == 20
    assert len(notes) == 1 and "the size of its frames changes" in notes[0]


def test_a_pixel_format_that_changes_is_read(tmp_path):
    parts = [
        encode(
            tmp_path / f"{pixels}.ts", [bright(first + i, 48, 64) for i in range(5)], pixels=pixels
        )
        for first, pixels in ((0, "yuv420p"), (5, "yuv444p"))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = open_video(path)
    assert video.num_frames == 10
    for number, frame in enumerate(video.frames(range(10))):
        assert (frame.int() - 10 * number).abs().max() < 6
    assert video.notes == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_notes_travel_from_the_workers_with_their_batches(tmp_path, num_workers, caplog):
    split = Split("val", (Example(joined_ts(tmp_path), 0),) * 3, ("a",))
    dataset = VideoDataset(split, spec=ClipSpec(num_frames=4, image_size=16))
    loader = make_loader(dataset, SequentialBatchSampler(3, batch_size=2), num_workers=num_workers)
    notes: dict[str, None] = {}
    assert len(list(collect_notes(iterate_batches(loader), notes))) == 2
    (note,) = notes
    assert "the size of its frames changes" in note


def test_the_cache_keeps_the_note_with_the_frames(tmp_path, caplog):
    path = joined_ts(tmp_path)
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    made, kept = cache.open(path), cache.open(path)
    assert type(kept).__name__ == "_Kept"
    assert made.notes == kept.notes and len(kept.notes) == 1
    refusing = FrameCache(tmp_path / "cache", max_gib=1, size_change="refuse").open(path)
    with pytest.raises(VideoError, match="but the first frame is"):
        refusing.frames([15])


# -------------------------------------------------------------------------- animated images


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.apng", "a.avif"])
def test_animations_that_ffmpeg_reads_have_all_their_frames(tmp_path, name):
    images = [Image.fromarray(bright(i, 32, 48)) for i in range(8)]
    kind = {"a.apng": "png"}.get(name, name[2:])
    images[0].save(tmp_path / name, kind, save_all=True, append_images=images[1:], duration=100)
    video = open_video(tmp_path / name)
    assert video.num_frames == 8 and video.times_seconds is not None
    np.testing.assert_allclose(video.times_seconds, np.arange(8) / 10)
    for number, frame in enumerate(video.frames(range(8))):
        assert (frame.int() - 10 * number).abs().max() < 6
        assert torch.equal(video.frames([number])[0], frame)


def test_a_note_is_logged_by_the_logger_of_the_module(tmp_path, caplog):
    video = open_video(joined_ts(tmp_path))
    with caplog.at_level(logging.WARNING):
        video.frames([12])
    assert [record.name for record in caplog.records] == ["motionaware.data.video"]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_picture_with_exif_data_is_shown_upright(tmp_path: Path, orientation: int):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24] = 255  # a white corner
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    (frame,) = open_video(path).frames([0]).permute(0, 2, 3, 1).numpy()
    assert frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).mean() < 8
