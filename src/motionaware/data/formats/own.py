"""Data sets of your own.

`folder`  ROOT/train/CLASS/video.mp4 or ROOT/train/CLASS/VIDEO/frame_0001.jpg; val, test alike.
`csv`     ROOT/train.csv with lines `path,label`; val, test alike; paths start at ROOT. Labels are
          names; if all are whole numbers, they count from 0, in the order of classes.txt.
`list`    ROOT/train.txt with lines `path frames label`, as the TSM authors' tools write them; val,
          test alike; labels count from 0.

The classes of the first two are those of training, in alphabetic order; ROOT/classes.txt, one class
a line, gives another order. Text is UTF-8; the mark that Excel puts before it is no part of it.
"""

import csv
import io
from collections import Counter
from pathlib import Path

from motionaware.data.split import (
    SPLITS,
    DataError,
    Example,
    Split,
    SplitAbsent,
    contents,
    lines_of,
    nearest,
    position,
    text_of,
)
from motionaware.data.video import VIDEO_SUFFIXES, is_animated_webp, is_frame_folder


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


_SPLIT_THEM = "list them as splits with: motionaware prepare split --root {root}"


def _is_unsplit(root: Path) -> bool:
    """Whether folders with videos lie there."""
    return any(is_video(video) for one in root.iterdir() if one.is_dir() for video in one.iterdir())


def _class_folders(root: Path, split: str) -> tuple[str, ...]:
    folder = root / split
    if not folder.is_dir():
        if not any((root / name).is_dir() for name in SPLITS) and _is_unsplit(root):
            raise SplitAbsent(
                f"{root} holds class folders and no splits, wanted {root}/SPLIT/CLASS/VIDEO; "
                + _SPLIT_THEM.format(root=root)
                + (f"; or give {root.parent}" if root.name in SPLITS else "")
            )
        raise SplitAbsent(
            f"{folder} does not exist; wanted {root}/SPLIT/CLASS/VIDEO with SPLIT one of "
            f"{', '.join(SPLITS)}; {root} holds {contents(root)}"
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


def _are_positions(rows: list[tuple[int, str, str]], class_names: tuple[str, ...]) -> bool:
    """Whether all labels are whole numbers, of which some is not itself the name of a class."""
    labels = {label for _, _, label in rows}
    return all(label.isdecimal() for label in labels) and not labels <= {*class_names}


def _with_numbers(rows: list[tuple[int, str, str]]) -> list[tuple[int, str, int]]:
    return [(line, path, int(label)) for line, path, label in rows]


def _training_rows(root: Path) -> list[tuple[int, str, str]]:
    try:
        return _rows(root / "train.csv")
    except SplitAbsent as error:  # the split asked for is there: what lacks is its class order
        raise DataError(f"{error}; or list the classes in classes.txt") from error


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Line number, path and label of every line."""
    if not path.is_file():
        listed = any((path.parent / f"{name}.csv").is_file() for name in SPLITS)
        unsplit = path.parent.is_dir() and not listed and _is_unsplit(path.parent)
        hint = "; " + _SPLIT_THEM.format(root=path.parent) if unsplit else ""
        raise SplitAbsent(
            f"{path} does not exist; wanted lines path,label; {path.parent} holds "
            f"{contents(path.parent)}" + hint
        )
    rows = []
    for line, row in enumerate(csv.reader(io.StringIO(text_of(path), newline="")), start=1):
        fields = [field.strip() for field in row]
        if not fields or (line == 1 and fields == ["path", "label"]):
            continue
        if len(fields) == 1 and ";" in fields[0]:
            raise DataError(
                f"{path}, line {line}: found {row[0]!r}, wanted path,label; its separator is ';', "
                "wanted ','"
            )
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"{path}, line {line}: found {','.join(row)!r}, wanted path,label; "
                'put a path that has a comma between double quotes ("a, b.mp4",label)'
            )
        rows.append((line, *fields))
    if not rows:
        raise DataError(f"{path} is empty; wanted lines path,label")
    return rows


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
    rows: list[tuple[int, str, int]],
    class_names: tuple[str, ...] | None,
    training: tuple[Path, list[tuple[int, str, int]]],
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


def _numbered(root: Path, split: str) -> tuple[Path, list[tuple[int, str, int]]]:
    """The list of a split, and line number, path and label of every line."""
    names = [name.format(split) for name in _LISTS]
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        raise SplitAbsent(
            f"{root / names[0]} does not exist, nor {names[1]}; wanted lines path frames label; "
            f"{root} holds {contents(root)}"
        )
    rows = []
    for line, content in lines_of(path):
        fields = content.rsplit(maxsplit=2)
        if len(fields) != 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
            raise DataError(
                f"{path}, line {line}: found {content!r}, wanted path frames label, the last two "
                "whole numbers"
            )
        rows.append((line, fields[0], int(fields[2])))
    if not rows:
        raise DataError(f"{path} is empty; wanted lines path frames label")
    return path, rows


def _check_zero_based(
    path: Path, rows: list[tuple[int, str, int]], *, num_classes: int | None
) -> None:
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
