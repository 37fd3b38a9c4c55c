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
    """No test writes to the cache of whoever runs it."""
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


def test_an_index_says_what_the_lists_say_for_every_kind(trees, plant, tmp_path):
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


def test_an_index_of_folders_and_of_paths_says_what_they_say(video_folder, csv_root, tmp_path):
    import shutil

    root = shutil.copytree(video_folder, tmp_path / "folder")
    for kind, place in (("folder", root), ("csv", csv_root)):
        split = make_index(kind, place)
        found = open_index(kind, place, "train")
        assert list(found.examples) == list(split.examples)
        assert found.class_names == split.class_names


def test_paths_outside_the_root_and_of_odd_bytes_come_back(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    odd = os.fsdecode(b"\xff odd.mp4")
    (root / "train.csv").write_text(f"{tmp_path}/far.mp4,x\nnear.mp4,x\n")
    split = read_lists("csv", root, "train")
    near, far = split.examples[1], split.examples[0]
    split = Split("train", (far, near, type(near)(root / odd, 0)), ("x",))
    write_index("csv", root, split, [1, 1, 1], fingerprint=fingerprint_lists("csv", root, split))
    assert list(open_index("csv", root, "train").examples) == list(split.examples)


def test_the_root_may_move(csv_root):
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
    """A list of the same length, a moment later."""
    path = root / name
    stat = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize("name", ["train.csv", "val.csv", "classes.txt"])
def test_a_list_that_changes_or_appears_makes_the_index_stale(name, csv_root):
    (csv_root / "val.csv").write_text("a.mp4,x\n")
    make_index("csv", csv_root)
    if name == "classes.txt":
        (csv_root / name).write_text("y\nx\n")
    else:
        change(csv_root, name)
    with pytest.raises(IndexUnusable, match=rf"{name} has changed since .*csv-train.safetensors"):
        open_index("csv", csv_root, "train")


def test_a_stale_index_gives_way_to_the_lists(csv_root):
    make_index("csv", csv_root)
    (csv_root / "train.csv").write_text("c.mp4,z\n")
    assert read_split("csv", csv_root, "train").class_names == ("z",)


@pytest.mark.parametrize("kind", ["something-v2", "kinetics", "ucf101-1", "hmdb51-2"])
def test_a_video_that_appears_or_goes_makes_the_index_stale(kind, trees, plant, tmp_path):
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


def test_without_an_index_the_reason_says_so(csv_root):
    with pytest.raises(IndexUnusable, match="there is no index"):
        open_index("csv", csv_root, "train")


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -9])
def test_a_damaged_index_gives_way_to_the_lists(keep, csv_root):
    make_index("csv", csv_root)
    path = csv_root / ".motionaware" / "csv-train.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IndexUnusable, match="csv-train.safetensors is damaged"):
        open_index("csv", csv_root, "train")
    assert isinstance(read_split("csv", csv_root, "train").examples, tuple)


def test_a_root_that_cannot_be_written_is_indexed_in_the_cache(csv_root, home, monkeypatch):
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


def test_a_split_that_is_absent_stays_absent(csv_root):
    make_index("csv", csv_root)
    with pytest.raises(SplitAbsent, match=r"test\.csv does not exist"):
        read_split("csv", csv_root, "test")


# --------------------------------------------------------------------------------- what is missing


def test_only_what_was_missing_is_looked_for_again(csv_root, monkeypatch):
    make_index("csv", csv_root, "train", {"c": UNREADABLE, "ä b": MISSING})
    split = open_index("csv", csv_root, "train")
    asked = []
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: asked.append(path.name) or exists(path))
    assert missing_examples(split) == [1]
    assert asked == ["ä b.mp4"]
    with pytest.raises(DataError, match=r"1 of the 3 videos of train do not exist.*ä b\.mp4"):
        check_videos_exist(split)
    (csv_root / "sub").mkdir()
    (csv_root / "sub" / "ä b.mp4").touch()
    check_videos_exist(split)


def test_missing_videos_are_skipped_without_leaving_the_arrays(csv_root):
    make_index("csv", csv_root, "train", {"ä b": MISSING})
    split = open_index("csv", csv_root, "train")
    skips = SkippedVideos(0.5)
    there = skips.without_missing(split)
    assert isinstance(there.examples, IndexedExamples)
    assert [example.path.name for example in there.examples] == ["a.mp4", "c.mp4"]
    assert skips.count("train") == 1
    assert [one.path.name for one in without_examples(there, [0]).examples] == ["c.mp4"]
    assert missing_examples(there) == []


def test_files_without_labels_are_found(csv_root):
    (csv_root / "stray.mp4").touch()
    (csv_root / "notes.md").touch()
    split = read_lists("csv", csv_root, "train")
    assert unlisted_videos([split]) == [csv_root / "stray.mp4"]
