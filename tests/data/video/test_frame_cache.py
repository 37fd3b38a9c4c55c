import errno
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import Batch, TrainingBatchSampler, iterate_batches, make_loader
from motionaware.data.motionpairs import render_clip
from motionaware.data.video import frame_cache
from motionaware.data.video.frame_cache import FrameCache
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import VideoError

SPEC = ClipSpec(num_frames=4, image_size=16)
VIDEO_BYTES = 10 * 24 * 24 * 3


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Six videos of ten frames of 24 x 24 pixels."""
    for i in range(6):
        clip = render_clip(i % 2, seed=i, num_frames=10, image_size=24)
        write_video(tmp_path / "data" / "train" / f"class{i % 2}" / f"{i}.mp4", clip, fps=8)
    return read_split("folder", tmp_path / "data", "train")


def kept_files(cache: FrameCache) -> list[Path]:
    return list(cache.folder.glob("*/*.npy"))


def epochs(dataset: VideoDataset, num_workers: int = 0) -> list[Batch]:
    """Two epochs of training clips."""
    order = TrainingBatchSampler(len(dataset), batch_size=2, seed=3)
    loader = make_loader(dataset, order, num_workers=num_workers)
    batches = []
    for order.epoch in range(2):
        batches += iterate_batches(loader)
    return batches


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_are_the_same_with_and_without_a_cache(split, tmp_path, num_workers):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    plain = epochs(VideoDataset(split, spec=SPEC))
    kept = epochs(VideoDataset(split, spec=SPEC, opener=cache.open), num_workers)
    assert len(kept_files(cache)) == 6
    assert all(torch.equal(one.views, two.views) for one, two in zip(plain, kept, strict=True))
    assert [one.labels.tolist() for one in plain] == [two.labels.tolist() for two in kept]


def test_a_full_cache_decodes_further_videos_as_usual_and_says_so(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=2.5 * VIDEO_BYTES / 2**30)
    kept = epochs(VideoDataset(split, spec=SPEC, opener=cache.open), num_workers=2)
    plain = epochs(VideoDataset(split, spec=SPEC))
    assert all(torch.equal(one.views, two.views) for one, two in zip(plain, kept, strict=True))
    assert cache.trouble == "is full at 0.00 GiB"
    assert cache.used_bytes == 2 * VIDEO_BYTES
    assert len(kept_files(cache)) == 2


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

    def decode(path):
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(cache, "_open", decode)
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
    (kept,) = kept_files(cache)
    kept.write_bytes(kept.read_bytes()[:-100])
    assert torch.equal(cache.open(path).frames([9]), expected)
    assert np.load(kept).shape == (10, 24, 24, 3)


def test_a_long_video_takes_no_room(split, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "MAX_VIDEO_BYTES", VIDEO_BYTES - 1)
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    cache.open(split.examples[0].path)
    assert (cache.used_bytes, cache.trouble) == (0, None)


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


def test_a_stale_file_makes_way_and_its_room_is_free_again(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1.5 * VIDEO_BYTES / 2**30)
    path = split.examples[0].path
    for changed in range(3):
        os.utime(path, ns=(changed, changed))
        assert isinstance(cache.open(path), frame_cache._Kept)
    assert len(kept_files(cache)) == 1
    assert (cache.used_bytes < 1.1 * VIDEO_BYTES, cache.trouble) == (True, None)


def test_two_runs_share_one_bound(split, tmp_path):
    first, second = (
        FrameCache(tmp_path / "cache", max_gib=2.5 * VIDEO_BYTES / 2**30) for _ in range(2)
    )
    for place, example in enumerate(split.examples):
        (first, second)[place % 2].open(example.path)
    assert len(kept_files(first)) == 2
    assert first.used_bytes == second.used_bytes == 2 * VIDEO_BYTES


def keep_all(cache: FrameCache, paths: list[Path]) -> None:
    for path in paths:
        cache.open(path)


def test_processes_that_keep_the_same_videos_at_once_leave_each_once_and_whole(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    paths = [example.path for example in split.examples]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=keep_all, args=(cache, paths)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(kept_files(cache)) == 6
    for path in paths:
        assert torch.equal(cache.open(path).frames([0, 9]), open_video(path).frames([0, 9]))


def test_a_writing_that_is_broken_off_leaves_neither_file_nor_count(split, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", max_gib=1)

    def interrupted(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_cache, "write_array_header_1_0", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.open(split.examples[0].path)
    assert not list(cache.folder.glob("*/*"))
    assert cache.used_bytes == 0


def test_what_a_killed_process_left_is_cleared_away_after_an_hour(tmp_path):
    for name, age in (("old", 7200), ("new", 0)):
        part = tmp_path / "cache" / "place" / f".{name}.npy.0.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age, time.time() - age))
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    assert [path.name for path in cache.folder.glob("*/.*")] == [".new.npy.0.part"]


def test_a_cache_that_is_deleted_while_it_is_used_is_as_none(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    path = split.examples[0].path
    video, expected = cache.open(path), open_video(path).frames([4])
    shutil.rmtree(cache.folder)
    assert torch.equal(video.frames([4]), expected)
    assert torch.equal(cache.open(path).frames([4]), expected)
    assert len(kept_files(cache)) == 1


def test_a_full_disk_is_told_and_videos_are_decoded_as_usual(split, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", max_gib=1)

    def full(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(frame_cache, "write_array_header_1_0", full)
    path = split.examples[0].path
    assert torch.equal(cache.open(path).frames([4]), open_video(path).frames([4]))
    assert cache.trouble == "cannot be written (No space left on device)"
    assert cache.used_bytes == 0


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "cache").write_text("a file")
    words = r"cache, cannot be written \(File exists\); choose another data.cache_dir, or null"
    with pytest.raises(OSError, match=words):
        FrameCache(tmp_path / "cache", max_gib=1)


def test_an_absent_video_is_said_to_be_absent(tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        FrameCache(tmp_path / "cache", max_gib=1).open(tmp_path / "none.mp4")
