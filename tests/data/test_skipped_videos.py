from dataclasses import replace
from pathlib import Path

import pytest

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import batches_of, in_order, make_loader
from motionaware.data.motionpairs import render_clip
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.video.writer import write_video
from motionaware.errors import DataError


@pytest.fixture
def listed(tmp_path: Path) -> Split:
    """Four listed videos: the second broken, the fourth absent."""
    for name in ("a", "c"):
        clip = render_clip(0, seed=0, num_frames=4, image_size=16)
        write_video(tmp_path / f"{name}.mp4", clip, fps=8)
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "train.csv").write_text("a.mp4,x\nb.mp4,x\nc.mp4,x\nd.mp4,x\n")
    return read_split("csv", tmp_path, "train")


def read_all(skips: SkippedVideos, split: Split) -> list[list[int]]:
    dataset = VideoDataset(split, spec=ClipSpec(num_frames=2, image_size=8))
    loader = make_loader(
        dataset, in_order(len(split.examples), batch_size=2), num_workers=0, skip=True
    )
    batches = skips.pass_on(batches_of(loader), dataset, split.name)
    return [batch.indices.tolist() for batch in batches]


def test_what_is_left_out_is_counted_once_and_listed_with_its_reason(listed, tmp_path):
    skips = SkippedVideos(0.5)
    skips.keep(tmp_path / "skipped.csv")
    there = skips.without_missing(listed)
    assert [example.path.name for example in there.examples] == ["a.mp4", "b.mp4", "c.mp4"]
    for _ in range(2):
        assert read_all(skips, there) == [[0], [2]]
    assert skips.count("train") == 2
    lines = (tmp_path / "skipped.csv").read_text().splitlines()
    assert lines[0] == "split,video,why"
    assert lines[1].startswith(f"train,{tmp_path / 'b.mp4'},") and "does not open" in lines[1]
    assert lines[2] == f"train,{tmp_path / 'd.mp4'},does not exist"


def test_too_large_a_share_of_absent_videos_is_refused(listed):
    words = r"1 of the 4 videos of train are absent .* share of 0.2 .*; first .*d\.mp4: does"
    with pytest.raises(DataError, match=words):
        SkippedVideos(0.2).without_missing(listed)


def test_absent_and_broken_videos_count_together(listed):
    skips = SkippedVideos(0.25)
    there = skips.without_missing(listed)
    words = r"2 of the 4 videos of train are absent or cannot be read"
    with pytest.raises(DataError, match=words):
        read_all(skips, there)


def test_a_reason_that_names_its_video_is_not_preceded_by_it(listed, tmp_path):
    with pytest.raises(DataError) as refused:
        read_all(SkippedVideos(0.1), replace(listed, examples=listed.examples[:2]))
    assert str(refused.value).count(str(tmp_path / "b.mp4")) == 1


def test_what_an_earlier_session_listed_is_remembered(listed, tmp_path):
    earlier = SkippedVideos(0.5)
    earlier.keep(tmp_path / "skipped.csv")
    read_all(earlier, earlier.without_missing(listed))
    later = SkippedVideos(0.5)
    later.keep(tmp_path / "skipped.csv")
    assert later.rows == earlier.rows


def test_without_skips_there_is_no_list(tmp_path):
    SkippedVideos(0.5).keep(tmp_path / "skipped.csv")
    assert not (tmp_path / "skipped.csv").exists()
