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
    """Two classes of 20 and 10 videos, which show four people."""
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


def test_each_video_is_in_one_split_and_each_class_has_the_same_shares(folders: Path):
    found = prepare_split(folders)
    assert found.ignored == [folders / "nod" / "notes.txt"]
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


def test_the_split_depends_only_on_the_seed(tmp_path: Path):
    names = [f"nod/{i}.mp4" for i in range(30)]
    chosen = []
    for place, seed in enumerate((0, 0, 1)):
        root = make_videos(tmp_path / str(place), *names)
        prepare_split(root, seed=seed)
        chosen.append((root / "test.csv").read_text())
    assert chosen[0] == chosen[1] != chosen[2]


def test_videos_of_one_source_come_into_the_same_split(folders: Path):
    prepare_split(folders, group=r"/(p\d)_", val_share=0.25, test_share=0.25)
    people = [
        {example.path.name[:2] for example in split.examples}
        for split in read_all(folders).values()
    ]
    assert sorted(map(len, people)) == [1, 1, 2]
    assert set.union(*people) == {"p0", "p1", "p2", "p3"}


def test_a_test_share_of_0_writes_no_test_list(folders: Path):
    assert prepare_split(folders, test_share=0.0).counts.keys() == {"train", "val"}
    assert not (folders / "test.csv").exists()


def test_class_folders_with_numbers_as_names_keep_their_names(tmp_path: Path):
    make_videos(tmp_path, *(f"{name}/{i}.mp4" for name in (1, 2, 10) for i in range(3)))
    prepare_split(tmp_path)
    for split in read_all(tmp_path).values():
        assert split.class_names == ("1", "10", "2")
        for example in split.examples:
            assert example.path.parent.name == split.class_names[example.label]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 1.0}, r"val_share is 1\.0; wanted more than 0 and less than 1"),
        ({"val_share": 0.0}, r"val_share is 0\.0; wanted more than 0"),
        (
            {"val_share": 0.5, "test_share": 0.49},
            "train would have no video of .*; choose smaller shares$",
        ),
        ({"test_share": -0.1}, r"test_share is -0\.1; wanted"),
        ({"val_share": 0.5, "test_share": 0.5}, "leaves no training videos"),
        ({"group": "("}, r"group \( is not a regular expression"),
        ({"group": r"(q\d)"}, r"expression \(q\\d\) \(--group\) does not match 'nod/p0_00\.mp4'"),
        ({"group": "p"}, "would have no video of nod, wave, twice; .*, another group, or an"),
    ],
)
def test_wrong_options_are_refused_and_no_file_is_written(
    options: dict[str, float], message: str, folders: Path
):
    with pytest.raises(ValueError, match=message):
        prepare_split(folders, **options)  # pyright: ignore[reportArgumentType]
    assert not [*folders.glob("*.csv"), *folders.glob("*.txt")]


def test_the_error_names_a_class_with_too_few_videos(folders: Path):
    make_videos(folders, "yawn/a.mp4", "yawn/b.mp4")
    message = "yawn holds 2 of the 3 videos that 3 splits need; add some"
    with pytest.raises(DataError, match=message):
        prepare_split(folders)
    assert prepare_split(folders, test_share=0.0).counts["val"]["yawn"] == 1


def test_existing_lists_and_splits_are_not_changed(folders: Path):
    (folders / "val.csv").write_text("mine")
    with pytest.raises(DataError, match=r"val\.csv already exists; delete it to split again"):
        prepare_split(folders)
    assert (folders / "val.csv").read_text() == "mine"
    assert not (folders / "train.csv").exists()
    (folders / "val.csv").unlink()
    make_videos(folders, "train/nod/a.mp4")
    with pytest.raises(DataError, match="holds train, which are names of splits, .*/train, give"):
        prepare_split(folders)


def test_an_existing_class_list_is_kept_if_it_matches_the_folders(folders: Path):
    (folders / "classes.txt").write_text("wave, twice\nnod\n")
    prepare_split(folders)
    assert read_all(folders)["test"].class_names == ("wave, twice", "nod")
    for path in folders.glob("*.csv"):
        path.unlink()
    (folders / "classes.txt").write_text("nod\nyawn\n")
    with pytest.raises(DataError, match="and the class folders differ in wave, twice, yawn; corr"):
        prepare_split(folders)


def test_a_folder_without_class_folders_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere is not a folder; give one that holds CLASS/VIDEO"):
        prepare_split(tmp_path / "nowhere")
    make_videos(tmp_path, "a.mp4")
    with pytest.raises(DataError, match="holds no class folders; wanted .*/CLASS/VIDEO"):
        prepare_split(tmp_path)


@pytest.mark.parametrize("name", [" nod", "nod\n", "no\nd"])
def test_a_class_name_that_a_list_cannot_hold_is_refused(name: str, folders: Path):
    make_videos(folders, f"{name}/a.mp4")
    with pytest.raises(DataError, match="its name starts or ends with a blank, or has a"):
        prepare_split(folders)


def test_the_error_names_a_class_folder_without_videos(folders: Path):
    make_videos(folders, "yawn/person/a.mp4")
    with pytest.raises(DataError, match=r"yawn holds no video; wanted .* move them up; otherwise"):
        prepare_split(folders)


def test_a_link_to_another_class_folder_is_refused(folders: Path):
    (folders / "yawn").symlink_to(folders / "nod")
    with pytest.raises(DataError, match=r"yawn and \S*nod are the same folder; remove one"):
        prepare_split(folders)


def test_sources_of_any_size_can_come_into_the_test_split(tmp_path: Path):
    # An algorithm that assigns large sources first would always assign them to training.
    tested = set()
    for seed in range(30):
        names = (f"nod/p{i}_{k}.mp4" for i in range(24) for k in range(2 + i % 6))
        root = make_videos(tmp_path / str(seed), *names)
        prepare_split(root, group=r"/(p\d+)_", seed=seed)
        tested |= {path.name.split("_")[0] for path in videos_of(root, "test")}
    assert {int(person[1:]) % 6 for person in tested} == {*range(6)}  # people of all sizes
    assert len(tested) > 18


def test_the_command_prints_the_size_of_each_split(
    folders: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["prepare", "split", "--root", str(folders), "--val-share", "0.2"]) == 0
    printed = capsys.readouterr().out
    assert "train        21 videos of 2 classes\n" in printed
    assert f"--data.kind csv --data.root {folders}" in printed
