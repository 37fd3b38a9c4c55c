"""The rows of lists: `path,label` of a CSV file, `path frames label` of a TSM list.

Each kind of fault has its own message: what is in the line, what is wanted, what to do.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from motionaware.data.annotations.split import lines_of, text_of
from motionaware.data.video.base import VIDEO_SUFFIXES
from motionaware.errors import DataError

_HEADER = ["path", "label"]
_OTHER_SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
_ONE_LABEL = "one label a line is read; sets with several labels a video are not supported"

# Words that head a column of paths, or of labels, in published lists and spreadsheets: in lower
# case, without blanks, hyphens and underscores.
_PATH_WORDS = frozenset(
    {"path", "file", "filename", "filepath", "video", "videoname", "videofile", "videopath"}
    | {"videoid", "clip", "clipname", "clippath", "clipid", "name", "id", "url", "youtubeid"}
    | {"folder", "framefolder", "framedir", "image", "sample", "source", "key"}
)
_LABEL_WORDS = frozenset(
    {"label", "labelname", "labelid", "class", "classname", "classid", "category", "categoryname"}
    | {"categoryid", "action", "actionname", "activity", "gesture", "target", "tag", "y"}
)


class _Row(NamedTuple):
    """A row of a CSV file: its first line, its cells without blanks around them, and its text."""

    line: int
    cells: list[str]
    text: str


CsvRow = tuple[int, str, str]
ListRow = tuple[int, str, int]


def read_csv_rows(path: Path) -> list[CsvRow]:
    """Return line number, path and label of each row of a CSV file.

    The first row may be the header `path,label`, in any case; it is left out, and so are blank
    rows. Paths in the file are relative to its folder.

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
        if fault := _fault_of(row.cells, path.parent):
            raise DataError(f"{path}, line {row.line}: found {row.text!r}, {fault}")
    return [(row.line, row.cells[0], row.cells[1]) for row in rows]


def _csv_rows(path: Path) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text_of(path), newline=""))
    line = 1
    try:
        for row in reader:
            yield _Row(line, [cell.strip() for cell in row], ",".join(row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; wanted lines path,label") from error


def _check_no_other_header(path: Path, rows: list[_Row]) -> None:
    """Refuse a header other than `path,label`: it would become a video and a class."""
    if not rows:
        return
    line, cells, text = rows[0]
    separator = _other_separator(cells)
    cells = [cell.strip() for cell in cells[0].split(separator)] if separator else cells
    if not (_are_column_names(cells, path.parent) or _differs_from_all(rows, path.parent)):
        return
    words = [_word(cell) for cell in cells]
    swapped = words[0] in _LABEL_WORDS and not any(word in _LABEL_WORDS for word in words[1:])
    if separator:
        remedy = f"separate the columns by commas, not by {_OTHER_SEPARATORS[separator]}, and "
    elif "youtubeid" in words:
        remedy = "if this is Kinetics, set data.kind kinetics; else "
    elif len(cells) > 2:
        remedy = "keep two columns, the path and the label of each video, and "
    elif swapped:
        remedy = "swap the columns, and "
    else:
        remedy = ""
    raise DataError(
        f"{path}, line {line}: found {text!r}, which looks like a header with other "
        f"column names; wanted the header path,label, or none: {remedy}write path,label as the "
        "first line"
    )


def _are_column_names(cells: list[str], root: Path) -> bool:
    """Whether the cells are words that head columns, and the first is no file."""
    words = {_word(cell) for cell in cells}
    named = bool(words & _PATH_WORDS and words & _LABEL_WORDS) or cells == ["0", "1"]  # pandas
    return len(cells) > 1 and named and not _exists(root, cells[0])


def _word(cell: str) -> str:
    return re.sub(r"[\s_-]+", "", cell).casefold()


def _differs_from_all(rows: list[_Row], root: Path) -> bool:
    """Whether the first row names no video, the second does, and no row has the first's label."""
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
    except (OSError, ValueError):  # longer than a name can be, or with a zero byte
        return False


def _other_separator(cells: list[str]) -> str | None:
    if len(cells) != 1:
        return None
    return next((one for one in _OTHER_SEPARATORS if one in cells[0]), None)


def _fault_of(cells: list[str], root: Path) -> str | None:
    """Say what is wrong with the cells of a row; None if nothing is."""
    if any("\n" in cell or "\r" in cell for cell in cells):
        return "which goes on over several lines; wanted path,label: close the double quote"
    if len(cells) == 1:
        separator = _other_separator(cells)
        if separator:
            return f"wanted path,label; its separator is {_OTHER_SEPARATORS[separator]}, wanted ','"
        return "one column; wanted two, path,label: add the label after a comma"
    if len(cells) > 2:
        return _fault_of_columns(cells, root)
    name, label = cells
    if not name:
        return "whose path is empty; wanted path,label: write the path, or delete the line"
    if not label:
        return "whose label is empty; wanted path,label: write the label, or delete the line"
    if _has_video_suffix(label) and not _has_video_suffix(name) and not _exists(root, name):
        return "whose columns look swapped; wanted path,label: put the path first"
    return None


def _fault_of_columns(cells: list[str], root: Path) -> str:
    """Say what is wrong with a row of three columns or more."""
    if not any(cells[2:]):
        return f"{len(cells)} columns; wanted two, path,label: delete the empty ones at the end"
    # Without its blanks the path may not be found: we try the usual ways of writing one.
    for comma in (",", ", "):
        name = comma.join(cells[:-1])
        if _exists(root, name) or (_has_video_suffix(name) and not _has_video_suffix(cells[0])):
            return (
                f"{len(cells)} columns; wanted two, path,label: put a path that has a comma "
                f'between double quotes, "a, b.mp4",label'
            )
    return f"{len(cells)} columns; wanted two, path,label: {_ONE_LABEL}"


# --------------------------------------------------------------------------- path frames label


def read_list_rows(path: Path) -> list[ListRow]:
    """Return line number, path and label of each row of a list with lines `path frames label`.

    Raises:
        DataError: A line is not as wanted, or has several labels.
    """
    rows = []
    for line, content in lines_of(path):
        name, *numbers = content.rsplit(maxsplit=2)
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise DataError(
                f"{path}, line {line}: found {content!r}, wanted path frames label, separated by "
                f"blanks, the last two whole numbers{_hint_of(content)}"
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


def _hint_of(content: str) -> str:
    last = content.split()[-1]
    if re.fullmatch(r"\d+([,;|/]\d+)+", last) and " " in content:
        return f": {_ONE_LABEL}"
    if any(separator in content for separator in ",;\t|"):
        return ": separate them by blanks"
    words = {_word(cell) for cell in content.split()}
    if words & _LABEL_WORDS and words & (_PATH_WORDS | {"frames", "numframes"}):
        return ": a list has no header, delete the line"
    return ""


def _several_labels(content: str, root: Path) -> list[str]:
    """The labels of a line that has more than one; empty if the numbers belong to its path.

    A path may hold blanks and end in a number (`take 3`). So the line has several labels only if
    the path without its trailing numbers is a video and the path with them is none.
    """
    fields = content.split()
    numbers = len(fields)
    while numbers > 1 and fields[numbers - 1].isdecimal():
        numbers -= 1
    trailing = fields[numbers:]
    if len(trailing) < 3:
        return []
    longer = content.rsplit(maxsplit=2)[0]
    shorter = content.rsplit(maxsplit=len(trailing))[0]
    if _names_video(longer, root):
        return []
    no_frames = int(trailing[-2]) == 0  # as a number of frames it cannot be
    return trailing[1:] if no_frames or _names_video(shorter, root) else []
