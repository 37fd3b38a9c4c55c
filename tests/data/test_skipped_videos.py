from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import SequentialBatchSampler, iterate_batches, make_loader
from motionaware.data.motionpairs import render_clip
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.video.writer import write_video
from motionaware.errors import DataError


@pytest.fixture
def listed(tmp_path: Path) -> Split:
    """Four listed videos: the second cannot be read, the fourth does not exist."""
    for name in ("a", "c"):
        clip = render_clip(0, seed=0, num_frames=4, image_size=16)
        write_video(tmp_path / f"{name}.mp4", clip, fps=8)
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "train.csv").write_text("a.mp4,x\nb.mp4,x\nc.mp4,x\nd.mp4,x\n")
    return read_split("csv", tmp_path, "train")


def read_all(skips: SkippedVideos, split: Split) -> list[list[int]]:
    dataset = VideoDataset(split, spec=ClipSpec(num_frames=2, image_size=8))
    loader = make_loader(
        dataset, SequentialBatchSampler(len(split.examples), batch_size=2), num_workers=0, skip=True
    )
    batches = skips.record(iterate_batches(loader), dataset, split.name)
    return [batch.indices.tolist() for batch in batches]


def test_a_skipped_video_is_counted_once_and_listed_with_its_reason(listed, tmp_path):
    skips = SkippedVideos(0.5)
    skips.write_to(tmp_path / "skipped.csv")
    existing = skips.without_missing(listed)
    assert [example.path.name for example in existing.examples] == ["a.mp4", "b.mp4", "c.mp4"]
    for _ in range(2):
        assert read_all(skips, existing) == [[0], [2]]
    assert skips.count("train") == 2
    lines = (tmp_path / "skipped.csv").read_text().splitlines()
    assert lines[0] == "split,video,why"
    assert lines[1].startswith(f"train,{tmp_path / 'b.mp4'},") and "does not open" in lines[1]
    assert lines[2] == f"train,{tmp_path / 'd.mp4'},does not exist"


def test_a_share_of_absent_videos_above_the_limit_is_an_error(listed):
    message = (
        r"1 of the 4 videos of train are absent .* share of 0.2 .*; the first is .*d\.mp4: does"
    )
    with pytest.raises(DataError, match=message):
        SkippedVideos(0.2).without_missing(listed)


def test_absent_and_unreadable_videos_are_counted_together(listed):
    skips = SkippedVideos(0.25)
    existing = skips.without_missing(listed)
    message = r"2 of the 4 videos of train are absent or cannot be read"
    with pytest.raises(DataError, match=message):
        read_all(skips, existing)


def test_the_error_names_a_video_once_if_its_reason_begins_with_the_name(listed, tmp_path):
    with pytest.raises(DataError) as raised:
        read_all(SkippedVideos(0.1), replace(listed, examples=listed.examples[:2]))
    assert str(raised.value).count(str(tmp_path / "b.mp4")) == 1


def test_the_videos_listed_by_an_earlier_session_are_kept(listed, tmp_path):
    earlier = SkippedVideos(0.5)
    earlier.write_to(tmp_path / "skipped.csv")
    read_all(earlier, earlier.without_missing(listed))
    later = SkippedVideos(0.5)
    later.write_to(tmp_path / "skipped.csv")
    assert later.reasons == earlier.reasons


def test_no_list_is_written_if_no_video_is_skipped(tmp_path):
    SkippedVideos(0.5).write_to(tmp_path / "skipped.csv")
    assert not (tmp_path / "skipped.csv").exists()
