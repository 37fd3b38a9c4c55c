"""Parse and check the rows of lists: `path,label` in CSV files, `path frames label` in TSM lists.

Each kind of mistake has its own error: what the line contains, what is wanted, what to do.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from motionaware.data.annotations.split import read_lines, read_text
from motionaware.data.video.base import VIDEO_SUFFIXES
from motionaware.errors import DataError

_HEADER = ["path", "label"]
_OTHER_SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
_ONE_LABEL = "one label a line is read; sets with several labels a video are not supported"

# Common column names in published lists and spreadsheets, normalized by `_normalized`.
_PATH_COLUMNS = frozenset(
    {"path", "file", "filename", "filepath", "video", "videoname", "videofile", "videopath"}
    | {"videoid", "clip", "clipname", "clippath", "clipid", "name", "id", "url", "youtubeid"}
    | {"folder", "framefolder", "framedir", "image", "sample", "source", "key"}
)
_LABEL_COLUMNS = frozenset(
    {"label", "labelname", "labelid", "class", "classname", "classid", "category", "categoryname"}
    | {"categoryid", "action", "actionname", "activity", "gesture", "target", "tag", "y"}
)


class _Row(NamedTuple):
    """A row of a CSV file.

    Attributes:
        line: Number of its first line, from 1.
        cells: The cells, stripped.
        text: The cells as written, joined by commas.
    """

    line: int
    cells: list[str]
    text: str


CsvRow = tuple[int, str, str]
"""Line number, path and label."""

ListRow = tuple[int, str, int]
"""Line number, path and label."""


def read_csv_rows(path: Path) -> list[CsvRow]:
    """Return line number, path and label of each row of a CSV file.

    A header `path,label` (in any case) and blank rows are skipped. Paths are relative to the folder
    of the file.

    Raises:
        DataError: The file has another header, a row does not have two columns, or a cell is empty.
    """
    rows = [row for row in _csv_rows(path) if any(row.cells)]
    if rows and [cell.lower() for cell in rows[0].cells] == _HEADER:
        rows = rows[1:]
    else:
        _check_no_other_header(path, rows)
    if not rows:
        raise DataError(f"{path} is empty; wanted lines path,label")
    for row in rows:
        if problem := _row_problem(row.cells, path.parent):
            raise DataError(f"{path}, line {row.line}: found {row.text!r}, {problem}")
    return [(row.line, row.cells[0], row.cells[1]) for row in rows]


def _csv_rows(path: Path) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    line = 1
    try:
        for row in reader:
            yield _Row(line, [cell.strip() for cell in row], ",".join(row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; wanted lines path,label") from error


def _check_no_other_header(path: Path, rows: list[_Row]) -> None:
    """Refuse a header other than `path,label`: it would be read as a video and a class."""
    if not rows:
        return
    line, cells, text = rows[0]
    separator = _wrong_separator(cells)
    cells = [cell.strip() for cell in cells[0].split(separator)] if separator else cells
    if not (_are_column_names(cells, path.parent) or _differs_from_all(rows, path.parent)):
        return
    columns = [_normalized(cell) for cell in cells]
    is_swapped = columns[0] in _LABEL_COLUMNS and not any(
        column in _LABEL_COLUMNS for column in columns[1:]
    )
    if separator:
        remedy = f"separate the columns by commas, not by {_OTHER_SEPARATORS[separator]}, and "
    elif "youtubeid" in columns:
        remedy = "if this is Kinetics, set data.kind kinetics; else "
    elif len(cells) > 2:
        remedy = "keep two columns, the path and the label of each video, and "
    elif is_swapped:
        remedy = "swap the columns, and "
    else:
        remedy = ""
    raise DataError(
        f"{path}, line {line}: found {text!r}, which looks like a header with other "
        f"column names; wanted the header path,label, or none: {remedy}write path,label as the "
        "first line"
    )


def _are_column_names(cells: list[str], root: Path) -> bool:
    """Return True if the cells are common column names and the first is not an existing file."""
    columns = {_normalized(cell) for cell in cells}
    is_header = bool(columns & _PATH_COLUMNS and columns & _LABEL_COLUMNS)
    is_header = is_header or cells == ["0", "1"]  # pandas writes this
    return len(cells) > 1 and is_header and not _exists(root, cells[0])


def _normalized(cell: str) -> str:
    """Return a cell in lower case without blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", cell).casefold()


def _differs_from_all(rows: list[_Row], root: Path) -> bool:
    """Return True if only the first row looks like a header.

    Its path is no video, the path of the second row is one, and no other row has its label.
    """
    first, *others = (row.cells for row in rows)
    if len(first) != 2 or not others or _names_video(first[0], root):
        return False
    labels = {cells[1] for cells in others if len(cells) == 2}
    return first[1] not in labels and _names_video(others[0][0], root)


def _names_video(name: str, root: Path) -> bool:
    return _has_video_suffix(name) or _exists(root, name)


def _has_video_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def _exists(root: Path, name: str) -> bool:
    try:
        return bool(name) and (root / name).exists()
    except (OSError, ValueError):  # too long for a file name, or contains a null byte
        return False


def _wrong_separator(cells: list[str]) -> str | None:
    """Return the separator other than a comma that a row of one cell contains; None if none."""
    if len(cells) != 1:
        return None
    return next((separator for separator in _OTHER_SEPARATORS if separator in cells[0]), None)


def _row_problem(cells: list[str], root: Path) -> str | None:
    """Return, for an error, what is wrong with a row; None if it is valid."""
    if any("\n" in cell or "\r" in cell for cell in cells):
        return "which spans several lines; wanted path,label: close the double quote"
    if len(cells) == 1:
        separator = _wrong_separator(cells)
        if separator:
            return f"wanted path,label; its separator is {_OTHER_SEPARATORS[separator]}, wanted ','"
        return "one column; wanted two, path,label: add the label after a comma"
    if len(cells) > 2:
        return _extra_columns_problem(cells, root)
    name, label = cells
    if not name:
        return "whose path is empty; wanted path,label: write the path, or delete the line"
    if not label:
        return "whose label is empty; wanted path,label: write the label, or delete the line"
    if _has_video_suffix(label) and not _has_video_suffix(name) and not _exists(root, name):
        return "whose columns look swapped; wanted path,label: put the path first"
    return None


def _extra_columns_problem(cells: list[str], root: Path) -> str:
    """Return, for an error, what is wrong with a row of three or more columns."""
    if not any(cells[2:]):
        return f"{len(cells)} columns; wanted two, path,label: delete the empty ones at the end"
    # Stripping the cells removed the blank after a comma: try the path with and without it.
    for comma in (",", ", "):
        name = comma.join(cells[:-1])
        if _exists(root, name) or (_has_video_suffix(name) and not _has_video_suffix(cells[0])):
            return (
                f"{len(cells)} columns; wanted two, path,label: put a path that contains a comma "
                f'between double quotes, "a, b.mp4",label'
            )
    return f"{len(cells)} columns; wanted two, path,label: {_ONE_LABEL}"


# --------------------------------------------------------------------------- path frames label


def read_list_rows(path: Path) -> list[ListRow]:
    """Return line number, path and label of each row of a list with lines `path frames label`.

    Raises:
        DataError: A line has another format, or several labels.
    """
    rows = []
    for line, content in read_lines(path):
        name, *numbers = content.rsplit(maxsplit=2)
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise DataError(
                f"{path}, line {line}: found {content!r}, wanted path frames label, separated by "
                f"blanks, the last two whole numbers{_format_hint(content)}"
            )
        if labels := _several_labels(content, path.parent):
            raise DataError(
                f"{path}, line {line}: found {content!r}, which has {len(labels)} labels, "
                f"{' '.join(labels)}; wanted path frames label: {_ONE_LABEL}"
            )
        rows.append((line, name, int(numbers[1])))
    if not rows:
        raise DataError(f"{path} is empty; wanted lines path frames label")
    return rows


def _format_hint(content: str) -> str:
    """Return, for an error, the likely mistake in a line that is not `path frames label`."""
    last = content.split()[-1]
    if re.fullmatch(r"\d+([,;|/]\d+)+", last) and " " in content:
        return f": {_ONE_LABEL}"
    if any(separator in content for separator in ",;\t|"):
        return ": separate them by blanks"
    columns = {_normalized(cell) for cell in content.split()}
    if columns & _LABEL_COLUMNS and columns & (_PATH_COLUMNS | {"frames", "numframes"}):
        return ": a list has no header, delete the line"
    return ""


def _several_labels(content: str, root: Path) -> list[str]:
    """Return the labels of a line that has more than one; empty if it has one label.

    A path may contain blanks and end with a number (`take 3`). So a line has several labels only
    if the path without its trailing numbers is a video, and the path with them is not.
    """
    fields = content.split()
    num_path_fields = len(fields)
    while num_path_fields > 1 and fields[num_path_fields - 1].isdecimal():
        num_path_fields -= 1
    numbers = fields[num_path_fields:]
    if len(numbers) < 3:
        return []
    path_with_numbers = content.rsplit(maxsplit=2)[0]
    path_without_numbers = content.rsplit(maxsplit=len(numbers))[0]
    if _names_video(path_with_numbers, root):
        return []
    is_not_a_length = int(numbers[-2]) == 0  # no video has 0 frames
    return numbers[1:] if is_not_a_length or _names_video(path_without_numbers, root) else []
