"""Kinetics-400, -600 and -700 as published: {train,val,test}.csv and clips of YouTube videos.

A line is `label,youtube_id,time_start,time_end,split`, times in seconds; some lists have further
columns. The file of a clip is ID_START_END.mp4 with six-digit times, in SPLIT/ or in a class folder
there. Classes are those of train.csv in alphabetical order. Many clips are no longer available:
`data.on_error skip` leaves them out.

Source  Kay et al., The Kinetics Human Action Video Dataset, 2017, https://arxiv.org/abs/1705.06950
"""

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

from motionaware.data.annotations.split import (
    Example,
    Split,
    class_index,
    find_list,
    locate_videos,
    read_text,
)
from motionaware.errors import DataError, SplitAbsent

_SPELLINGS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_COLUMNS = ("youtube_id", "time_start", "time_end")


def read_kinetics(root: Path, split: str) -> Split:
    """Read one split of Kinetics."""
    path, rows = _rows(root, split)
    train_rows = rows if split == "train" else _rows(root, "train")[1]
    class_names = sorted({row["label"] for row in train_rows})
    indices = {name: index for index, name in enumerate(class_names)}
    labels = [
        class_index(row["label"], indices, where=f"{path}, line {line}")
        for line, row in enumerate(rows, start=2)
    ]
    stems = [_stem(row, where=f"{path}, line {line}") for line, row in enumerate(rows, start=2)]
    folders = [
        folder
        for name in _SPELLINGS[split]
        for folder in (name, f"videos/{name}", f"videos_{name}")
    ]
    folders += ["videos", ""]
    locate = partial(locate_videos, root, folders, what=f"Kinetics {split}", suffix=".mp4")
    try:
        paths = locate(stems, class_folders=[row["label"] for row in rows])
    except DataError:
        uncut = _find_uncut_video(locate, rows)
        if uncut is None:
            raise
        raise DataError(
            f"{uncut} is a complete YouTube video, wanted clips such as {stems[0]}.mp4: the class "
            "is shown for ten seconds of each video; cut the videos by the times in the list"
        ) from None
    return Split(split, tuple(map(Example, paths, labels)), tuple(class_names))


def _rows(root: Path, split: str) -> tuple[Path, list[dict[str, str]]]:
    """Return the list of a split and its rows, by column name."""
    names = [f"{prefix}{name}.csv" for prefix in ("", "kinetics_") for name in _SPELLINGS[split]]
    path = find_list(root, f"the {split} list of Kinetics", names, is_optional=True)
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if not rows:
        raise DataError(f"{path} is empty; wanted lines label,{','.join(_COLUMNS)}")
    columns = [name for name in rows[0] if name]
    if not set(_COLUMNS) <= set(columns):
        raise DataError(
            f"{path} has columns {', '.join(columns)}; wanted label, {', '.join(_COLUMNS)}"
        )
    if "label" not in columns:
        raise SplitAbsent(f"{path} has no labels: they are not published; evaluate on val")
    for line, row in enumerate(rows, start=2):
        if not all(row[key] for key in ("label", *_COLUMNS)):
            raise DataError(f"{path}, line {line}: found {list(row.values())}, wanted every column")
    return path, rows


def _stem(row: dict[str, str], *, where: str) -> str:
    """Return the name of a clip without suffix."""
    try:
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: times {row['time_start']!r} and {row['time_end']!r}, wanted seconds"
        ) from error
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _find_uncut_video(
    locate: Callable[[list[str]], list[Path]], rows: list[dict[str, str]]
) -> Path | None:
    """Return a video that is named by its ID alone, so was not cut into a clip; None if none is."""
    try:
        paths = locate([row["youtube_id"] for row in rows])
    except DataError:
        return None
    return next((path for path in paths if path.exists()), None)
