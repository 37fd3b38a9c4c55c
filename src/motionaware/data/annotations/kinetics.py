"""Kinetics-400, -600, -700, as published: {train,val,test}.csv, and clips cut from YouTube videos.

A line is `label,youtube_id,time_start,time_end,split`, times in seconds; some lists have further
columns. Its clip is named ID_START_END.mp4, the times in six digits, and lies in SPLIT/ or in a
class folder there. The classes are those of train.csv, in alphabetic order. Many clips are no
longer to be had: see `data.on_error`.

Source  Kay et al., The Kinetics Human Action Video Dataset, 2017, https://arxiv.org/abs/1705.06950
"""

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

from motionaware.data.annotations.split import Example, Split, find_list, locate, position, text_of
from motionaware.errors import DataError, SplitAbsent

_SPELLINGS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_COLUMNS = ("youtube_id", "time_start", "time_end")


def read_kinetics(root: Path, split: str) -> Split:
    """Read Kinetics."""
    path, rows = _rows(root, split)
    listed = rows if split == "train" else _rows(root, "train")[1]
    class_names = sorted({row["label"] for row in listed})
    positions = {name: place for place, name in enumerate(class_names)}
    places = [
        position(row["label"], positions, where=f"{path}, line {line}")
        for line, row in enumerate(rows, start=2)
    ]
    stems = [_stem(row, where=f"{path}, line {line}") for line, row in enumerate(rows, start=2)]
    folders = [
        folder
        for name in _SPELLINGS[split]
        for folder in (name, f"videos/{name}", f"videos_{name}")
    ]
    folders += ["videos", ""]
    look = partial(locate, root, folders, what=f"Kinetics {split}", suffix=".mp4")
    try:
        paths = look(stems, class_folders=[row["label"] for row in rows])
    except DataError:
        whole = _whole_video(look, rows)
        if whole is None:
            raise
        raise DataError(
            f"{whole} is a whole YouTube video, wanted clips such as {stems[0]}.mp4: of each "
            "video ten seconds show the class; cut them by the times of the list"
        ) from None
    return Split(split, tuple(map(Example, paths, places)), tuple(class_names))


def _rows(root: Path, split: str) -> tuple[Path, list[dict[str, str]]]:
    names = [f"{prefix}{name}.csv" for prefix in ("", "kinetics_") for name in _SPELLINGS[split]]
    path = find_list(root, f"the {split} list of Kinetics", names, absent=True)
    rows = list(csv.DictReader(io.StringIO(text_of(path), newline="")))
    if not rows:
        raise DataError(f"{path} is empty; wanted lines label,{','.join(_COLUMNS)}")
    columns = [name for name in rows[0] if name]
    if not set(_COLUMNS) <= set(columns):
        raise DataError(
            f"{path} has columns {', '.join(columns)}; wanted label, {', '.join(_COLUMNS)}"
        )
    if "label" not in columns:
        raise SplitAbsent(f"{path} has no labels: they are not published; judge on val")
    for line, row in enumerate(rows, start=2):
        if not all(row[key] for key in ("label", *_COLUMNS)):
            raise DataError(f"{path}, line {line}: found {list(row.values())}, wanted every column")
    return path, rows


def _stem(row: dict[str, str], *, where: str) -> str:
    try:
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: times {row['time_start']!r} and {row['time_end']!r}, wanted seconds"
        ) from error
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _whole_video(
    look: Callable[[list[str]], list[Path]], rows: list[dict[str, str]]
) -> Path | None:
    """A video that is named by its ID alone, if there is one."""
    try:
        paths = look([row["youtube_id"] for row in rows])
    except DataError:
        return None
    return next((path for path in paths if path.exists()), None)
