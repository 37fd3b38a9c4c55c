"""Which paths are videos, and which decoder reads them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from motionaware.data.video.live import live_frames
from motionaware.data.video.open import open_video, video_opener
from motionaware.errors import VideoError


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "missing.mp4 does not exist; wanted a video file or a folder"),
        ("empty.mp4", b"", "empty.mp4 is an empty file"),
        ("text.mp4", b"not a video\n" * 50, "text.mp4 does not open as a video"),
    ],
)
def test_a_path_that_is_not_a_video_is_refused_by_name(tmp_path, capfd, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message):
        open_video(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("1.png", "2.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="the path of the video is empty"):
        open_video("")
    with pytest.raises(VideoError, match="the path of the video is empty"):
        next(live_frames(""))


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.apng", "a.avif"])
def test_animated_images_that_ffmpeg_decodes_have_all_their_frames(tmp_path, name):
    images = [Image.new("RGB", (48, 32), (10 * i, 10 * i, 10 * i)) for i in range(8)]
    format = {"a.apng": "png"}.get(name, name[2:])
    images[0].save(tmp_path / name, format, save_all=True, append_images=images[1:], duration=100)
    video = open_video(tmp_path / name)
    assert video.num_frames == 8 and video.times_seconds is not None
    np.testing.assert_allclose(video.times_seconds, np.arange(8) / 10)
    for i, frame in enumerate(video.frames(range(8))):
        assert (frame.int() - 10 * i).abs().max() < 6
        assert torch.equal(video.frames([i])[0], frame)


def test_the_opener_for_pyav_is_open_video_with_its_options():
    opener = video_opener("pyav", square_pixels=False, size_change="refuse")
    assert isinstance(opener, partial) and opener.func is open_video
    assert opener.keywords == {"square_pixels": False, "size_change": "refuse"}
