"""Data sets of your own.

`folder`  ROOT/train/CLASS/video.mp4 or ROOT/train/CLASS/VIDEO/frame_0001.jpg; val, test alike.
`csv`     ROOT/train.csv with lines `path,label`; val, test alike; paths start at ROOT. Labels are
          names; if all are whole numbers, they count from 0, in the order of classes.txt.
`list`    ROOT/train.txt with lines `path frames label`, as the TSM authors' tools write them; val,
          test alike; labels count from 0.

The classes of the first two are those of training, in alphabetic order; ROOT/classes.txt, one class
a line, gives another order. Text is UTF-8; the mark that Excel puts before it is no part of it.
"""

import shlex
from collections import Counter
from pathlib import Path

from motionaware.data.annotations.rows import CsvRow, ListRow, read_csv_rows, read_list_rows
from motionaware.data.annotations.split import (
    SPLITS,
    Example,
    Split,
    contents,
    lines_of,
    nearest,
    position,
)
from motionaware.data.video.base import VIDEO_SUFFIXES
from motionaware.data.video.frame_folder import is_frame_folder
from motionaware.data.video.webp import is_animated_webp
from motionaware.errors import DataError, SplitAbsent


def is_video(path: Path) -> bool:
    """Whether a path looks like a video: by its name, or as a folder of frames."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_frame_folder(path)
    return path.suffix.lower() in VIDEO_SUFFIXES or is_animated_webp(path)


# ----------------------------------------------------------------------------- folders of classes


def read_folder(root: Path, split: str) -> Split:
    """Read `SPLIT/CLASS/VIDEO`."""
    class_names = listed_classes(root) or _class_folders(
        root, "train" if (root / "train").is_dir() else split
    )
    found = _class_folders(root, split)
    for name in found:
        if name not in class_names:
            raise DataError(
                f"{root / split / name} is not in the class list; {nearest(name, class_names)}"
                f"; rename it, or {_how_to_list(root, f'make {root}/train/{name}')}"
            )
    examples = tuple(
        Example(path, class_names.index(name))
        for name in found
        for path in sorted((root / split / name).iterdir())
        if is_video(path)
    )
    if not examples:
        raise DataError(
            f"{root / split} holds no video in its {len(found)} class folders; wanted files that "
            f"end in {' '.join(sorted(VIDEO_SUFFIXES))}, or folders of frames"
        )
    return Split(split, examples, class_names)


def detect_kind(root: Path) -> str | None:
    """Return the kind of one's own data that a folder holds, by its names; None if it shows none.

    Folders of splits make `folder`; lists make `csv` or `list`, also beside class folders.
    """
    if any((root / name).is_dir() for name in SPLITS):
        return "folder"
    if any((root / f"{name}.csv").is_file() for name in SPLITS):
        return "csv"
    if any((root / form.format(name)).is_file() for form in _LISTS for name in SPLITS):
        return "list"
    return None


def _other_kind(root: Path, kind: str) -> str:
    """Say, for an error, which other kind the folder is of, or how to list its videos."""
    if not root.is_dir():
        return ""
    found = detect_kind(root)
    if found not in (None, kind):
        what = f"{found} (--data.kind {found}; of doctor, evaluate and visualize --kind {found})"
        return f"; it looks like data.kind {what}"
    if found is None and _is_unsplit(root):
        command = shlex.join(["motionaware", "prepare", "split", "--root", str(root)])
        return f"; list its videos as splits with: {command}"
    return ""


def _is_unsplit(root: Path) -> bool:
    """Whether folders with videos lie there."""
    folders = (one for one in root.iterdir() if one.is_dir() and one.name not in SPLITS)
    return any(is_video(video) for one in folders for video in one.iterdir())


def _class_folders(root: Path, split: str) -> tuple[str, ...]:
    folder = root / split
    if not folder.is_dir():
        hint = _other_kind(root, "folder")
        if hint and root.name in SPLITS:
            hint += f"; or give {root.parent}"
        raise SplitAbsent(
            f"{folder} does not exist; wanted {root}/SPLIT/CLASS/VIDEO with SPLIT one of "
            f"{', '.join(SPLITS)}; {root} holds {contents(root)}{hint}"
        )
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise DataError(f"{folder} holds no class folder; it holds {contents(folder)}")
    return tuple(names)


# ---------------------------------------------------------------------------------- path,label


def read_csv(root: Path, split: str) -> Split:
    """Read `SPLIT.csv`, lines `path,label`."""
    path = root / f"{split}.csv"
    rows = _rows(path)
    class_names = listed_classes(root)
    training = rows if split == "train" or class_names else _training_rows(root)
    if _are_positions(training + rows, class_names or ()):
        of_training = root / "train.csv", _with_numbers(training)
        return _numbered_split(root, split, path, _with_numbers(rows), class_names, of_training)
    if class_names is None:
        class_names = tuple(sorted({label for _, _, label in training}))
    labels = {name: place for place, name in enumerate(class_names)}
    remedy = f"; correct it, or {_how_to_list(root, f'give it a line in {root}/train.csv')}"
    examples = [
        Example(root / video, position(label, labels, where=f"{path}, line {line}", remedy=remedy))
        for line, video, label in rows
    ]
    return Split(split, tuple(examples), class_names)


def _are_positions(rows: list[CsvRow], class_names: tuple[str, ...]) -> bool:
    """Whether all labels are whole numbers, of which some is not itself the name of a class."""
    labels = {label for _, _, label in rows}
    return all(label.isdecimal() for label in labels) and not labels <= {*class_names}


def _with_numbers(rows: list[CsvRow]) -> list[ListRow]:
    return [(line, path, int(label)) for line, path, label in rows]


def _training_rows(root: Path) -> list[CsvRow]:
    try:
        return _rows(root / "train.csv")
    except SplitAbsent as error:  # the split asked for is there: what lacks is its class order
        raise DataError(f"{error}; or list the classes in classes.txt") from error


def _rows(path: Path) -> list[CsvRow]:
    """Line number, path and label of every line."""
    if not path.is_file():
        raise SplitAbsent(
            f"{path} does not exist; wanted lines path,label; {path.parent} holds "
            f"{contents(path.parent)}{_other_kind(path.parent, 'csv')}"
        )
    return read_csv_rows(path)


def _how_to_list(root: Path, otherwise: str) -> str:
    """What makes a class known, for an error: a line in the class list where there is one."""
    path = root / "classes.txt"
    return f"add it to {path}" if path.is_file() else otherwise


def listed_classes(root: Path, name: str = "classes.txt") -> tuple[str, ...] | None:
    """The class list that a data set brings, if it does."""
    path = root / name
    if not path.is_file():
        return None
    class_names = tuple(line for _, line in lines_of(path))
    for class_name, count in Counter(class_names).items():
        if count > 1:
            raise DataError(f"{path} lists {class_name!r} {count} times; list each class once")
    if not class_names:
        raise DataError(f"{path} is empty; list one class a line, or delete it")
    return class_names


# -------------------------------------------------------------------------- path frames label

_LISTS = ("{}.txt", "{}_videofolder.txt")  # the second as TSM's tools name them
_CLASS_LISTS = ("classes.txt", "category.txt")


def read_list(root: Path, split: str) -> Split:
    """Read `SPLIT.txt` or `SPLIT_videofolder.txt`, lines `path frames label`.

    A path may hold blanks, and starts at ROOT or at the root of the machine. The number of frames
    is not relied on: frames are counted when a video is opened. The classes are those of
    classes.txt or category.txt; without either, they are named by their numbers.
    """
    path, rows = _numbered(root, split)
    listed = (listed_classes(root, name) for name in _CLASS_LISTS)
    class_names = next((names for names in listed if names), None)
    training = path, rows
    if class_names is None and split != "train":
        training = _numbered(root, "train")
    return _numbered_split(root, split, path, rows, class_names, training)


def _numbered_split(
    root: Path,
    split: str,
    path: Path,
    rows: list[ListRow],
    class_names: tuple[str, ...] | None,
    training: tuple[Path, list[ListRow]],
) -> Split:
    """A list whose labels are numbers; without class names, those of training name the classes."""
    if class_names is None:
        class_names = tuple(map(str, range(1 + max(label for _, _, label in training[1]))))
        _check_zero_based(*training, num_classes=None)
    else:
        _check_zero_based(path, rows, num_classes=len(class_names))
    for line, _, label in rows:
        if label >= len(class_names):
            raise DataError(
                f"{path}, line {line}: label {label}, but there are {len(class_names)} classes; "
                f"wanted 0 to {len(class_names) - 1}"
            )
    return Split(split, tuple(Example(root / p, label) for _, p, label in rows), class_names)


def _numbered(root: Path, split: str) -> tuple[Path, list[ListRow]]:
    """The list of a split, and line number, path and label of every line."""
    names = [name.format(split) for name in _LISTS]
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        raise SplitAbsent(
            f"{root / names[0]} does not exist, nor {names[1]}; wanted lines path frames label; "
            f"{root} holds {contents(root)}"
        )
    return path, read_list_rows(path)


def _check_zero_based(path: Path, rows: list[ListRow], *, num_classes: int | None) -> None:
    """Refuse labels that count from 1: each would be read as the class after its own.

    Without a class list the training list must use label 0; with one, no label may be its length.
    """
    low, high = (pick(label for _, _, label in rows) for pick in (min, max))
    if low > 0 and num_classes in (None, high):
        raise DataError(
            f"{path}: labels run from {low} to {high}: they look one-based; wanted labels that "
            "count from 0: subtract 1 from each"
            + ("" if num_classes else ", or list the classes in classes.txt")
        )
