from collections import Counter
from pathlib import Path

import pytest

from motionaware.apps.prepare_split import prepare_split
from motionaware.cli import main
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import read_split
from motionaware.errors import DataError


def make_videos(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two classes of 20 and 10 videos, in which four people appear."""
    return make_videos(
        tmp_path,
        *(f"nod/p{i % 4}_{i:02d}.mp4" for i in range(20)),
        *(f"wave, twice/p{i % 4}_{i:02d}.avi" for i in range(10)),
        "nod/notes.txt",
        ".cache/a/b.mp4",
    )


def videos_of(root: Path, split: str) -> list[Path]:
    return [example.path for example in read_split("csv", root, split).examples]


def read_all(root: Path) -> dict[str, Split]:
    return {name: read_split("csv", root, name) for name in ("train", "val", "test")}


def test_every_video_is_in_one_split_and_every_class_is_split_alike(folders: Path):
    found = prepare_split(folders)
    assert found.left_out == [folders / "nod" / "notes.txt"]
    counts = found.counts
    assert counts == {
        "train": {"nod": 16, "wave, twice": 8},
        "val": {"nod": 2, "wave, twice": 1},
        "test": {"nod": 2, "wave, twice": 1},
    }
    splits = read_all(folders)
    found = [example.path for split in splits.values() for example in split.examples]
    assert len(found) == 30
    assert set(found) == {*folders.glob("nod/*.mp4"), *folders.glob("wave, twice/*.avi")}
    for name, split in splits.items():
        assert split.class_names == ("nod", "wave, twice")
        held = Counter(split.class_names[example.label] for example in split.examples)
        assert held == counts[name]
        for example in split.examples:
            assert example.path.parent.name == split.class_names[example.label]


def test_a_seed_says_the_split_and_another_one_another(tmp_path: Path):
    names = [f"nod/{i}.mp4" for i in range(30)]
    chosen = []
    for place, seed in enumerate((0, 0, 1)):
        root = make_videos(tmp_path / str(place), *names)
        prepare_split(root, seed=seed)
        chosen.append((root / "test.csv").read_text())
    assert chosen[0] == chosen[1] != chosen[2]


def test_videos_of_one_source_stay_together(folders: Path):
    prepare_split(folders, group=r"/(p\d)_", val_share=0.25, test_share=0.25)
    people = [
        {example.path.name[:2] for example in split.examples}
        for split in read_all(folders).values()
    ]
    assert sorted(map(len, people)) == [1, 1, 2]
    assert set.union(*people) == {"p0", "p1", "p2", "p3"}


def test_a_share_of_nothing_gives_no_list(folders: Path):
    assert prepare_split(folders, test_share=0.0).counts.keys() == {"train", "val"}
    assert not (folders / "test.csv").exists()


def test_class_folders_that_are_named_by_numbers_keep_their_names(tmp_path: Path):
    make_videos(tmp_path, *(f"{name}/{i}.mp4" for name in (1, 2, 10) for i in range(3)))
    prepare_split(tmp_path)
    for split in read_all(tmp_path).values():
        assert split.class_names == ("1", "10", "2")
        for example in split.examples:
            assert example.path.parent.name == split.class_names[example.label]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"val_share": 1.0}, r"val_share is 1\.0; wanted more than 0, and less than 1"),
        ({"val_share": 0.0}, r"val_share is 0\.0; wanted more than 0"),
        ({"val_share": 0.5, "test_share": 0.49}, "would come into train; choose smaller shares$"),
        ({"test_share": -0.1}, r"test_share is -0\.1; wanted"),
        ({"val_share": 0.5, "test_share": 0.5}, "leaves nothing to train on"),
        ({"group": "("}, r"group \( is no regular expression"),
        ({"group": r"(q\d)"}, r"group \(q\\d\) finds no source in 'nod/p0_00\.mp4'"),
        ({"group": "p"}, "no video of nod, wave, twice would come into .*, another group, or an"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    options: dict[str, float], words: str, folders: Path
):
    with pytest.raises(ValueError, match=words):
        prepare_split(folders, **options)  # pyright: ignore[reportArgumentType]
    assert not [*folders.glob("*.csv"), *folders.glob("*.txt")]


def test_a_class_of_two_videos_is_named_with_what_it_lacks(folders: Path):
    make_videos(folders, "yawn/a.mp4", "yawn/b.mp4")
    words = "yawn holds 2 of the 3 videos that 3 splits need; add some"
    with pytest.raises(DataError, match=words):
        prepare_split(folders)
    assert prepare_split(folders, test_share=0.0).counts["val"]["yawn"] == 1


def test_lists_and_splits_that_are_there_are_left(folders: Path):
    (folders / "val.csv").write_text("mine")
    with pytest.raises(DataError, match=r"val\.csv is there already; delete it to split anew"):
        prepare_split(folders)
    assert (folders / "val.csv").read_text() == "mine"
    assert not (folders / "train.csv").exists()
    (folders / "val.csv").unlink()
    make_videos(folders, "train/nod/a.mp4")
    with pytest.raises(DataError, match="holds train, which are names of splits .*/train, give"):
        prepare_split(folders)


def test_a_class_list_that_is_there_is_kept_if_it_names_the_folders(folders: Path):
    (folders / "classes.txt").write_text("wave, twice\nnod\n")
    prepare_split(folders)
    assert read_all(folders)["test"].class_names == ("wave, twice", "nod")
    for path in folders.glob("*.csv"):
        path.unlink()
    (folders / "classes.txt").write_text("nod\nyawn\n")
    with pytest.raises(DataError, match="and the class folders differ in wave, twice, yawn; corr"):
        prepare_split(folders)


def test_a_folder_without_class_folders_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere is no folder; give one that holds CLASS/VIDEO"):
        prepare_split(tmp_path / "nowhere")
    make_videos(tmp_path, "a.mp4")
    with pytest.raises(DataError, match="holds no class folders; wanted .*/CLASS/VIDEO"):
        prepare_split(tmp_path)


@pytest.mark.parametrize("name", [" nod", "nod\n", "no\nd"])
def test_a_class_that_a_list_cannot_name_is_refused(name: str, folders: Path):
    make_videos(folders, f"{name}/a.mp4")
    with pytest.raises(DataError, match="its name has blanks at an end, or what cannot be printed"):
        prepare_split(folders)


def test_a_class_folder_without_videos_is_named(folders: Path):
    make_videos(folders, "yawn/person/a.mp4")
    with pytest.raises(DataError, match=r"yawn holds no video; wanted .* move them up; else"):
        prepare_split(folders)


def test_one_folder_under_two_names_is_refused(folders: Path):
    (folders / "yawn").symlink_to(folders / "nod")
    with pytest.raises(DataError, match=r"yawn and \S*nod are the same folder; take one out"):
        prepare_split(folders)


def test_sources_of_any_size_may_come_into_the_test(tmp_path: Path):
    """Also the largest: who deals the large ones first has them in training each time."""
    tested = set()
    for seed in range(30):
        names = (f"nod/p{i}_{k}.mp4" for i in range(24) for k in range(2 + i % 6))
        root = make_videos(tmp_path / str(seed), *names)
        prepare_split(root, group=r"/(p\d+)_", seed=seed)
        tested |= {path.name.split("_")[0] for path in videos_of(root, "test")}
    assert {int(person[1:]) % 6 for person in tested} == {*range(6)}  # people of all sizes
    assert len(tested) > 18


def test_at_the_command_line(folders: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["prepare", "split", "--root", str(folders), "--val-share", "0.2"]) == 0
    said = capsys.readouterr().out
    assert "train        21 videos of 2 classes\n" in said
    assert f"--data.kind csv --data.root {folders}" in said
    assert main(["prepare", "split", "--root", str(folders), "--shards", "x"]) == 1
    assert "prepare split has no --shards" in capsys.readouterr().err
