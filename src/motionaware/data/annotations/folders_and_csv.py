"""Readers for users' own data sets: class folders, CSV files and TSM lists.

`folder`  ROOT/train/CLASS/video.mp4 or ROOT/train/CLASS/VIDEO/frame_0001.jpg; the same for val and
          test.
`csv`     ROOT/train.csv with lines `path,label`; the same for val and test. Paths are relative to
          ROOT. Labels are class names; if all are whole numbers, they are indices from 0 into
          classes.txt.
`list`    ROOT/train.txt with lines `path frames label`, the format of TSM's tools; the same for
          val and test. Labels are indices from 0.

`folder` and `csv` take the classes of the training split in alphabetical order. ROOT/classes.txt,
one class a line, sets another order. Text files are UTF-8, with or without a byte order mark.
"""

import shlex
from collections import Counter
from pathlib import Path

from motionaware.data.annotations.rows import CsvRow, ListRow, read_csv_rows, read_list_rows
from motionaware.data.annotations.split import (
    SHARD_INDEX,
    SPLITS,
    Example,
    Split,
    class_hint,
    class_index,
    contents,
    read_lines,
    root_contents,
)
from motionaware.data.video.base import VIDEO_SUFFIXES
from motionaware.data.video.frame_folder import is_frame_folder
from motionaware.data.video.webp import is_animated_webp
from motionaware.errors import DataError, SplitAbsent


def is_video(path: Path) -> bool:
    """Return True if a path is a folder of frames or has the suffix of a video."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_frame_folder(path)
    return path.suffix.lower() in VIDEO_SUFFIXES or is_animated_webp(path)


def detect_kind(root: str | Path) -> str:
    """Return `shards`, `folder`, `csv` or `list` by the names in a folder; `folder` if unsure."""
    folder = Path(root)
    if (folder / SHARD_INDEX).is_file():
        return "shards"
    return _detect_lists(folder) or "folder"


def _detect_lists(root: Path) -> str | None:
    """Return `folder`, `csv` or `list` by the names in a folder; None if no name shows it.

    Split folders take precedence over CSV files, and these over TSM lists.
    """
    if any((root / name).is_dir() for name in SPLITS):
        return "folder"
    if any((root / f"{name}.csv").is_file() for name in SPLITS):
        return "csv"
    if any((root / pattern.format(name)).is_file() for pattern in _LISTS for name in SPLITS):
        return "list"
    return None


def _kind_hint(root: Path, kind: str) -> str:
    """Return, for an error, the kind that fits the folder better, or how to split its videos."""
    if not root.is_dir():
        return ""
    detected = _detect_lists(root)
    if detected not in (None, kind):
        return (
            f"; it looks like data.kind {detected} (--data.kind {detected}; for doctor, evaluate "
            f"and visualize --kind {detected})"
        )
    if detected is None and _has_class_folders(root):
        command = shlex.join(["motionaware", "prepare", "split", "--root", str(root)])
        return f"; list its videos as splits with: {command}"
    return ""


def _has_class_folders(root: Path) -> bool:
    """Return True if a folder contains folders of videos that are not named like splits."""
    folders = (path for path in root.iterdir() if path.is_dir() and path.name not in SPLITS)
    return any(is_video(video) for folder in folders for video in folder.iterdir())


# ---------------------------------------------------------------------------------- class folders


def read_folder(root: Path, split: str) -> Split:
    """Read `SPLIT/CLASS/VIDEO`."""
    class_names = read_class_list(root) or _class_folders(
        root, "train" if (root / "train").is_dir() else split
    )
    folders = _class_folders(root, split)
    for name in folders:
        if name not in class_names:
            raise DataError(
                f"{root / split / name} is not in the class list; {class_hint(name, class_names)}"
                f"; rename it, or {_add_class_remedy(root, f'make {root}/train/{name}')}"
            )
    examples = tuple(
        Example(path, class_names.index(name))
        for name in folders
        for path in sorted((root / split / name).iterdir())
        if is_video(path)
    )
    if not examples:
        raise DataError(
            f"{root / split} holds no video in its {len(folders)} class folders; wanted files that "
            f"end in {' '.join(sorted(VIDEO_SUFFIXES))}, or folders of frames"
        )
    return Split(split, examples, class_names)


def _class_folders(root: Path, split: str) -> tuple[str, ...]:
    folder = root / split
    if not folder.is_dir():
        hint = _kind_hint(root, "folder")
        if hint and root.name in SPLITS:
            hint += f"; or give {root.parent}"
        raise SplitAbsent(
            f"{folder} does not exist; wanted {root}/SPLIT/CLASS/VIDEO with SPLIT one of "
            f"{', '.join(SPLITS)}; {root_contents(root)}{hint}"
        )
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise DataError(f"{folder} holds no class folder; it holds {contents(folder)}")
    return tuple(names)


# -------------------------------------------------------------------------------------- path,label


def read_csv(root: Path, split: str) -> Split:
    """Read `SPLIT.csv`, lines `path,label`."""
    path = root / f"{split}.csv"
    rows = _csv_rows(path)
    class_names = read_class_list(root)
    train_rows = rows if split == "train" or class_names else _train_csv_rows(root)
    if _are_indices(train_rows + rows, class_names or ()):
        train_list = root / "train.csv", _with_int_labels(train_rows)
        return _indexed_split(root, split, path, _with_int_labels(rows), class_names, train_list)
    if class_names is None:
        class_names = tuple(sorted({label for _, _, label in train_rows}))
    indices = {name: index for index, name in enumerate(class_names)}
    remedy = f"; correct it, or {_add_class_remedy(root, f'add a line to {root}/train.csv')}"
    examples = [
        Example(
            root / video, class_index(label, indices, where=f"{path}, line {line}", remedy=remedy)
        )
        for line, video, label in rows
    ]
    return Split(split, tuple(examples), class_names)


def _are_indices(rows: list[CsvRow], class_names: tuple[str, ...]) -> bool:
    """Return True if all labels are whole numbers and some are not names of classes."""
    labels = {label for _, _, label in rows}
    return all(label.isdecimal() for label in labels) and not labels <= {*class_names}


def _with_int_labels(rows: list[CsvRow]) -> list[ListRow]:
    return [(line, path, int(label)) for line, path, label in rows]


def _train_csv_rows(root: Path) -> list[CsvRow]:
    try:
        return _csv_rows(root / "train.csv")
    except SplitAbsent as error:  # the requested split exists, only the class order is missing
        raise DataError(f"{error}; or list the classes in classes.txt") from error


def _csv_rows(path: Path) -> list[CsvRow]:
    if not path.is_file():
        raise SplitAbsent(
            f"{path} does not exist; wanted lines path,label; {root_contents(path.parent)}"
            f"{_kind_hint(path.parent, 'csv')}"
        )
    return read_csv_rows(path)


def _add_class_remedy(root: Path, otherwise: str) -> str:
    """Return, for an error, how to add a class: in classes.txt if it exists, else `otherwise`."""
    path = root / "classes.txt"
    return f"add it to {path}" if path.is_file() else otherwise


def read_class_list(root: Path, name: str = "classes.txt") -> tuple[str, ...] | None:
    """Read the class list of a data set, one class a line; None if it has none.

    Raises:
        DataError: The list is empty, or it contains a class twice.
    """
    path = root / name
    if not path.is_file():
        return None
    class_names = tuple(line for _, line in read_lines(path))
    for class_name, count in Counter(class_names).items():
        if count > 1:
            raise DataError(f"{path} lists {class_name!r} {count} times; list each class once")
    if not class_names:
        raise DataError(f"{path} is empty; list one class a line, or delete it")
    return class_names


# ------------------------------------------------------------------------------- path frames label

_LISTS = ("{}.txt", "{}_videofolder.txt")  # TSM's tools write the second name
_CLASS_LISTS = ("classes.txt", "category.txt")


def read_list(root: Path, split: str) -> Split:
    """Read `SPLIT.txt` or `SPLIT_videofolder.txt`, lines `path frames label`.

    A path may contain blanks; it is absolute or relative to ROOT. The number of frames is ignored:
    frames are counted when a video is opened. Classes come from classes.txt or category.txt;
    without either, the class names are the numbers.
    """
    path, rows = _list_rows(root, split)
    class_lists = (read_class_list(root, name) for name in _CLASS_LISTS)
    class_names = next((names for names in class_lists if names), None)
    train_list = path, rows
    if class_names is None and split != "train":
        train_list = _list_rows(root, "train")
    return _indexed_split(root, split, path, rows, class_names, train_list)


def _indexed_split(
    root: Path,
    split: str,
    path: Path,
    rows: list[ListRow],
    class_names: tuple[str, ...] | None,
    train_list: tuple[Path, list[ListRow]],
) -> Split:
    """Make a split whose labels are class indices.

    Without class names, the classes are the numbers up to the largest label of the training list.
    """
    if class_names is None:
        class_names = tuple(map(str, range(1 + max(label for _, _, label in train_list[1]))))
        _check_zero_based(*train_list, num_classes=None)
    else:
        _check_zero_based(path, rows, num_classes=len(class_names))
    for line, _, label in rows:
        if label >= len(class_names):
            raise DataError(
                f"{path}, line {line}: label {label}, but there are {len(class_names)} classes; "
                f"wanted 0 to {len(class_names) - 1}"
            )
    return Split(split, tuple(Example(root / p, label) for _, p, label in rows), class_names)


def _list_rows(root: Path, split: str) -> tuple[Path, list[ListRow]]:
    """Return the list file of a split and its rows."""
    names = [name.format(split) for name in _LISTS]
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        raise SplitAbsent(
            f"{root / names[0]} does not exist, nor {names[1]}; wanted lines path frames label; "
            f"{root_contents(root)}"
        )
    return path, read_list_rows(path)


def _check_zero_based(path: Path, rows: list[ListRow], *, num_classes: int | None) -> None:
    """Refuse labels that count from 1: each video would get the next class.

    Labels look one-based if 0 is missing and the largest equals `num_classes`, or, without a class
    list, if 0 is missing.
    """
    low, high = (pick(label for _, _, label in rows) for pick in (min, max))
    if low > 0 and num_classes in (None, high):
        raise DataError(
            f"{path}: labels run from {low} to {high}: they look one-based; wanted labels that "
            "count from 0: subtract 1 from each"
            + ("" if num_classes else ", or list the classes in classes.txt")
        )
