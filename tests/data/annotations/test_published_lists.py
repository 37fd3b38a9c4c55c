"""Every published data set is read as published; lists with mistakes are one clear error."""

import json
import shutil
from pathlib import Path

import pytest

from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import KINDS, USER_KINDS, check_videos_exist, read_split
from motionaware.data.video.open import open_video
from motionaware.errors import DataError, SplitAbsent

PUBLISHED = sorted(KINDS.keys() - set(USER_KINDS))


def classes_by_path(split: Split, root: Path) -> dict[str, str]:
    return {
        example.path.relative_to(root).as_posix(): split.class_names[example.label]
        for example in split.examples
    }


def replace_text(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_bytes().decode()
    assert old in text
    (root / name).write_bytes(text.replace(old, new).encode())


# -------------------------------------------------------------------------------------- every kind


def test_every_published_kind_has_a_sample_tree(trees):
    assert sorted(trees) == PUBLISHED


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_published_data_set_is_read(kind, trees, plant, tmp_path):
    root = plant(trees[kind], tmp_path)
    for name, videos in trees[kind].videos.items():
        split = read_split(kind, root, name)
        assert split.name == name
        assert split.class_names == trees[kind].class_names
        assert classes_by_path(split, root) == videos
        check_videos_exist(split)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_wrong_root_is_an_error_with_the_expected_and_the_existing_files(kind, tmp_path):
    (tmp_path / "holiday pictures").mkdir()
    with pytest.raises(DataError, match=r"looked for .* holds holiday pictures$"):
        read_split(kind, tmp_path, "train")


@pytest.mark.parametrize("kind", PUBLISHED)
def test_lists_without_any_video_are_an_error_with_the_folders_searched(
    kind, trees, plant, tmp_path
):
    root = plant(trees[kind], tmp_path)
    first = Path(next(iter(trees[kind].videos["train"])))
    shutil.rmtree(root / first.parts[0])
    with pytest.raises(
        DataError, match=r"found no video of .*, for example .*; looked in .* holds "
    ):
        read_split(kind, root, "train")


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_missing_video_stays_in_the_list_and_is_named_in_the_error(kind, trees, plant, tmp_path):
    root = plant(trees[kind], tmp_path)
    missing = root / list(trees[kind].videos["train"])[-1]
    missing.unlink()
    split = read_split(kind, root, "train")
    assert missing.name in [example.path.name for example in split.examples]
    with pytest.raises(DataError, match=f"1 of the .* do not exist, first .*{missing.stem[-4:]}"):
        check_videos_exist(split)


@pytest.mark.parametrize("kind", ["something-v1", "something-v2", "kinetics", "ucf101-1"])
def test_the_videos_of_a_sample_tree_can_be_decoded(kind, trees, plant, tmp_path):
    root = plant(trees[kind], tmp_path, real=True)
    assert {
        open_video(example.path).num_frames for example in read_split(kind, root, "train").examples
    } == {10}


def test_an_unknown_kind_is_refused_with_the_nearest_kind(tmp_path):
    with pytest.raises(
        DataError, match=r"'ucf101' is unknown; did you mean 'ucf101-1'\? Choose folder"
    ):
        read_split("ucf101", tmp_path, "train")


# ---------------------------------------------------------------------- Something-Something, Jester


@pytest.mark.parametrize("kind", ["something-v1", "jester"])
def test_a_test_split_without_published_labels_is_absent(kind, trees, plant, tmp_path):
    with pytest.raises(SplitAbsent, match="test labels of .* are not published; evaluate on val"):
        read_split(kind, plant(trees[kind], tmp_path), "test")


@pytest.mark.parametrize("folder", ["annotations", "labels"])
def test_lists_and_frames_may_be_in_different_folders(folder, trees, plant, tmp_path):
    root = plant(trees["something-v1"], tmp_path)
    (root / folder).mkdir()
    for path in root.glob("*.csv"):
        path.rename(root / folder / path.name)
    (root / "20bn-something-something-v1").rename(root / "frames")
    assert "frames/7" in classes_by_path(read_split("something-v1", root, "train"), root)


def test_v2_is_read_with_its_older_list_names_and_videos_next_to_them(trees, plant, tmp_path):
    root = plant(trees["something-v2"], tmp_path)
    for name in ("labels", "train", "validation"):
        path = root / "labels" / f"{name}.json"
        path.rename(root / f"something-something-v2-{name}.json")
    for path in (root / "20bn-something-something-v2").iterdir():
        path.rename(root / f"{path.stem}.mp4")
    assert classes_by_path(read_split("something-v2", root, "val"), root) == {
        "74225.mp4": "Holding something"
    }


def test_v2_classes_are_ordered_by_number_not_by_line(trees, plant, tmp_path):
    root = plant(trees["something-v2"], tmp_path)
    names = trees["something-v2"].class_names
    numbers = {name: str(2 - index) for index, name in enumerate(names)}
    (root / "labels/labels.json").write_text(json.dumps(numbers))
    assert read_split("something-v2", root, "val").class_names == names[::-1]


def test_v2_classes_numbered_from_1_are_refused_as_one_based(trees, plant, tmp_path):
    root = plant(trees["something-v2"], tmp_path)
    names = trees["something-v2"].class_names
    numbers = {name: str(index + 1) for index, name in enumerate(names)}
    (root / "labels/labels.json").write_text(json.dumps(numbers))
    with pytest.raises(DataError, match="from 1 to 3: it is one-based; wanted 0 to 2"):
        read_split("something-v2", root, "val")


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "message"),
    [
        ("jester", "jester-v1-validation.csv", ";", ",", r"line 1: found '3,No .*', wanted id;lab"),
        ("jester", "jester-v1-validation.csv", "No g", "no g", r"did you mean 'No gesture'"),
        ("something-v2", "labels/train.json", "Holding", "Folding", "entry 1: label 'Folding some"),
        (
            "something-v2",
            "labels/train.json",
            '"id"',
            '"name"',
            "entry 1: .* wanted an object with",
        ),
        ("something-v2", "labels/train.json", "[{", "{", "train.json is not JSON: .*; download it"),
        ("something-v2", "labels/labels.json", '"2"', '"5"', r"classes \[0, 1, 5\] ..., wanted"),
        ("something-v2", "labels/labels.json", '"2"', "null", "labels.json: .* wanted the number"),
        ("something-v2", "labels/labels.json", "{", "[{", "labels.json is not JSON"),
        ("jester", "jester-v1-labels.csv", "Right", "Left", "labels.csv is empty or lists a class"),
        (
            "diving48",
            "Diving48_V2_train.json",
            '"label": 1',
            '"label": "a"',
            "label a, wanted 0 to",
        ),
        ("kinetics", "annotations/train.csv", ",40,50,train,0", "", "line 2: .*, wanted every col"),
        ("kinetics", "annotations/train.csv", "40,50", "x,50", "line 2: times 'x' and '50', wan"),
        ("kinetics", "annotations/train.csv", "youtube_id", "id", "columns label, id, .*; wanted"),
        ("ucf101-1", "ucfTrainTestlist/trainlist01.txt", ".avi 3", ".avi 2", "number 2, but 3 in"),
        ("ucf101-1", "ucfTrainTestlist/trainlist01.txt", "YoYo/", "Yoyo/", "label 'Yoyo' is not"),
        (
            "ucf101-1",
            "ucfTrainTestlist/classInd.txt",
            "1 App",
            "0 App",
            "the published list counts",
        ),
        (
            "diving48",
            "Diving48_V2_train.json",
            '"label": 1',
            '"label": 2',
            "label 2, wanted 0 to 1",
        ),
        (
            "diving48",
            "Diving48_V2_train.json",
            '1, "start_frame": 0, "end_frame": 48}, {"vid_name": "b_0", "label": 0',
            '2, "start_frame": 0, "end_frame": 48}, {"vid_name": "b_0", "label": 1',
            "labels run from 1 to 2: they look one-based; wanted 0 to 1, as published",
        ),
    ],
)
def test_a_list_with_a_mistake_is_refused_with_its_place(
    kind, name, old, new, message, trees, plant, tmp_path
):
    root = plant(trees[kind], tmp_path)
    replace_text(root, name, old, new)
    with pytest.raises(DataError, match=message):
        read_split(kind, root, "train" if "valid" not in name else "val")


# ---------------------------------------------------------------------------------------- Kinetics


@pytest.mark.parametrize("folder", ["train", "videos/train", "videos_train", "videos", "."])
@pytest.mark.parametrize("in_class_folders", [True, False])
def test_kinetics_videos_are_found_in_the_folders_of_usual_downloads(
    folder, in_class_folders, trees, plant, tmp_path
):
    root = plant(trees["kinetics"], tmp_path)
    for path in sorted((root / "train").glob("*/*.mp4")):
        target = root / folder / (path.parent.name.replace(" ", "_") if in_class_folders else "")
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    split = read_split("kinetics", root, "train")
    check_videos_exist(split)
    assert [split.class_names[example.label] for example in split.examples] == list(
        trees["kinetics"].videos["train"].values()
    )


@pytest.mark.parametrize("blank", [" ", "_"])
def test_a_missing_kinetics_clip_is_expected_in_its_class_folder(blank, trees, plant, tmp_path):
    root = plant(trees["kinetics"], tmp_path)
    for folder in sorted((root / "train").iterdir()):
        folder.rename(folder.with_name(folder.name.replace(" ", blank)))
    missing = root / "train" / "abseiling" / "ZZZZZZZZZZZ_000110_000120.mp4"
    missing.unlink()
    other = next((root / "train" / f"air{blank}drumming").iterdir())
    paths = [example.path for example in read_split("kinetics", root, "train").examples]
    assert missing in paths
    assert other in paths
    with pytest.raises(DataError, match=rf"1 of the 4 videos .* first {missing}"):
        check_videos_exist(read_split("kinetics", root, "train"))


def test_without_class_folders_a_missing_kinetics_clip_is_expected_in_its_split(
    trees, plant, tmp_path
):
    root = plant(trees["kinetics"], tmp_path)
    for path in sorted((root / "train").glob("*/*.mp4")):
        path.rename(root / "train" / path.name)
    missing = root / "train" / "ZZZZZZZZZZZ_000110_000120.mp4"
    missing.unlink()
    assert missing in [example.path for example in read_split("kinetics", root, "train").examples]


def test_uncut_youtube_videos_are_refused(trees, plant, tmp_path):
    root = plant(trees["kinetics"], tmp_path)
    for path in sorted((root / "train").glob("*/*.mp4")):
        path.rename(path.with_name(f"{path.name[:11]}.mp4"))
    message = (
        r"/_dbcJuKJQNs.mp4 is a complete YouTube video, wanted clips such as _dbcJuKJQNs_000040_0"
    )
    with pytest.raises(DataError, match=message):
        read_split("kinetics", root, "train")


def test_a_kinetics_list_without_labels_is_an_absent_split(trees, plant, tmp_path):
    with pytest.raises(SplitAbsent, match=r"test\.csv has no labels: .* evaluate on val"):
        read_split("kinetics", plant(trees["kinetics"], tmp_path), "test")


# ------------------------------------------------------------------------------ path frames label

LINES = "b/take 7 of 9 30 1\na/x 12 0\nc d 5 2\n"


@pytest.mark.parametrize("name", ["train.txt", "train_videofolder.txt"])
@pytest.mark.parametrize("classes", [None, "classes.txt", "category.txt"])
def test_paths_in_a_list_may_contain_blanks(name, classes, tmp_path):
    (tmp_path / name).write_text(LINES)
    if classes:
        (tmp_path / classes).write_text("zero\none\ntwo\n")
    split = read_split("list", tmp_path, "train")
    assert split.class_names == (("zero", "one", "two") if classes else ("0", "1", "2"))
    assert [(example.path, example.label) for example in split.examples] == [
        (tmp_path / "b/take 7 of 9", 1),
        (tmp_path / "a/x", 0),
        (tmp_path / "c d", 2),
    ]


def test_a_val_list_has_the_classes_of_the_training_list(tmp_path):
    (tmp_path / "train.txt").write_text(LINES)
    (tmp_path / "val.txt").write_text("e 9 1\n")
    assert read_split("list", tmp_path, "val").class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("lines", "classes", "message"),
    [
        ("a 9 1\nb 9 2\n", None, r"from 1 to 2: they look one-based; .*subtract 1 .* or list the"),
        ("a 9 1\nb 9 2\n", "p\nq\n", r"from 1 to 2: they look one-based; wanted .* count from 0"),
        ("a 9 0\nb 9 2\n", "p\nq\n", r"line 2: label 2, but there are 2 classes; wanted 0 to 1"),
        ("a 9\n", None, r"line 1: found 'a 9', wanted path frames label"),
        ("a nine 0\n", None, r"line 1: found 'a nine 0', wanted path frames label"),
        ("\n", None, r"train\.txt is empty; wanted lines path frames label"),
    ],
)
def test_a_tsm_list_with_a_mistake_is_refused(lines, classes, message, tmp_path):
    (tmp_path / "train.txt").write_text(lines)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(DataError, match=message):
        read_split("list", tmp_path, "train")


def test_with_a_class_list_a_split_may_lack_class_0(tmp_path):
    (tmp_path / "val.txt").write_text("a 9 1\n")
    (tmp_path / "classes.txt").write_text("p\nq\nr\n")
    assert read_split("list", tmp_path, "val").examples[0].label == 1


def test_a_missing_list_is_an_error_with_both_possible_names(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(SplitAbsent, match=r"val\.txt does not exist, nor val_videof.*; .* holds x"):
        read_split("list", tmp_path, "val")
