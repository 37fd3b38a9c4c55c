"""Hints on likely mistakes in the videos and classes of a split."""

from pathlib import Path

import pytest

from motionaware.data.annotations.split import Example, Split
from motionaware.data.annotations.table import read_split
from motionaware.data.hints import (
    empty_classes,
    hints_on_training,
    repeated_videos,
    similar_classes,
    untrained_classes,
)
from motionaware.errors import DataError


def split_of(*labels: int, name: str = "train", classes: int = 3) -> Split:
    examples = tuple(Example(Path(f"{number}.mp4"), label) for number, label in enumerate(labels))
    return Split(name, examples, tuple("abcdefghijklmn"[:classes]))


@pytest.mark.parametrize(
    "names",
    [("Walk", "walk"), ("walk", "walk "), ("a  b", "A b"), ("caf\u00e9", "cafe\u0301")],
)
def test_classes_that_differ_only_in_spelling_get_a_hint(names: tuple[str, str]):
    (hint,) = similar_classes(["run", *names])
    assert all(repr(name) in hint for name in names)


def test_classes_that_differ_get_no_hint():
    assert similar_classes(["walk", "walking", "walk2", "\u00fcben", "uben"]) == []


def test_classes_without_videos_are_listed():
    assert empty_classes(split_of(0, 1, 2)) is None
    assert empty_classes(split_of(0, name="val")) == "val has no video of b, c"
    assert str(empty_classes(split_of(0, classes=12))).endswith("h, i and 3 more")
    assert "cannot learn" in str(untrained_classes(split_of(0, 1)))


def test_videos_listed_several_times_are_reported():
    twice = Split("train", (*split_of(0, 1).examples, Example(Path("0.mp4"), 0)), ("a", "b"))
    assert repeated_videos(twice) == ("train lists 1 video several times, first 0.mp4", False)
    conflicting = Split("train", (*split_of(0, 1).examples, Example(Path("0.mp4"), 1)), ("a", "b"))
    hint, classes_differ = repeated_videos(conflicting) or ("", False)
    assert classes_differ
    assert "0.mp4 as a and b" in hint


def test_a_run_gets_the_hints_on_training_and_validation():
    hints = list(hints_on_training(split_of(0, 1), split_of(0, name="val")))
    assert [hint.split(":")[0] for hint in hints] == [
        "train has no video of c",
        "val has no video of b, c",
    ]


def test_a_class_list_that_repeats_a_class_is_refused(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("walk\nrun\nwalk\n")
    (tmp_path / "train.csv").write_text("a.mp4,walk\n")
    with pytest.raises(DataError, match=r"classes\.txt lists 'walk' 2 times; list each class once"):
        read_split("csv", tmp_path, "train")
