"""Users' class folders and CSV lists: what is read, and one clear error for each mistake."""

from pathlib import Path

import pytest
from PIL import Image

from motionaware.data.annotations.folders_and_csv import is_video
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import check_videos_exist, read_split
from motionaware.errors import DataError, SplitAbsent


def touch(root: Path, *names: str) -> Path:
    """Make empty files; reading a list does not open videos."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def classes_by_path(split: Split, root: Path) -> list[tuple[str, str]]:
    return [
        (example.path.relative_to(root).as_posix(), split.class_names[example.label])
        for example in split.examples
    ]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two classes with videos; a third without videos in training."""
    (tmp_path / "train" / "yawn").mkdir(parents=True)
    return touch(
        tmp_path,
        *("train/nod/b.mp4", "train/nod/a.webm", "train/wave/1.AVI"),
        *("val/wave/2.mp4", "val/nod/3.mp4", "test/wave/4.mp4"),
    )


# ------------------------------------------------------------------------------------ class folders


def test_class_folders_are_read_in_alphabetical_order(folders):
    split = read_split("folder", folders, "train")
    assert (split.name, split.class_names) == ("train", ("nod", "wave", "yawn"))
    assert classes_by_path(split, folders) == [
        ("train/nod/a.webm", "nod"),
        ("train/nod/b.mp4", "nod"),
        ("train/wave/1.AVI", "wave"),
    ]
    assert [example.label for example in split.examples] == [0, 0, 1]


def test_all_splits_have_the_classes_of_the_training_folder(folders):
    for name in ("val", "test"):
        split = read_split("folder", folders, name)
        assert split.class_names == ("nod", "wave", "yawn")
    assert classes_by_path(split, folders) == [("test/wave/4.mp4", "wave")]
    assert split.examples[0].label == 1


def test_without_a_training_folder_a_split_has_its_own_classes(tmp_path):
    touch(tmp_path, "test/wave/1.mp4")
    assert read_split("folder", tmp_path, "test").class_names == ("wave",)


def test_a_folder_of_frames_is_a_video(folders):
    for i in range(3):
        (folders / "val" / "nod" / "take 7").mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(folders / "val" / "nod" / "take 7" / f"frame{i}.jpg")
    assert ("val/nod/take 7", "nod") in classes_by_path(
        read_split("folder", folders, "val"), folders
    )


def test_hidden_files_and_other_files_are_ignored(folders):
    before = read_split("folder", folders, "train")
    touch(folders, "train/nod/.c.mp4", "train/nod/notes.txt", "train/.cache/x.mp4")
    touch(folders, "train/readme.mp4", "train/nod/empty folder/notes.txt")
    assert read_split("folder", folders, "train") == before


def test_a_broken_link_is_listed_and_found_missing(folders):
    (folders / "val" / "nod" / "gone.mp4").symlink_to(folders / "nowhere.mp4")
    split = read_split("folder", folders, "val")
    assert ("val/nod/gone.mp4", "nod") in classes_by_path(split, folders)
    with pytest.raises(DataError, match=r"1 of the 3 videos of val do not exist, .*gone\.mp4"):
        check_videos_exist(split)


def test_a_class_that_training_lacks_is_refused_with_the_nearest_class(folders):
    touch(folders, "val/waves/5.mp4")
    message = r"val.waves is not in the class list; did you mean 'wave'\? The 3 classes .*; rename"
    message += r" it, or make .*/train/waves$"
    with pytest.raises(DataError, match=message):
        read_split("folder", folders, "val")
    write(folders, classes="nod\nwave\nyawn\n")
    with pytest.raises(DataError, match=r"; rename it, or add it to .*/classes\.txt$"):
        read_split("folder", folders, "val")


def test_class_folders_without_splits_are_an_error_with_the_split_command(tmp_path):
    touch(tmp_path, "train/nod/a.mp4", "train/wave/b.mp4")
    message = (
        r"list its videos as splits with: motionaware prepare split --root \S+/train; or give "
    )
    with pytest.raises(SplitAbsent, match=message + rf"{tmp_path}$"):
        read_split("folder", tmp_path / "train", "train")


def test_class_folders_without_lists_are_an_error_with_the_split_command(tmp_path):
    touch(tmp_path, "nod/a.mp4", "wave/b.mp4")
    message = r"train\.csv does not exist; .* as splits with: motionaware prepare split --root "
    with pytest.raises(SplitAbsent, match=message + rf"{tmp_path}$"):
        read_split("csv", tmp_path, "train")


def test_class_folders_without_any_video_are_refused(tmp_path):
    touch(tmp_path, "train/nod/notes.txt", "train/wave/notes.txt")
    message = r"train holds no video in its 2 class folders; wanted files that end in .*\.mp4"
    with pytest.raises(DataError, match=message):
        read_split("folder", tmp_path, "train")


def test_a_split_without_class_folders_is_an_error_with_its_content(tmp_path):
    touch(tmp_path, "train/1.mp4", "train/2.mp4")
    with pytest.raises(DataError, match=r"train holds no class folder; it holds 1\.mp4, 2\.mp4"):
        read_split("folder", tmp_path, "train")


def test_an_empty_split_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train holds no class folder; it holds nothing"):
        read_split("folder", tmp_path, "train")


def test_a_missing_split_is_an_error_with_the_content_of_the_root(tmp_path):
    touch(tmp_path, "train/nod/1.mp4", *(f"extra{i}/x" for i in range(9)))
    message = r"val does not exist; wanted .*SPLIT/CLASS/VIDEO .*holds extra0, .* and 2 more"
    with pytest.raises(DataError, match=message):
        read_split("folder", tmp_path, "val")


@pytest.mark.parametrize(
    ("kind", "root", "split", "message"),
    [
        ("folders", ".", "train", "data kind 'folders' is unknown; did you mean 'folder'"),
        ("folder", ".", "valid", "split 'valid' is unknown; choose train, val, test"),
        ("csv", None, "train", "data of kind 'csv' needs its folder; set data.root"),
        ("folder", "missing", "train", "data.root .*missing is not a folder; give the folder that"),
        ("csv", "a file", "train", "data.root .*a file is not a folder"),
    ],
)
def test_a_wrong_kind_split_or_root_is_refused(tmp_path, kind, root, split, message):
    (tmp_path / "a file").touch()
    with pytest.raises(DataError, match=message):
        read_split(kind, None if root is None else tmp_path / root, split)


@pytest.mark.parametrize("name", ["a.mp4", "a.MP4", "a.b.webm", "a b.avi"])
def test_a_video_is_recognized_by_its_suffix(tmp_path, name):
    assert is_video(touch(tmp_path, name) / name)


@pytest.mark.parametrize("name", [".a.mp4", "a.txt", "mp4", "a.mp4.part"])
def test_other_files_are_not_recognized_as_videos(tmp_path, name):
    assert not is_video(touch(tmp_path, name) / name)


# --------------------------------------------------------------------------------------- CSV lists


def write(root: Path, **files: str | bytes) -> Path:
    """Write `NAME.csv`; `classes` becomes `classes.txt`."""
    for name, content in files.items():
        path = root / f"{name}.{'txt' if name == 'classes' else 'csv'}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


PLAIN = "videos/a.mp4,nod\nvideos/b.mp4,wave\nvideos/c.mp4,nod\n"
SPELLINGS = {
    "plain": PLAIN.encode(),
    "with a header": b"path,label\n" + PLAIN.encode(),
    "with a header in capitals": b"Path, LABEL\n" + PLAIN.encode(),
    "with a quoted header": b'"path","label"\n' + PLAIN.encode(),
    "with blank rows of a spreadsheet": b"path,label\n,\n" + PLAIN.encode() + b" ,\n",
    "with blank lines": PLAIN.replace("\n", "\n\n").encode(),
    "without a last line end": PLAIN.strip().encode(),
    "from Windows": PLAIN.replace("\n", "\r\n").encode(),
    "from Excel": ("path,label\n" + PLAIN).replace("\n", "\r\n").encode("utf-8-sig"),
    "from Excel, without a header": PLAIN.encode("utf-8-sig"),
    "with spaces": PLAIN.replace(",", " , ").encode(),
    "quoted": b'"videos/a.mp4","nod"\n"videos/b.mp4","wave"\n"videos/c.mp4",nod\n',
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_spellings_of_a_csv_list_are_read_the_same(tmp_path, spelling):
    split = read_split("csv", write(tmp_path, train=SPELLINGS[spelling]), "train")
    assert split.class_names == ("nod", "wave")
    assert classes_by_path(split, tmp_path) == [
        ("videos/a.mp4", "nod"),
        ("videos/b.mp4", "wave"),
        ("videos/c.mp4", "nod"),
    ]


def test_names_may_contain_commas_and_any_letters(tmp_path):
    write(tmp_path, train='"a, b.mp4","Pushing, left"\nübung/日.mp4,grüßen\n')
    assert classes_by_path(read_split("csv", tmp_path, "train"), tmp_path) == [
        ("a, b.mp4", "Pushing, left"),
        ("übung/日.mp4", "grüßen"),
    ]


def test_a_path_may_be_absolute(tmp_path):
    elsewhere = (tmp_path / "elsewhere" / "a.mp4").resolve()
    (tmp_path / "data").mkdir()
    split = read_split("csv", write(tmp_path / "data", train=f"{elsewhere},nod\n"), "train")
    assert split.examples[0].path == elsewhere


def test_all_lists_have_the_classes_of_the_training_list(tmp_path):
    write(tmp_path, train=PLAIN, val="d.mp4,wave\n")
    split = read_split("csv", tmp_path, "val")
    assert split.class_names == ("nod", "wave")
    assert split.examples[0].label == 1


@pytest.mark.parametrize(
    "content", ["wave\nyawn\nnod\n", "wave\r\n\r\n yawn \r\nnod", "\ufeffwave\nyawn\nnod\n"]
)
def test_classes_txt_sets_the_class_order(tmp_path, content):
    split = read_split("csv", write(tmp_path, train=PLAIN, classes=content), "train")
    assert split.class_names == ("wave", "yawn", "nod")
    assert [example.label for example in split.examples] == [2, 0, 2]


def test_with_classes_txt_no_training_list_is_needed(tmp_path):
    write(tmp_path, test="d.mp4,wave\n", classes="wave\nnod\n")
    assert read_split("csv", tmp_path, "test").class_names == ("wave", "nod")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train": PLAIN, "val": "path,label\nd.mp4,waves\n"},
            r"val\.csv, line 2: label 'waves' is not in the class list; did you mean 'wave'\? .*"
            r"; correct it, or add a line to .*/train\.csv$",
        ),
        (
            {"train": PLAIN, "val": "d.mp4,jump\n"},
            r"line 1: label 'jump' is not in the class list; the 2 classes are nod, wave",
        ),
        ({"train": PLAIN}, r"val\.csv does not exist; wanted lines path,label; .* holds train"),
        ({"val": PLAIN}, r"train\.csv does not exist"),
        ({"train": PLAIN, "val": ""}, r"val\.csv is empty; wanted lines path,label"),
        ({"train": PLAIN, "val": "path,label\n"}, r"val\.csv is empty"),
        (
            {"train": PLAIN, "val": "\n\na, b.mp4,nod\n"},
            r"line 3: found 'a, b\.mp4,nod', 3 columns",
        ),
        (
            {"train": PLAIN, "val": "a.mp4;nod\n"},
            r"found 'a\.mp4;nod', wanted path,label; its separator is ';', wanted ','",
        ),
        ({"train": PLAIN, "val": "a.mp4,\n"}, r"line 1: found 'a\.mp4,', whose label is empty"),
        ({"train": PLAIN, "val": ",nod\n"}, r"line 1: found ',nod', whose path is empty"),
        ({"train": PLAIN, "val": "grün.mp4,nod\n".encode("cp1252")}, r"val\.csv is not UTF-8"),
        ({"train": PLAIN, "val": PLAIN.encode("utf-16")}, r"val\.csv is not UTF-8"),
        (
            {"train": PLAIN, "val": PLAIN, "classes": "nod\nwave\nnod\n"},
            r"classes\.txt lists 'nod' 2 times; list each class once",
        ),
    ],
)
def test_a_csv_list_with_a_mistake_is_refused(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        read_split("csv", write(tmp_path, **files), "val")


def test_an_error_shows_the_first_12_classes(tmp_path):
    write(tmp_path, train="".join(f"{i}.mp4,class{i:03d}\n" for i in range(174)), val="a,b\n")
    with pytest.raises(DataError, match=r"the 174 classes are class000, .*, class011 \.\.\.;"):
        read_split("csv", tmp_path, "val")


def test_a_list_with_another_root_is_an_error_with_the_content_of_the_folder(tmp_path):
    touch(tmp_path, "videos/b.mp4")
    (tmp_path / "train.csv").write_text("b.mp4,x\nsub/c.mp4,x\n")
    message = rf"none of the 2 listed videos .*/b.mp4 first; {tmp_path} holds train.csv, videos; "
    with pytest.raises(DataError, match=message):
        check_videos_exist(read_split("csv", tmp_path, "train"))


def test_missing_videos_are_counted_and_the_first_is_named(tmp_path):
    touch(write(tmp_path, train=PLAIN), "videos/a.mp4")
    split = read_split("csv", tmp_path, "train")
    message = r"2 of the 3 videos of train do not exist, first .*b\.mp4; motionaware doctor lists"
    with pytest.raises(DataError, match=message):
        check_videos_exist(split)
    check_videos_exist(read_split("csv", touch(tmp_path, "videos/b.mp4", "videos/c.mp4"), "train"))


def test_classes_txt_sets_the_class_order_of_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "one.mp4").touch()
    (tmp_path / "classes.txt").write_text("b\nunseen\na\n")
    split = read_split("folder", tmp_path, "train")
    assert split.class_names == ("b", "unseen", "a")
    assert [example.label for example in split.examples] == [2, 0]


def test_an_empty_class_list_is_refused(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(DataError, match="classes.txt is empty; list one class a line, or delete"):
        read_split("folder", tmp_path, "train")


# ---------------------------------------------------------------------------------- numeric labels


def test_numeric_labels_are_class_indices_in_numeric_order(tmp_path):
    lines = "".join(f"{number}.mp4,{number}\n" for number in (10, 2, 0))
    split = read_split("csv", write(tmp_path, train=lines, val="v.mp4,9\n"), "train")
    assert split.class_names == tuple(map(str, range(11)))  # 10 comes after 9, not after 1
    assert [example.label for example in split.examples] == [10, 2, 0]
    assert read_split("csv", tmp_path, "val").examples[0].label == 9


def test_numeric_labels_are_indices_into_the_class_list(tmp_path):
    files = {"train": "a.mp4,1\nb.mp4,0\n", "classes": "wave\nnod\n"}
    split = read_split("csv", write(tmp_path, **files), "train")
    assert [split.class_names[example.label] for example in split.examples] == ["nod", "wave"]


def test_numeric_labels_that_are_class_names_are_names(tmp_path):
    files = {"train": "a.mp4,1\nb.mp4,2\n", "classes": "1\n2\n"}
    split = read_split("csv", write(tmp_path, **files), "train")
    assert [split.class_names[example.label] for example in split.examples] == ["1", "2"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train": "a.mp4,1\nb.mp4,2\n"},
            r"train\.csv: labels run from 1 to 2: they look one-based; wanted labels that count "
            r"from 0: subtract 1 from each, or list the classes in classes\.txt",
        ),
        (
            {"train": "a.mp4,1\nb.mp4,2\n", "classes": "wave\nnod\n"},
            r"train\.csv: labels run from 1 to 2: they look one-based",
        ),
        (
            {"train": "a.mp4,0\nb.mp4,2\n", "classes": "wave\nnod\n"},
            r"train\.csv, line 2: label 2, but there are 2 classes; wanted 0 to 1",
        ),
    ],
)
def test_numeric_labels_that_do_not_count_from_0_are_refused(files, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_split("csv", write(tmp_path, **files), "train")
