from pathlib import Path

import pytest

from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.data.motionpairs import render_clip
from motionaware.data.video.writer import write_video


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Six short videos of two classes and two sizes."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(6):
        clip = render_clip(i % 2, seed=i, num_frames=10 + i, image_size=24 + 8 * (i % 2))
        write_video(root / "train" / f"class{i % 2}" / f"{i}.mp4", clip, fps=8)
    return read_split("folder", root, "train")


@pytest.fixture
def broken(tmp_path: Path) -> Split:
    """Three files, the second of which is not a video."""
    folder = tmp_path / "train" / "moving"
    for i in (0, 2):
        clip = render_clip(0, seed=i, num_frames=4, image_size=24)
        write_video(folder / f"{i}.mp4", clip, fps=8)
    (folder / "1.mp4").write_bytes(b"no video\n" * 100)
    return read_split("folder", tmp_path, "train")
