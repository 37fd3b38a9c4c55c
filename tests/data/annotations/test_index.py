"""The index of a split: equal to its lists, fast to open, and refused when the data change."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from motionaware.data.annotations import index as index_module
from motionaware.data.annotations.index import (
    MISSING,
    UNREADABLE,
    IndexedExamples,
    IndexUnusable,
    fingerprint_lists,
    missing_examples,
    open_index,
    without_examples,
    write_index,
)
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import (
    KINDS,
    check_videos_exist,
    read_lists,
    read_split,
    unlisted_videos,
)
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.errors import DataError, SplitAbsent


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no test write to the user's cache folder."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(Path, "home", lambda: folder)
    return folder


def make_index(
    kind: str, root: Path, name: str = "train", frames: dict[str, int] | None = None
) -> Split:
    split = read_lists(kind, root, name)
    numbers = [(frames or {}).get(example.path.stem, 10) for example in split.examples]
    write_index(kind, root, split, numbers, fingerprint=fingerprint_lists(kind, root, split))
    return split


@pytest.fixture
def csv_root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    (root / "train.csv").write_text("a.mp4,x\nsub/ä b.mp4,y\nc.mp4,x\n")
    (root / "a.mp4").touch()
    return root


def test_an_index_is_equal_to_the_lists_of_every_kind(trees, plant, tmp_path):
    for kind, tree in trees.items():
        root = plant(tree, tmp_path / kind)
        for name in tree.videos:
            split = make_index(kind, root, name)
            found = read_split(kind, root, name)
            assert isinstance(found.examples, IndexedExamples), kind
            assert (list(found.examples), found.class_names) == (
                list(split.examples),
                split.class_names,
            )
    assert {*KINDS} - {*trees} == {"folder", "csv", "list"}


def test_an_index_is_equal_to_class_folders_and_csv_lists(video_folder, csv_root, tmp_path):
    import shutil

    root = shutil.copytree(video_folder, tmp_path / "folder")
    for kind, folder in (("folder", root), ("csv", csv_root)):
        split = make_index(kind, folder)
        found = open_index(kind, folder, "train")
        assert list(found.examples) == list(split.examples)
        assert found.class_names == split.class_names


def test_paths_outside_the_root_or_not_in_utf8_are_kept(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    odd = os.fsdecode(b"\xff odd.mp4")
    (root / "train.csv").write_text(f"{tmp_path}/far.mp4,x\nnear.mp4,x\n")
    split = read_lists("csv", root, "train")
    near, far = split.examples[1], split.examples[0]
    split = Split("train", (far, near, type(near)(root / odd, 0)), ("x",))
    write_index("csv", root, split, [1, 1, 1], fingerprint=fingerprint_lists("csv", root, split))
    assert list(open_index("csv", root, "train").examples) == list(split.examples)


def test_an_index_is_valid_after_its_root_was_moved(csv_root):
    make_index("csv", csv_root)
    moved = csv_root.rename(csv_root.with_name("moved"))
    assert open_index("csv", moved, "train").examples[1].path == moved / "sub/ä b.mp4"


def test_examples_are_a_sequence(csv_root):
    split = make_index("csv", csv_root)
    examples = open_index("csv", csv_root, "train").examples
    assert examples[-1] == split.examples[-1]
    assert examples[1:] == split.examples[1:]
    with pytest.raises(IndexError):
        examples[3]
    assert list(pickle.loads(pickle.dumps(examples))) == list(split.examples)


def test_the_arrays_are_mapped_from_the_file(csv_root):
    make_index("csv", csv_root)
    examples = open_index("csv", csv_root, "train").examples
    assert isinstance(examples, IndexedExamples)
    for array in (examples.paths, examples.ends, examples.labels, examples.frames):
        assert isinstance(array.base, np.memmap) and not array.flags.writeable


# ------------------------------------------------------------------------------------ freshness


def change(root: Path, name: str) -> None:
    """Change a list but not its size; its modification time becomes later by 1 ns."""
    path = root / name
    stat = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize("name", ["train.csv", "val.csv", "classes.txt"])
def test_a_changed_or_new_list_makes_the_index_stale(name, csv_root):
    (csv_root / "val.csv").write_text("a.mp4,x\n")
    make_index("csv", csv_root)
    if name == "classes.txt":
        (csv_root / name).write_text("y\nx\n")
    else:
        change(csv_root, name)
    with pytest.raises(IndexUnusable, match=rf"{name} has changed since .*csv-train.safetensors"):
        open_index("csv", csv_root, "train")


def test_with_a_stale_index_the_lists_are_read(csv_root):
    make_index("csv", csv_root)
    (csv_root / "train.csv").write_text("c.mp4,z\n")
    assert read_split("csv", csv_root, "train").class_names == ("z",)


@pytest.mark.parametrize("kind", ["something-v2", "kinetics", "ucf101-1", "hmdb51-2"])
def test_a_new_or_deleted_video_makes_the_index_stale(kind, trees, plant, tmp_path):
    root = plant(trees[kind], tmp_path)
    first = make_index(kind, root).examples[0].path
    first.unlink()
    os.utime(first.parent, ns=(0, 1))
    with pytest.raises(IndexUnusable, match="has changed since"):
        open_index(kind, root, "train")
    make_index(kind, root)
    first.touch()
    os.utime(first.parent, ns=(0, 2))
    with pytest.raises(IndexUnusable, match="has changed since"):
        open_index(kind, root, "train")


def test_a_new_class_folder_of_training_makes_the_index_of_val_stale(tmp_path):
    for name in ("train/x/a.mp4", "val/x/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    make_index("folder", tmp_path, "val")
    (tmp_path / "train" / "w").mkdir()
    os.utime(tmp_path / "train", ns=(0, 1))
    with pytest.raises(IndexUnusable, match="train has changed since"):
        open_index("folder", tmp_path, "val")


def test_without_an_index_the_reason_is_given(csv_root):
    with pytest.raises(IndexUnusable, match="there is no index"):
        open_index("csv", csv_root, "train")


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -9])
def test_with_a_damaged_index_the_lists_are_read(keep, csv_root):
    make_index("csv", csv_root)
    path = csv_root / ".motionaware" / "csv-train.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IndexUnusable, match="csv-train.safetensors is damaged"):
        open_index("csv", csv_root, "train")
    assert isinstance(read_split("csv", csv_root, "train").examples, tuple)


def test_the_index_of_a_read_only_root_is_in_the_cache_folder(csv_root, home, monkeypatch):
    def write(path: Path, content: bytes) -> None:
        if path.is_relative_to(csv_root):
            raise OSError(30, "Read-only file system")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(index_module, "write_atomically", write)
    split = make_index("csv", csv_root)
    assert not (csv_root / ".motionaware").exists()
    assert [path.name for path in home.rglob("*.safetensors")] == ["csv-train.safetensors"]
    assert list(open_index("csv", csv_root, "train").examples) == list(split.examples)
    monkeypatch.undo()


def test_an_absent_split_is_absent_with_an_index_of_others(csv_root):
    make_index("csv", csv_root)
    with pytest.raises(SplitAbsent, match=r"test\.csv does not exist"):
        read_split("csv", csv_root, "test")


# ---------------------------------------------------------------------------------- missing videos


def test_only_videos_that_were_missing_are_looked_for_again(csv_root, monkeypatch):
    make_index("csv", csv_root, "train", {"c": UNREADABLE, "ä b": MISSING})
    split = open_index("csv", csv_root, "train")
    checked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: checked.append(path.name) or exists(path))
    assert missing_examples(split) == [1]
    assert checked == ["ä b.mp4"]
    with pytest.raises(DataError, match=r"1 of the 3 videos of train do not exist.*ä b\.mp4"):
        check_videos_exist(split)
    (csv_root / "sub").mkdir()
    (csv_root / "sub" / "ä b.mp4").touch()
    check_videos_exist(split)


def test_a_split_without_its_missing_videos_is_still_indexed(csv_root):
    make_index("csv", csv_root, "train", {"ä b": MISSING})
    split = open_index("csv", csv_root, "train")
    skips = SkippedVideos(0.5)
    remaining = skips.without_missing(split)
    assert isinstance(remaining.examples, IndexedExamples)
    assert [example.path.name for example in remaining.examples] == ["a.mp4", "c.mp4"]
    assert skips.count("train") == 1
    assert [example.path.name for example in without_examples(remaining, [0]).examples] == ["c.mp4"]
    assert missing_examples(remaining) == []


def test_videos_without_labels_are_found(csv_root):
    (csv_root / "stray.mp4").touch()
    (csv_root / "notes.md").touch()
    split = read_lists("csv", csv_root, "train")
    assert unlisted_videos([split]) == [csv_root / "stray.mp4"]
