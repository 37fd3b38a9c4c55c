"""Frames are converted as players display them: square pixels, rotation, one size."""

import logging
import pickle
import struct
from collections.abc import Callable, Sequence
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
from motionaware.data.video.live import live_frames
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError


def disc(height: int, width: int, *, aspect_ratio: float = 1) -> np.ndarray:
    """Return a white disc that is round if a pixel is `aspect_ratio` times as wide as high."""
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2) ** 2 + ((x - width / 2) * aspect_ratio) ** 2 < (0.3 * height) ** 2
    return np.where(inside, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)


def disc_size(frame: torch.Tensor) -> tuple[int, int]:
    white = frame[0] > 127
    return int(white.any(1).sum()), int(white.any(0).sum())


def grey_frames(numbers: Sequence[int], height: int, width: int) -> list[np.ndarray]:
    """Return frames whose brightness is ten times their number."""
    return [np.full((height, width, 3), 10 * number, np.uint8) for number in numbers]


# ---------------------------------------------------------------------------------- square pixels


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),  # the ratio is stored by the container and by the codec
        ("a.mkv", "libx264"),  # the ratio is stored by the codec alone
        ("a.ts", "libx264"),
        ("a.avi", "mpeg4"),
    ],
)
@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(64, 45), Fraction(10, 11), Fraction(1, 2)])
def test_a_disc_is_round_for_any_aspect_ratio_of_the_pixels(
    tmp_path, name, codec, ratio, encode_video
):
    frame = disc(96, 128, aspect_ratio=float(ratio))
    path = encode_video(tmp_path / name, [frame] * 3, codec=codec, aspect_ratio=ratio)
    video = open_video(path)
    assert (video.height, video.width) == (96, round(128 * ratio))
    frames = video.frames([2, 0])
    assert frames.shape == (2, 3, 96, round(128 * ratio))
    for frame in (*frames, *video.frames([1]), next(iter(live_frames(path))).image):
        height, width = disc_size(frame)
        assert abs(height - width) <= 2
    assert video.notes == []


def test_pixels_stay_as_stored_without_square_pixels(tmp_path, encode_video):
    frame = disc(96, 128, aspect_ratio=2)
    path = encode_video(tmp_path / "a.mp4", [frame] * 3, aspect_ratio=Fraction(2))
    video = open_video(path, square_pixels=False)
    assert (video.height, video.width) == (96, 128)
    height, width = disc_size(video.frames([0])[0])
    assert abs(height - 2 * width) <= 3
    assert next(iter(live_frames(path, square_pixels=False))).image.shape == (3, 96, 128)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pixels_are_made_square_before_the_rotation(tmp_path, rotation, encode_video):
    frame = disc(96, 128, aspect_ratio=2)
    frame[:4] = 200  # the upper edge
    ratio = Fraction(2)
    path = encode_video(tmp_path / "a.mp4", [frame] * 2, aspect_ratio=ratio, rotation=rotation)
    upright = encode_video(tmp_path / "b.mp4", [frame] * 2, aspect_ratio=ratio)
    expected = torch.rot90(open_video(upright).frames([0, 1]), rotation // 90, (2, 3))
    video = open_video(path)
    assert (video.height, video.width) == expected.shape[2:]
    assert torch.equal(video.frames([0, 1]), expected)


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(4320, 4319), Fraction(1280, 1281)])
def test_almost_square_pixels_are_not_resampled(tmp_path, ratio, encode_video):
    path = encode_video(tmp_path / "a.mp4", [disc(96, 1280)] * 2, aspect_ratio=ratio)
    stored = open_video(path, square_pixels=False)
    video = open_video(path)
    assert video.width == 1280
    assert torch.equal(video.frames([1]), stored.frames([1]))


@pytest.mark.parametrize("ratio", [Fraction(10000), Fraction(1, 300)])
def test_an_impossible_aspect_ratio_is_ignored_with_a_note(tmp_path, caplog, ratio, encode_video):
    path = encode_video(tmp_path / "a.mp4", [disc(48, 64)] * 2, aspect_ratio=Fraction(2))
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, content.index(b"pasp") + 4, *ratio.as_integer_ratio())
    path.write_bytes(content)
    video = open_video(path)
    assert (video.height, video.width) == (48, 64)
    note = f"{path}: its pixels are said to be {ratio} times as wide as high; they are taken as"
    assert video.notes[0].startswith(note)
    assert caplog.messages == video.notes


def test_a_frame_that_would_become_too_large_keeps_its_stored_width(
    tmp_path, monkeypatch, encode_video
):
    monkeypatch.setattr("motionaware.data.video.base.MAX_SIDE_PIXELS", 100)
    path = encode_video(tmp_path / "a.mp4", [disc(48, 64)] * 2, aspect_ratio=Fraction(2))
    video = open_video(path)
    assert video.width == 64 and len(video.notes) == 1


# --------------------------------------------------------------------------------------- rotation


@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_the_display_matrix_of_a_file_is_applied(
    tmp_path, degrees, hflip, vflip, moving_pattern, encode_video, decode_all
):
    path = encode_video(
        tmp_path / "rotated.mp4", moving_pattern(3), rotation=degrees, flips=(hflip, vflip)
    )
    expected = torch.stack(decode_all(path))
    # The matrix rotates counter-clockwise, then flips the result.
    expected = torch.rot90(expected, degrees // 90, (2, 3))
    expected = expected.flip(3) if hflip else expected
    expected = expected.flip(2) if vflip else expected
    video = open_video(path)
    assert (video.height, video.width) == expected.shape[2:]
    assert torch.equal(video.frames([0, 1, 2]), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_exif_rotation_of_an_image_is_applied(tmp_path: Path, orientation: int):
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:16, :24] = 255  # a white corner
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(frame).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    (found,) = open_video(path).frames([0]).permute(0, 2, 3, 1).numpy()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 8


# ------------------------------------------------------------------------------------ size changes


@pytest.fixture
def changing_ts(tmp_path: Path, encode_video) -> Path:
    """Return a transport stream of 10 frames of 48 x 64 and 10 of 64 x 48."""
    parts = [
        encode_video(
            tmp_path / f"{height}.ts", grey_frames(range(first, first + 10), height, width)
        )
        for first, height, width in ((0, 48, 64), (10, 64, 48))
    ]
    path = tmp_path / "changing.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def encode_changing_mkv(path: Path, codec: str, pixel_format: str) -> Path:
    """Encode the same frames as a file that is indexed by its packets, like recorded calls."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixel_format
        second = CodecContext.create(codec, "w")
        assert isinstance(second, VideoCodecContext)
        second.height, second.width, second.pix_fmt = 64, 48, pixel_format
        second.time_base = Fraction(1, 25)
        for encoder, first, height, width in ((stream, 0, 48, 64), (second, 10, 64, 48)):
            frames = grey_frames(range(first, first + 10), height, width)
            for i, rgb in enumerate([*frames, None]):
                frame = None if rgb is None else av.VideoFrame.from_ndarray(rgb)
                if frame is not None:
                    frame.pts, frame.time_base = first + i, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 25)
                    container.mux(packet)
    return path


@pytest.fixture(params=["ts", "vp9", "mjpeg"])
def changing(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return each file of 20 frames whose size changes after 10."""
    if request.param == "ts":
        return request.getfixturevalue("changing_ts")
    options = {"vp9": ("libvpx-vp9", "yuv420p"), "mjpeg": ("mjpeg", "yuvj420p")}
    return encode_changing_mkv(tmp_path / "changing.mkv", *options[request.param])


def test_frames_of_another_size_are_scaled_to_the_first_with_one_note(changing, caplog):
    video = open_video(changing)
    assert (video.num_frames, video.height, video.width) == (20, 48, 64)
    assert video.notes == []
    assert pickle.loads(pickle.dumps(video)).frames([15]).shape == (1, 3, 48, 64)
    caplog.clear()
    frames = video.frames(range(20))
    for number, frame in enumerate(frames):
        assert (frame.int() - 10 * number).abs().max() < 6
        assert torch.equal(video.frames([number])[0], frame)
    live = [frame.image for frame in live_frames(changing, note=lambda line: None)]
    assert torch.equal(torch.stack(live), frames)
    assert video.notes == [
        f"{changing}: the size of its frames changes; all are scaled to that of the first, 48 x 64 "
        "pixels (height x width)"
    ]
    assert caplog.messages == video.notes


def test_frames_of_another_size_can_be_refused(changing):
    video = open_video(changing, size_change="refuse")
    assert video.frames([0, 9]).shape == (2, 3, 48, 64)
    message = r"frame 12 of 20 is 64 pixels high, 48 wide, but the first.*data.size_change: scale"
    with pytest.raises(VideoError, match=message):
        video.frames([0, 12])
    with pytest.raises(VideoError, match="frame 10 is 64 pixels high"):
        list(live_frames(changing, size_change="refuse"))


def test_a_live_source_gives_the_note_of_a_size_change_once(changing_ts):
    notes: list[str] = []
    assert len(list(live_frames(changing_ts, note=notes.append))) == 20
    assert len(notes) == 1 and "the size of its frames changes" in notes[0]


def test_a_pixel_format_that_changes_is_read_without_a_note(
    tmp_path, encode_video: Callable[..., Path]
):
    parts = [
        encode_video(
            tmp_path / f"{pixel_format}.ts",
            grey_frames(range(first, first + 5), 48, 64),
            pixel_format=pixel_format,
        )
        for first, pixel_format in ((0, "yuv420p"), (5, "yuv444p"))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = open_video(path)
    assert video.num_frames == 10
    for number, frame in enumerate(video.frames(range(10))):
        assert (frame.int() - 10 * number).abs().max() < 6
    assert video.notes == []


def test_a_note_is_logged_by_the_logger_of_the_package(changing_ts, caplog):
    video = open_video(changing_ts)
    with caplog.at_level(logging.WARNING):
        video.frames([12])
    assert [record.name for record in caplog.records] == ["motionaware.data.video"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_notes_are_sent_from_the_workers_with_their_batches(changing_ts, num_workers):
    split = Split("val", (Example(changing_ts, 0),) * 3, ("a",))
    dataset = VideoDataset(split, spec=ClipSpec(num_frames=4, image_size=16))
    notes: dict[str, None] = {}
    loader = make_loader(dataset, SequentialBatchSampler(3, batch_size=2), num_workers=num_workers)
    assert len(list(collect_notes(iterate_batches(loader), notes))) == 2
    (note,) = notes
    assert "the size of its frames changes" in note
