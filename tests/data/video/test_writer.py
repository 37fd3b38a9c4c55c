"""Writing a video: the same frames give the same file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from motionaware.data.motionpairs import render_clip
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video

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


def test_the_same_frames_give_the_same_bytes_whatever_was_in_memory():
    # glibc fills fresh memory with this byte: x264's AVX-512 code reads some before it is written.
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
    assert b"threads=1 " in (tmp_path / "clip.mp4").read_bytes()  # x264 notes its options


def test_crf_0_is_almost_lossless(tmp_path: Path):
    clip = _gray(render_clip(3, seed=0, num_frames=4, image_size=64))
    write_video(tmp_path / "clip.mp4", clip, fps=8, crf=0)
    read = open_video(tmp_path / "clip.mp4").frames(range(4))
    assert (read.int() - clip.int()).abs().max() <= 3  # rounding of RGB to YUV and back


def _gray(clip: Tensor) -> Tensor:
    return clip.float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).to(torch.uint8)
