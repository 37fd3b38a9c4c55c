import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from motionaware.data.annotations.folders_and_csv import is_video
from motionaware.data.video.extract_frames import extract_frames
from motionaware.data.video.live import live_frames
from motionaware.data.video.open import open_video
from motionaware.errors import VideoError

NUM_FRAMES = 12


def growing_bar(*, alpha: bool = False) -> list[Image.Image]:
    """Return images of a bar that grows; with `alpha`, the background is transparent."""
    images = []
    for i in range(NUM_FRAMES):
        pixels = np.zeros((32, 48, 4 if alpha else 3), np.uint8)
        pixels[:, : 4 * i + 4] = (200, 30, 40, 255) if alpha else (200, 30, 40)
        images.append(Image.fromarray(pixels))
    return images


def write_webp(path: Path, images: list[Image.Image], **options: object) -> Path:
    images[0].save(path, "webp", save_all=True, append_images=images[1:], **options)
    return path


def bar_width(frame: torch.Tensor) -> int:
    return int((frame[0, 16] > 127).sum())


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"lossless": True},
        {"lossless": False, "quality": 95},
        {"lossless": True, "minimize_size": True},
        {"lossless": True, "kmin": 1, "kmax": 1},  # keyframes only
        {"allow_mixed": True},
    ],
)
def test_every_frame_of_an_animation_is_composited_in_any_order(tmp_path, options, alpha):
    path = write_webp(tmp_path / "a.webp", growing_bar(alpha=alpha), duration=100, **options)
    video = open_video(path)
    assert (video.num_frames, video.height, video.width) == (NUM_FRAMES, 32, 48)
    frames = video.frames(range(NUM_FRAMES))
    assert [bar_width(frame) for frame in frames] == [4 * i + 4 for i in range(NUM_FRAMES)]
    assert torch.equal(video.frames([7, 2, 7]), frames[[7, 2, 7]])
    for number in range(NUM_FRAMES):
        assert torch.equal(video.frames([number])[0], frames[number])
    assert torch.equal(pickle.loads(pickle.dumps(video)).frames([5])[0], frames[5])


def test_times_follow_the_durations_and_very_short_durations_become_100_ms(tmp_path):
    durations = [50, 200, 0, 10, 30, *[100] * 7]
    path = write_webp(tmp_path / "a.webp", growing_bar(), duration=durations, lossless=True)
    times = open_video(path).times_seconds
    assert times is not None
    np.testing.assert_allclose(times[:6], [0, 0.05, 0.25, 0.35, 0.45, 0.48])


def test_a_still_webp_is_a_video_of_one_frame(tmp_path):
    growing_bar()[3].save(tmp_path / "a.webp", lossless=True)
    video = open_video(tmp_path / "a.webp")
    assert video.num_frames == 1
    assert bar_width(video.frames([0])[0]) == 16


def test_a_webp_is_detected_by_its_content(tmp_path):
    path = write_webp(tmp_path / "a.gif", growing_bar(), lossless=True)
    assert open_video(path).num_frames == NUM_FRAMES


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_webp_is_refused_with_its_size(tmp_path, share):
    path = write_webp(tmp_path / "a.webp", growing_bar(), lossless=True)
    content = path.read_bytes()
    path.write_bytes(content[: max(20, int(len(content) * share))])
    with pytest.raises(VideoError, match=rf"a.webp is cut short: \d+ of the {len(content)} bytes"):
        open_video(path)


def test_a_damaged_webp_is_refused_by_name(tmp_path):
    path = write_webp(tmp_path / "a.webp", growing_bar(), lossless=True)
    content = bytearray(path.read_bytes())
    content[12:200] = b"\xaa" * 188
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a.webp cannot be read as a WebP image"):
        open_video(path)


def test_a_webp_can_be_a_live_source(tmp_path):
    path = write_webp(tmp_path / "a.webp", growing_bar(), duration=100, lossless=True)
    frames = list(live_frames(path))
    assert [bar_width(frame.image) for frame in frames] == [4 * i + 4 for i in range(12)]
    assert [frame.seconds for frame in frames[:3]] == [0, 0.1, 0.2]


def test_a_webp_from_a_pipe_is_refused_with_the_reason(tmp_path, monkeypatch):
    path = write_webp(tmp_path / "a.webp", growing_bar(), lossless=True)
    with path.open("rb") as content:
        pipe = SimpleNamespace(buffer=content)
        monkeypatch.setattr("motionaware.data.video.live.sys.stdin", pipe)
        with pytest.raises(VideoError, match="is a WebP image, which can be read from a file only"):
            list(live_frames("-"))


def test_the_frames_of_a_webp_are_extracted(tmp_path):
    path = write_webp(tmp_path / "a.webp", growing_bar(), lossless=True)
    assert extract_frames(path, tmp_path / "frames") == NUM_FRAMES
    assert bar_width(open_video(tmp_path / "frames").frames([5])[0]) == 24


def test_a_data_set_takes_an_animated_webp_for_a_video_but_not_a_still_one(tmp_path):
    assert is_video(write_webp(tmp_path / "a.webp", growing_bar(), lossless=True))
    growing_bar()[0].save(tmp_path / "still.webp")
    assert not is_video(tmp_path / "still.webp")


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_an_animation_in_a_folder_of_frames_is_refused(tmp_path, kind):
    for number in (1, 2):
        images = growing_bar()
        path = tmp_path / f"{number}.{kind}"
        images[0].save(path, save_all=True, append_images=images[1:])
    with pytest.raises(VideoError, match=rf"1.{kind} is an animation of 12 frames, wanted one"):
        open_video(tmp_path)
