import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from motionaware.clip import ClipSpec
from motionaware.data import frame_cache
from motionaware.data.annotations import Split, read_split
from motionaware.data.dataset import Batch, TrainingOrder, VideoDataset, batches_of, make_loader
from motionaware.data.frame_cache import FrameCache
from motionaware.data.motionpairs import render_clip
from motionaware.data.video import VideoError, open_video
from motionaware.data.video_writer import write_video

SPEC = ClipSpec(num_frames=4, image_size=16)
VIDEO_BYTES = 10 * 24 * 24 * 3


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Six videos of ten frames of 24 x 24 pixels."""
    for i in range(6):
        clip = render_clip(i % 2, seed=i, num_frames=10, image_size=24)
        write_video(tmp_path / "data" / "train" / f"class{i % 2}" / f"{i}.mp4", clip, fps=8)
    return read_split("folder", tmp_path / "data", "train")


def epochs(dataset: VideoDataset, num_workers: int = 0) -> list[Batch]:
    """Two epochs of training clips."""
    order = TrainingOrder(len(dataset), batch_size=2, seed=3)
    loader = make_loader(dataset, order, num_workers=num_workers)
    batches = []
    for order.epoch in range(2):
        batches += batches_of(loader)
    return batches


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_are_the_same_with_and_without_a_cache(split, tmp_path, num_workers):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    plain = epochs(VideoDataset(split, spec=SPEC))
    kept = epochs(VideoDataset(split, spec=SPEC, opener=cache.open), num_workers)
    assert len(list(cache.folder.glob("*.npy"))) == 6
    assert all(torch.equal(one.views, two.views) for one, two in zip(plain, kept, strict=True))
    assert [one.labels.tolist() for one in plain] == [two.labels.tolist() for two in kept]


def test_a_full_cache_decodes_further_videos_as_usual_and_says_so(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=2.5 * VIDEO_BYTES / 2**30)
    kept = epochs(VideoDataset(split, spec=SPEC, opener=cache.open), num_workers=2)
    plain = epochs(VideoDataset(split, spec=SPEC))
    assert all(torch.equal(one.views, two.views) for one, two in zip(plain, kept, strict=True))
    assert cache.is_full
    assert cache.used_bytes == 2 * VIDEO_BYTES
    assert len(list(cache.folder.glob("*.npy"))) == 2


def test_a_cache_counts_what_an_earlier_run_has_left(split, tmp_path):
    path = split.examples[0].path
    FrameCache(tmp_path / "cache", max_gib=1).open(path)
    again = FrameCache(tmp_path / "cache", max_gib=1)
    assert again.used_bytes > VIDEO_BYTES  # numpy's header too
    assert isinstance(again.open(path), frame_cache._Kept)


def test_a_second_opening_decodes_nothing(split, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    path = split.examples[0].path
    expected = open_video(path).frames([1, 5])
    cache.open(path)
    monkeypatch.delattr(frame_cache, "open_video")
    assert torch.equal(cache.open(path).frames([1, 5]), expected)


def test_a_video_that_changes_is_decoded_anew(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    one, other = (example.path for example in split.examples[:2])
    cache.open(one)
    shutil.copy(other, one)
    os.utime(one, ns=(1, 1))
    assert torch.equal(cache.open(one).frames([3]), open_video(other).frames([3]))


def test_a_folder_of_frames_is_known_by_its_images(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    assert cache.open(tmp_path).frames([2])[0, 0, 0, 0] == 2
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "2.png")
    assert cache.open(tmp_path).frames([2])[0, 0, 0, 0] == 200


def test_a_kept_file_that_was_cut_is_made_anew(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    path = split.examples[0].path
    expected = cache.open(path).frames([9])
    (kept,) = cache.folder.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-100])
    assert torch.equal(cache.open(path).frames([9]), expected)
    assert np.load(kept).shape == (10, 24, 24, 3)


def test_a_long_video_takes_no_room(split, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "MAX_VIDEO_BYTES", VIDEO_BYTES - 1)
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    cache.open(split.examples[0].path)
    assert (cache.used_bytes, cache.is_full) == (0, False)


def test_a_damaged_frame_that_nobody_asks_for_stays_unseen(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    video = cache.open(tmp_path)
    assert video.frames([1])[0, 0, 0, 0] == 1
    with pytest.raises(VideoError, match=r"2.png cannot be read as an image"):
        video.frames([2])
    assert cache.used_bytes == 0


def test_a_folder_that_cannot_be_written_leaves_videos_as_they_are(split, tmp_path):
    (tmp_path / "cache").write_text("a file")
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    assert cache.open(split.examples[0].path).num_frames == 10
    assert cache.is_full


def test_an_absent_video_is_said_to_be_absent(tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        FrameCache(tmp_path / "cache", max_gib=1).open(tmp_path / "none.mp4")
