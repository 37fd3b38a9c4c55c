"""The lists of data sets -> Examples: which videos there are and what each one shows.

`folder`  ROOT/train/CLASS/video.mp4 or ROOT/train/CLASS/VIDEO/frame_0001.jpg; val, test alike.
`csv`     ROOT/train.csv with lines `path,label`; val, test alike; paths start at ROOT.

The classes of both are those of training, in alphabetic order; ROOT/classes.txt, one class a line,
gives another order. Text is UTF-8; the mark that Excel puts before it is no part of it.
"""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from motionaware.data.video import VIDEO_SUFFIXES, is_frame_folder

SPLITS = ("train", "val", "test")


class DataError(ValueError):
    """A data set is not as its kind wants it: what was found, what was wanted, what to do."""


@dataclass(frozen=True)
class Example:
    """A video, a file or a folder of frames, and the position of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class Split:
    """One part of a data set."""

    name: str
    examples: tuple[Example, ...]
    class_names: tuple[str, ...]


def read_split(kind: str, root: str | Path | None, split: str) -> Split:
    """Read the list of one split; no video is opened.

    Args:
        kind: A key of `KINDS`.
        root: The folder of the data set.
        split: `train`, `val` or `test`.

    Raises:
        DataError: The folder or its lists are not as the kind wants them.
    """
    if kind not in KINDS:
        raise DataError(f"data kind {kind!r} is unknown; choose {', '.join(KINDS)}")
    if split not in SPLITS:
        raise DataError(f"split {split!r} is unknown; choose {', '.join(SPLITS)}")
    if root is None:
        raise DataError(f"data of kind {kind!r} needs its folder; set data.root")
    if not Path(root).is_dir():
        raise DataError(f"data.root {root} is not a folder; give the one that holds its splits")
    return KINDS[kind](Path(root), split)


def check_videos_exist(split: Split) -> None:
    """Look for every listed video, so that a run does not stop hours later.

    Raises:
        DataError: Some are not there.
    """
    missing = [example.path for example in split.examples if not example.path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(split.examples)} videos of {split.name} do not exist, "
            f"first {missing[0]}; motionaware doctor names all of them"
        )


def _read_folder(root: Path, split: str) -> Split:
    class_names = _listed_classes(root) or _class_folders(
        root, "train" if (root / "train").is_dir() else split
    )
    found = _class_folders(root, split)
    for name in found:
        if name not in class_names:
            raise DataError(
                f"{root / split / name} is not in the class list; {_nearest(name, class_names)}"
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


def _class_folders(root: Path, split: str) -> tuple[str, ...]:
    folder = root / split
    if not folder.is_dir():
        raise DataError(
            f"{folder} does not exist; wanted {root}/SPLIT/CLASS/VIDEO with SPLIT one of "
            f"{', '.join(SPLITS)}; {root} holds {_contents(root)}"
        )
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise DataError(f"{folder} holds no class folder; it holds {_contents(folder)}")
    return tuple(names)


def is_video(path: Path) -> bool:
    """Whether a path looks like a video: by its name, or as a folder of frames."""
    if path.name.startswith("."):
        return False
    return is_frame_folder(path) if path.is_dir() else path.suffix.lower() in VIDEO_SUFFIXES


def _read_csv(root: Path, split: str) -> Split:
    rows = _rows(root / f"{split}.csv")
    class_names = _listed_classes(root)
    if class_names is None:
        listed = rows if split == "train" else _rows(root / "train.csv")
        class_names = tuple(sorted({label for _, _, label in listed}))
    labels = {name: position for position, name in enumerate(class_names)}
    examples = []
    for line, path, label in rows:
        if label not in labels:
            raise DataError(
                f"{root / split}.csv, line {line}: label {label!r} is not in the class list; "
                f"{_nearest(label, class_names)}"
            )
        examples.append(Example(root / path, labels[label]))
    return Split(split, tuple(examples), class_names)


def _listed_classes(root: Path) -> tuple[str, ...] | None:
    """The class list that a data set brings, if it does."""
    path = root / "classes.txt"
    if not path.is_file():
        return None
    names = (line.strip() for line in _text(path).splitlines())
    class_names = tuple(name for name in names if name)
    for name, count in Counter(class_names).items():
        if count > 1:
            raise DataError(f"{path} lists {name!r} {count} times; list each class once")
    if not class_names:
        raise DataError(f"{path} is empty; list one class a line, or delete it")
    return class_names


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Line number, path and label of every line."""
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; wanted lines path,label; {path.parent} holds "
            f"{_contents(path.parent)}"
        )
    rows = []
    for line, row in enumerate(csv.reader(io.StringIO(_text(path), newline="")), start=1):
        fields = [field.strip() for field in row]
        if not fields or (line == 1 and fields == ["path", "label"]):
            continue
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"{path}, line {line}: found {','.join(row)!r}, wanted path,label; "
                'put a path that has a comma between double quotes ("a, b.mp4",label)'
            )
        rows.append((line, *fields))
    if not rows:
        raise DataError(f"{path} is empty; wanted lines path,label")
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Excel marks its UTF-8
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
    return f"{hint}The {len(known)} classes are {shown}"


def _contents(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    shown = ", ".join(names[:8]) or "nothing"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


KINDS: dict[str, Callable[[Path, str], Split]] = {"folder": _read_folder, "csv": _read_csv}
