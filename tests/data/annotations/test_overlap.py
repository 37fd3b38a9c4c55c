"""The overlap between splits: read from the indices if they store it, else counted."""

from pathlib import Path

import pytest

from motionaware.apps.prepare_index import prepare_index
from motionaware.data.annotations import overlap as overlap_module
from motionaware.data.annotations.index import (
    IndexedExamples,
    fingerprint_lists,
    open_index,
    without_examples,
    write_index,
)
from motionaware.data.annotations.overlap import find_overlap, overlap_of, shared_videos
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_lists, read_split
from motionaware.data.source import FileSource

NAMES = ("train", "val", "test")
SHARED = {("train", "val"): 1, ("val", "test"): 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Lists without videos: one video is in train and val, two are in val and test."""
    (tmp_path / "train.csv").write_text("a.mp4,x\nb.mp4,y\n")
    (tmp_path / "val.csv").write_text("b.mp4,y\nc.mp4,x\nsub/d.mp4,x\n")
    (tmp_path / "test.csv").write_text("sub/d.mp4,x\n./c.mp4,x\n")
    return tmp_path


def write_old_index(root: Path, name: str) -> None:
    """Write the index of a split without its overlap, as earlier versions did."""
    split = read_lists("csv", root, name)
    frames = [10] * len(split.examples)
    write_index("csv", root, split, frames, fingerprint=fingerprint_lists("csv", root, split))


def read_all(root: Path) -> list[Split]:
    return [read_split("csv", root, name) for name in NAMES]


def examples_of(split: Split) -> IndexedExamples:
    assert isinstance(split.examples, IndexedExamples)
    return split.examples


def test_the_overlap_of_lists_is_counted(root: Path):
    assert find_overlap(read_all(root)) == SHARED


def test_the_overlap_of_indices_is_read_without_comparing_paths(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare_index("csv", root, num_workers=0)

    def refuse(*_: object) -> None:
        raise AssertionError("paths were compared")

    monkeypatch.setattr(overlap_module, "_count_shared_paths", refuse)
    assert FileSource("csv", root).overlap() == SHARED


def test_an_index_of_an_earlier_version_is_read_and_its_overlap_counted(root: Path):
    for name in NAMES:
        write_old_index(root, name)
    splits = [open_index("csv", root, name) for name in NAMES]
    assert examples_of(splits[0]).overlap is None
    assert find_overlap(splits) == SHARED


def test_the_overlap_of_lists_and_indices_together_is_counted(root: Path):
    write_old_index(root, "train")
    splits = read_all(root)
    assert [isinstance(split.examples, IndexedExamples) for split in splits] == [True, False, False]
    assert find_overlap(splits) == SHARED


def test_indices_that_disagree_are_not_trusted(root: Path):
    for name, others in (("train", {"val": 7}), ("val", {"train": 8})):
        split = read_lists("csv", root, name)
        fingerprint = fingerprint_lists("csv", root, split)
        frames = [10] * len(split.examples)
        write_index("csv", root, split, frames, fingerprint=fingerprint, overlap=others)
    assert find_overlap(read_all(root)[:2]) == {("train", "val"): 1}


def test_after_videos_were_left_out_the_overlap_is_counted_again(root: Path):
    prepare_index("csv", root, num_workers=0)
    train, val, _ = read_all(root)
    assert find_overlap([without_examples(train, [1]), val]) == {}


def test_a_changed_list_changes_the_overlap(root: Path):
    prepare_index("csv", root, num_workers=0)
    (root / "train.csv").write_text("a.mp4,x\nb.mp4,y\nsub/d.mp4,x\n")
    assert FileSource("csv", root).overlap() == {
        ("train", "val"): 2,
        ("train", "test"): 1,
        ("val", "test"): 2,
    }


def test_shared_videos_are_listed_in_order(root: Path):
    _, val, test = read_all(root)
    assert shared_videos(val, test) == [root / "c.mp4", root / "sub/d.mp4"]


def test_each_index_stores_the_overlap_with_every_other_split():
    assert overlap_of("val", SHARED, NAMES) == {"train": 1, "test": 2}
    assert overlap_of("train", SHARED, NAMES) == {"val": 1, "test": 0}


def test_duplicates_in_a_list_are_found_with_and_without_their_number(root: Path):
    (root / "train.csv").write_text("a.mp4,x\na.mp4,x\nb.mp4,y\n")
    prepare_index("csv", root, num_workers=0)
    train, val = (read_split("csv", root, name) for name in ("train", "val"))
    assert examples_of(train).has_duplicates()
    assert not examples_of(without_examples(train, [0])).has_duplicates()
    assert examples_of(val).num_distinct == 3
    assert not examples_of(val).has_duplicates()
