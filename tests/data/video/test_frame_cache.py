import errno
import multiprocessing
import os
import shutil
import time
from fractions import Fraction
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
    """Return a split of six videos of ten frames, 24 x 24 pixels."""
    for i in range(6):
        clip = render_clip(i % 2, seed=i, num_frames=10, image_size=24)
        write_video(tmp_path / "data" / "train" / f"class{i % 2}" / f"{i}.mp4", clip, fps=8)
    return read_split("folder", tmp_path / "data", "train")


def cached_files(cache: FrameCache) -> list[Path]:
    return list(cache.folder.glob("*/*.npy"))


def epochs(dataset: VideoDataset, num_workers: int = 0) -> list[Batch]:
    """Return the batches of two epochs of training clips."""
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
    cached = epochs(VideoDataset(split, spec=SPEC, opener=cache.open), num_workers)
    assert len(cached_files(cache)) == 6
    assert all(torch.equal(a.views, b.views) for a, b in zip(plain, cached, strict=True))
    assert [batch.labels.tolist() for batch in plain] == [batch.labels.tolist() for batch in cached]


def test_a_full_cache_decodes_further_videos_and_reports_that_it_is_full(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=2.5 * VIDEO_BYTES / 2**30)
    cached = epochs(VideoDataset(split, spec=SPEC, opener=cache.open), num_workers=2)
    plain = epochs(VideoDataset(split, spec=SPEC))
    assert all(torch.equal(a.views, b.views) for a, b in zip(plain, cached, strict=True))
    assert cache.problem == "is full at 0.00 GiB"
    assert cache.used_bytes == 2 * VIDEO_BYTES
    assert len(cached_files(cache)) == 2


def test_a_cache_counts_the_files_of_an_earlier_run(split, tmp_path):
    path = split.examples[0].path
    FrameCache(tmp_path / "cache", max_gib=1).open(path)
    again = FrameCache(tmp_path / "cache", max_gib=1)
    assert again.used_bytes > VIDEO_BYTES  # includes numpy's header
    assert isinstance(again.open(path), frame_cache._CachedVideo)


def test_a_cached_video_is_not_decoded_again(split, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    path = split.examples[0].path
    expected = open_video(path).frames([1, 5])
    cache.open(path)

    def decode(path):
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(cache, "_open", decode)
    assert torch.equal(cache.open(path).frames([1, 5]), expected)


def test_a_video_that_changed_is_decoded_again(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    first, second = (example.path for example in split.examples[:2])
    cache.open(first)
    shutil.copy(second, first)
    os.utime(first, ns=(1, 1))
    assert torch.equal(cache.open(first).frames([3]), open_video(second).frames([3]))


def test_a_folder_of_frames_is_decoded_again_if_an_image_changed(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    assert cache.open(tmp_path).frames([2])[0, 0, 0, 0] == 2
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "2.png")
    assert cache.open(tmp_path).frames([2])[0, 0, 0, 0] == 200


def test_a_truncated_cache_file_is_written_again(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    path = split.examples[0].path
    expected = cache.open(path).frames([9])
    (file,) = cached_files(cache)
    file.write_bytes(file.read_bytes()[:-100])
    assert torch.equal(cache.open(path).frames([9]), expected)
    assert np.load(file).shape == (10, 24, 24, 3)


def test_a_long_video_is_not_cached(split, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "MAX_VIDEO_BYTES", VIDEO_BYTES - 1)
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    cache.open(split.examples[0].path)
    assert (cache.used_bytes, cache.problem) == (0, None)


def test_a_damaged_frame_is_reported_only_when_it_is_requested(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"not an image")
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    video = cache.open(tmp_path)
    assert video.frames([1])[0, 0, 0, 0] == 1
    with pytest.raises(VideoError, match=r"2.png cannot be read as an image"):
        video.frames([2])
    assert cache.used_bytes == 0


def test_a_stale_file_is_deleted_and_its_space_is_reused(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1.5 * VIDEO_BYTES / 2**30)
    path = split.examples[0].path
    for changed in range(3):
        os.utime(path, ns=(changed, changed))
        assert isinstance(cache.open(path), frame_cache._CachedVideo)
    assert len(cached_files(cache)) == 1
    assert (cache.used_bytes < 1.1 * VIDEO_BYTES, cache.problem) == (True, None)


def test_two_runs_share_one_size_limit(split, tmp_path):
    first, second = (
        FrameCache(tmp_path / "cache", max_gib=2.5 * VIDEO_BYTES / 2**30) for _ in range(2)
    )
    for i, example in enumerate(split.examples):
        (first, second)[i % 2].open(example.path)
    assert len(cached_files(first)) == 2
    assert first.used_bytes == second.used_bytes == 2 * VIDEO_BYTES


def open_all(cache: FrameCache, paths: list[Path]) -> None:
    for path in paths:
        cache.open(path)


def test_processes_that_cache_the_same_videos_at_once_store_each_one_once(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    paths = [example.path for example in split.examples]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_all, args=(cache, paths)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(cached_files(cache)) == 6
    for path in paths:
        assert torch.equal(cache.open(path).frames([0, 9]), open_video(path).frames([0, 9]))


def test_an_interrupted_write_leaves_no_file_and_no_reserved_space(split, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", max_gib=1)

    def interrupted(file, array):
        file.write(b"part")
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_cache, "write_array_header_1_0", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.open(split.examples[0].path)
    assert not list(cache.folder.glob("*/*"))
    assert cache.used_bytes == 0


def test_a_partial_file_of_a_killed_process_is_deleted_after_an_hour(tmp_path):
    for name, age in (("old", 7200), ("new", 0)):
        part = tmp_path / "cache" / "place" / f".{name}.npy.0.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"part")
        os.utime(part, (time.time() - age, time.time() - age))
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    assert [path.name for path in cache.folder.glob("*/.*")] == [".new.npy.0.part"]


def test_a_cache_that_is_deleted_while_it_is_used_decodes_the_videos(split, tmp_path):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    path = split.examples[0].path
    video, expected = cache.open(path), open_video(path).frames([4])
    shutil.rmtree(cache.folder)
    assert torch.equal(video.frames([4]), expected)
    assert torch.equal(cache.open(path).frames([4]), expected)
    assert len(cached_files(cache)) == 1


def test_a_full_disk_is_reported_and_videos_are_decoded(split, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path / "cache", max_gib=1)

    def raise_disk_full(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(frame_cache, "write_array_header_1_0", raise_disk_full)
    path = split.examples[0].path
    assert torch.equal(cache.open(path).frames([4]), open_video(path).frames([4]))
    assert cache.problem == "cannot be written (No space left on device)"
    assert cache.used_bytes == 0


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "cache").write_text("a file")
    message = r"cache, cannot be written \(File exists\); choose another data.cache_dir, or null"
    with pytest.raises(OSError, match=message):
        FrameCache(tmp_path / "cache", max_gib=1)


def test_a_missing_video_is_refused(tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        FrameCache(tmp_path / "cache", max_gib=1).open(tmp_path / "none.mp4")


def test_frames_of_different_options_are_cached_separately(tmp_path, moving_pattern, encode_video):
    path = encode_video(tmp_path / "a.mp4", moving_pattern(2), aspect_ratio=Fraction(2))
    for _ in range(2):
        for square_pixels, width in ((True, 128), (False, 64)):
            cache = FrameCache(tmp_path / "cache", max_gib=1, square_pixels=square_pixels)
            video = cache.open(path)
            assert video.width == video.frames([1]).shape[3] == width
            expected = open_video(path, square_pixels=square_pixels).frames([1])
            assert torch.equal(video.frames([1]), expected)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2


def test_the_notes_of_a_video_are_cached_with_its_frames(tmp_path, changing_video):
    cache = FrameCache(tmp_path / "cache", max_gib=1)
    decoded, cached = cache.open(changing_video), cache.open(changing_video)
    assert isinstance(cached, frame_cache._CachedVideo)
    assert decoded.notes == cached.notes and len(cached.notes) == 1
    refusing = FrameCache(tmp_path / "cache", max_gib=1, size_change="refuse").open(changing_video)
    with pytest.raises(VideoError, match="but the first frame is"):
        refusing.frames([15])
