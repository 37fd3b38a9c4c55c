"""Writing video files: equal frames give equal bytes, and an error leaves no partial file."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from motionaware.data.motionpairs import render_clip
from motionaware.data.video import writer
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import VideoError

_DIGEST_OF_FILES = """
import hashlib, pathlib, sys, tempfile
from motionaware.data.motionpairs import render_clip
from motionaware.data.video.writer import write_video

digest = hashlib.sha256()
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "clip.mp4")
    for num_frames, size in ((8, 64), (8, 65), (5, 112), (12, 66)):
        for label in range(6):
            clip = render_clip(label, seed=label, num_frames=num_frames, image_size=size)
            write_video(path, clip, fps=8)
            digest.update(path.read_bytes())
print(digest.hexdigest())
"""


def test_equal_frames_give_equal_bytes_for_any_content_of_fresh_memory():
    # glibc fills fresh memory with this byte; x264's AVX-512 code would read some of it.
    digests = set()
    for byte in (0, 85, 170):
        environment = os.environ | {"GLIBC_TUNABLES": f"glibc.malloc.perturb={byte}"}
        command = [sys.executable, "-c", _DIGEST_OF_FILES]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("size", [32, 130])
def test_a_file_does_not_depend_on_the_number_of_cpus(size: int, tmp_path: Path):
    clip = torch.stack([render_clip(0, seed=0, num_frames=4, image_size=size)[0]] * 3)
    write_video(tmp_path / "clip.mp4", clip, fps=8)
    assert b"threads=1 " in (tmp_path / "clip.mp4").read_bytes()  # x264 stores its options


def test_crf_0_is_almost_lossless(tmp_path: Path):
    clip = _gray(render_clip(3, seed=0, num_frames=4, image_size=64))
    write_video(tmp_path / "clip.mp4", clip, fps=8, crf=0)
    decoded = open_video(tmp_path / "clip.mp4").frames(range(4))
    assert (decoded.int() - clip.int()).abs().max() <= 3  # rounding of RGB to YUV and back


def _gray(clip: Tensor) -> Tensor:
    return clip.float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).to(torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 64), (48, 63), (47, 63)])
def test_a_written_video_has_the_size_times_and_almost_the_colours_of_its_frames(
    tmp_path, height, width
):
    smooth = torch.arange(width).mul(255 // width).byte().expand(12, 3, height, width)
    write_video(tmp_path / "written.mp4", smooth, fps=12.5)
    video = open_video(tmp_path / "written.mp4")
    assert (video.num_frames, video.height, video.width) == (12, height, width)
    assert video.times_seconds is not None
    np.testing.assert_allclose(video.times_seconds, np.arange(12) / 12.5)
    assert (video.frames(range(12)).int() - smooth.int()).abs().float().mean() < 2


@pytest.mark.parametrize(
    ("num_frames", "fps", "crf", "message"),
    [
        (0, 25, 17, r"written.mp4: got num_frames = 0; wanted 1 or more"),
        (1, 0, 17, r"written.mp4: got fps = 0; wanted more than 0"),
        (1, 25, 52, r"written.mp4: got crf = 52; wanted 0 to 51"),
    ],
)
def test_an_argument_out_of_range_is_named(tmp_path, num_frames, fps, crf, message):
    frames = torch.zeros(num_frames, 3, 48, 64, dtype=torch.uint8)
    with pytest.raises(VideoError, match=message):
        write_video(tmp_path / "written.mp4", frames, fps=fps, crf=crf)
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "written.mp4"
    path.write_bytes(b"the old file")

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "VideoFrame", SimpleNamespace(from_ndarray=interrupt))
    with pytest.raises(KeyboardInterrupt):
        write_video(path, torch.zeros(1, 3, 48, 64, dtype=torch.uint8), fps=25)
    assert [file.name for file in tmp_path.iterdir()] == ["written.mp4"]
    assert path.read_bytes() == b"the old file"


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "notes").write_text("a file, not a folder")
    frames = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    message = r"notes.written.mp4: cannot write the video \(.* is a file, wanted"
    with pytest.raises(OSError, match=message):
        write_video(tmp_path / "notes" / "written.mp4", frames, fps=1)


def test_frames_too_large_for_the_codec_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(VideoError, match=r"written.mp4 cannot be written as a video"):
        write_video(tmp_path / "written.mp4", torch.zeros(1, 3, 2, 17000, dtype=torch.uint8), fps=1)
    assert not list(tmp_path.iterdir())
