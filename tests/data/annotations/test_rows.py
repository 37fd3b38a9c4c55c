"""The rows of lists: what is read, and one clear error for each kind of mistake."""

from pathlib import Path

import pytest

from motionaware.data.annotations.rows import read_csv_rows, read_list_rows
from motionaware.data.annotations.table import read_split
from motionaware.errors import DataError


def write(root: Path, text: str, *videos: str) -> Path:
    """Write a list, and empty files for the videos that should exist."""
    for name in videos:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    path = root / "train.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "header",
    [
        "file,class",
        "File Name,Class",
        "video,label",
        "video_path,category",
        "youtube_id,label",
        "label,path",
        "path,label,split",
        "path,start,end,label",
        ",path,label",  # pandas, with its index
        "0,1",  # pandas, without column names
        "filename;category",
        "video\tlabel",
        "\ufefffile,class",
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_header_with_other_column_names_is_refused(header: str, exists: bool, tmp_path: Path):
    separator = next((mark for mark in ";\t" if mark in header), ",")
    rows = "".join(f"{name}{separator}{label}\n" for name, label in (("a.mp4", 0), ("b.mp4", 1)))
    path = write(tmp_path, f"{header}\n{rows}", *(("a.mp4", "b.mp4") if exists else ()))
    with pytest.raises(
        DataError, match=r"line 1: found .* looks like a header .* path,label"
    ) as error:
        read_csv_rows(path)
    assert header.lstrip("\ufeff").replace("\t", "\\t") in str(error.value)


def test_a_header_in_another_language_is_refused(tmp_path: Path):
    path = write(tmp_path, "Datei,Klasse\na.mp4,walk\nb.mp4,run\n")
    with pytest.raises(DataError, match="line 1: found 'Datei,Klasse', which looks like a header"):
        read_csv_rows(path)


def test_a_header_before_folders_of_frames_is_refused(tmp_path: Path):
    path = write(tmp_path, "Ordner,Klasse\na,walk\nb,run\n", "a/1.jpg", "b/1.jpg")
    with pytest.raises(DataError, match="line 1: found 'Ordner,Klasse', which looks like a header"):
        read_csv_rows(path)


def test_a_header_in_one_of_three_lists_is_refused(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    rows = "a.mp4,walk\nb.mp4,run\n"
    for split, text in (("train", rows), ("val", "path,label\n" + rows), ("test", "x,y\n" + rows)):
        (tmp_path / f"{split}.csv").write_text(text)
    assert len(read_split("csv", tmp_path, "train").examples) == 2
    assert len(read_split("csv", tmp_path, "val").examples) == 2
    with pytest.raises(DataError, match=r"test\.csv, line 1: found 'x,y', which looks like a head"):
        read_split("csv", tmp_path, "test")


def test_swapped_columns_with_a_header_are_recognized(tmp_path: Path):
    with pytest.raises(DataError, match="swap the columns, and write path,label as the first line"):
        read_csv_rows(write(tmp_path, "label,path\nwalk,a.mp4\n"))


def test_a_kinetics_list_is_recognized(tmp_path: Path):
    with pytest.raises(DataError, match="if this is Kinetics, set data.kind kinetics"):
        read_csv_rows(write(tmp_path, "label,youtube_id,time_start,time_end,split\nwalk,a,0,9,x\n"))


@pytest.mark.parametrize(
    ("text", "videos"),
    [
        ("file,class\nb,run\n", ("file/1.jpg",)),  # a folder with this name
        ("gone.mp4,walk\na.mp4,run\n", ("a.mp4",)),  # a missing video
        ("gone,walk\na,run\nb,walk\n", ("a/1.jpg", "b/1.jpg")),  # other videos have its class
    ],
)
def test_a_first_row_that_may_be_a_video_is_not_a_header(
    text: str, videos: tuple[str, ...], tmp_path: Path
):
    rows = read_csv_rows(write(tmp_path, text, *videos))
    assert len(rows) == text.count("\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.mp4,", r"found 'b\.mp4,', whose label is empty; .* write the label, or delete the li"),
        (",walk", "found ',walk', whose path is empty; .* write the path, or delete the line"),
        ("b.mp4", r"found 'b\.mp4', one column; .* add the label after a comma"),
        ("b.mp4 walk", r"found 'b\.mp4 walk', one column; wanted two"),
        ("b.mp4;walk", r"its separator is ';', wanted ','"),
        ("b.mp4\twalk", "its separator is a tab, wanted ','"),
        ("b.mp4,walk,30", "3 columns; wanted two, path,label: one label a line is read"),
        ("b.mp4,walk,run", "3 columns; wanted two, path,label: one label a line is read"),
        ("b.mp4,walk,,", "4 columns; wanted two, path,label: delete the empty ones at the end"),
        (
            "b, c.mp4,walk",
            'put a path that contains a comma between double quotes, "a, b.mp4",label',
        ),
        ("x,y,walk", "put a path that contains a comma between double quotes"),
        ('"b.mp4,walk\nc.mp4,run', "which spans several lines; .* close the double quote"),
        ("walk,b.mp4", "whose columns look swapped; .* put the path first"),
    ],
)
def test_each_kind_of_mistake_in_a_row_has_its_own_error(row: str, message: str, tmp_path: Path):
    path = write(tmp_path, f"a.mp4,walk\n\n{row}\n", "a.mp4", "x,y/1.jpg")
    with pytest.raises(DataError, match=rf"train\.csv, line 3: .*{message}") as error:
        read_csv_rows(path)
    assert ("double quotes" in str(error.value)) == ("double quotes" in message)


def test_a_cell_that_is_too_long_for_csv_is_one_error(tmp_path: Path):
    with pytest.raises(DataError, match=r"line 2: field larger than .*; wanted lines path,label"):
        read_csv_rows(write(tmp_path, f"a.mp4,walk\nb.mp4,{'x' * 200_000}\n"))


def test_line_numbers_count_quoted_line_breaks(tmp_path: Path):
    path = write(tmp_path, 'a.mp4,walk\n"b.mp4\n",run\nc.mp4,\n')
    with pytest.raises(DataError, match="line 4: .* whose label is empty"):
        read_csv_rows(path)


# --------------------------------------------------------------------------- path frames label


@pytest.mark.parametrize(
    "row", ["vid/a 12 0 2", "vid/a 12 1 2", "vid/a 12 0 1 2", "x.mp4 12 0 2", "gone 12 0 2"]
)
def test_several_labels_on_a_line_are_refused(row: str, tmp_path: Path):
    path = write(tmp_path, f"vid/a 12 1\n{row}\n", "vid/a/1.jpg")
    message = "line 2: .* has . labels, .* one label a line is read; sets with several labels"
    if row == "gone 12 0 2":  # 0 is no number of frames, so it is a label
        message = "line 2: .* one label a line is read"
    with pytest.raises(DataError, match=message):
        read_list_rows(path)


def test_a_path_may_end_with_a_number(tmp_path: Path):
    path = write(tmp_path, "take 3 120 5\nother 7 12 0\n", "take 3/1.jpg", "take/1.jpg")
    assert read_list_rows(path) == [(1, "take 3", 5), (2, "other 7", 0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("vid/a 12 0,2", "one label a line is read"),
        ("vid/a,12,0", "separate them by blanks"),
        ("vid/a 12 walk", "the last two whole numbers$"),
        ("vid/a 0", "wanted path frames label"),
        ("path frames label", "a list has no header, delete the line"),
    ],
)
def test_a_line_with_another_format_is_an_error_with_the_reason(
    row: str, message: str, tmp_path: Path
):
    with pytest.raises(DataError, match=rf"line 1: .*{message}"):
        read_list_rows(write(tmp_path, f"{row}\nvid/a 12 1\n"))
