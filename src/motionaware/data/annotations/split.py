"""Split, Example and Overlap, and the helpers that the readers of annotation lists share."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from motionaware.errors import DataError, SplitAbsent
from motionaware.messages import did_you_mean

SPLITS = ("train", "val", "test")
LIST_FOLDERS = ("", "annotations", "labels", "splits", "ucfTrainTestlist")
SHARD_INDEX = "shards.json"  # a folder that holds this file holds shards; see data/shards/layout.py

_NUM_SHOWN_FILES, _NUM_SHOWN_CLASSES = 8, 12  # in one error


@dataclass(frozen=True)
class Example:
    """One video and its class.

    Attributes:
        path: A video file or a folder of frames.
        label: Index of its class in `Split.class_names`.
    """

    path: Path
    label: int


class ExampleArrays(Sequence[Example]):
    """Examples stored as arrays: each `Example` is created on access and not kept."""

    @abstractmethod
    def all_labels(self) -> Int32[np.ndarray, "n"]:
        """Return the label of each example."""

    @abstractmethod
    def has_duplicates(self) -> bool:
        """Return True if two examples have the same path."""


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        name: `train`, `val` or `test`.
        examples: A tuple if read from lists, `ExampleArrays` if read from an index or from shards.
        class_names: All classes of the data set, in the order of their labels.
    """

    name: str
    examples: Sequence[Example]
    class_names: tuple[str, ...]

    def labels(self) -> list[int]:
        """Return the label of each example."""
        if isinstance(self.examples, ExampleArrays):  # creates no Example
            return self.examples.all_labels().tolist()
        return [example.label for example in self.examples]


Overlap = dict[tuple[str, str], int]
"""How many videos two splits share, by the names of the splits; pairs that share none are absent.

The names are in the order of `SPLITS`.
"""

SplitReader = Callable[[Path, str], Split]
"""Reads the lists of one split, by the folder of the data set and the split's name."""


# ------------------------------------------------------------------------------------- text files


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, without the byte order mark that Excel writes.

    Raises:
        DataError: The file has another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number (from 1) and stripped text of each line that is not blank."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def read_json(path: Path, kind: type) -> Any:
    """Read a JSON file that holds a non-empty `kind` (list or dict).

    Raises:
        DataError: The file is not JSON, or it holds something else.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}; download it again") from error
    if not isinstance(content, kind) or not content:
        raise DataError(f"{path} holds no {kind.__name__} with entries; download it again")
    return content


# --------------------------------------------------------------------------------- parts of errors


def contents(folder: Path) -> str:
    """Return the first names in a folder, for an error."""
    names = sorted(path.name for path in folder.iterdir())
    num_more = len(names) - _NUM_SHOWN_FILES
    shown = ", ".join(names[:_NUM_SHOWN_FILES]) or "nothing"
    return shown + (f" and {num_more} more" if num_more > 0 else "")


def root_contents(root: Path) -> str:
    """Return what the folder of a data set holds, for an error about a file that is not there."""
    hint = ""
    if (root / SHARD_INDEX).is_file():
        hint = (
            f"; {SHARD_INDEX} shows that this folder holds shards: set data.kind shards, or "
            "--kind shards for motionaware doctor"
        )
    return f"{root} holds {contents(root)}{hint}"


def class_hint(name: str, class_names: Sequence[str]) -> str:
    """Return the class nearest to an unknown name, and the first classes, for an error."""
    more = " ..." if len(class_names) > _NUM_SHOWN_CLASSES else ""
    shown = ", ".join(class_names[:_NUM_SHOWN_CLASSES]) + more
    listed = f"the {len(class_names)} classes are {shown}"
    return did_you_mean(name, class_names, then=listed)


# --------------------------------------------------------------------------- classes, lists, videos


def class_index(name: str, indices: Mapping[str, int], *, where: str, remedy: str = "") -> int:
    """Return the index of a class.

    Args:
        name: The class.
        indices: Index of each class.
        where: File and line that name the class, for the error.
        remedy: What the user can do, for the error.

    Raises:
        DataError: The class is unknown.
    """
    if name not in indices:
        raise DataError(
            f"{where}: label {name!r} is not in the class list; {class_hint(name, list(indices))}"
            f"{remedy}"
        )
    return indices[name]


def find_list(root: Path, what: str, names: Iterable[str], *, is_optional: bool = False) -> Path:
    """Return the first list file that exists, in the root or in one of `LIST_FOLDERS`.

    Args:
        root: The folder of the data set.
        what: Description of the list, for the error.
        names: Possible names of the file.
        is_optional: True if the data set can be complete without this list: only the split is
            absent then.

    Raises:
        SplitAbsent: None exists, and `is_optional`.
        DataError: None exists.
    """
    names = list(names)
    for folder in LIST_FOLDERS:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    raise (SplitAbsent if is_optional else DataError)(
        f"{what} does not exist; looked for {' or '.join(names)} in {root} and its folders "
        f"{', '.join(filter(None, LIST_FOLDERS))}; {root_contents(root)}"
    )


def locate_videos(
    root: Path,
    folders: Iterable[str],
    stems: Sequence[str],
    *,
    what: str,
    suffix: str,
    class_folders: Sequence[str] | None = None,
) -> list[Path]:
    """Return the path of each listed video.

    All videos are expected in the first of `folders` that holds any of them, directly or in class
    folders. A video is a file with any suffix or a folder of frames. The path of a missing video is
    the one at which it was expected.

    Args:
        root: The folder of the data set.
        folders: Folders below `root` that usually hold the videos.
        stems: Names of the videos without suffix; CLASS/NAME if names repeat between classes.
        what: Description of the videos, for the error.
        suffix: Suffix of the published videos; empty for folders of frames.
        class_folders: Class of each video, if the videos may be in class folders; gives the
            expected path of missing videos.

    Raises:
        DataError: No folder holds any of the videos.
    """
    candidates = list(dict.fromkeys(root / folder for folder in folders))
    for folder in candidates:
        if not folder.is_dir():
            continue
        found = _find_by_stem(folder, set(stems))
        if found:
            names = _class_folder_names(found, folder, stems, class_folders)
            return [
                found.get(stem, folder / name / f"{stem}{suffix}")
                for stem, name in zip(stems, names, strict=True)
            ]
    raise DataError(
        f"found no video of {what}, for example {stems[0]}{suffix}; looked in "
        f"{', '.join(str(folder) for folder in candidates)} and their class folders; "
        f"{root_contents(root)}"
    )


def _class_folder_names(
    found: Mapping[str, Path],
    folder: Path,
    stems: Sequence[str],
    class_folders: Sequence[str] | None,
) -> list[str]:
    """Return the class folder of each video, spelled as on disk; "" without class folders."""
    if not class_folders:
        return [""] * len(stems)
    if all(path.parent == folder for path in found.values()):
        return [""] * len(stems)
    spelling = {
        name: found[stem].parent.name
        for stem, name in zip(stems, class_folders, strict=True)
        if stem in found
    }
    return [spelling.get(name, name) for name in class_folders]


def _find_by_stem(folder: Path, wanted: set[str]) -> dict[str, Path]:
    """List a folder once: much faster than a system call for each of 200,000 names."""
    entries = list(folder.iterdir())
    # The name of a frame folder may contain a dot, so both the stem and the full name are keys.
    found = {name: path for path in entries for name in (path.stem, path.name)}
    if not found.keys() & wanted:
        found = {
            name: path
            for entry in entries
            if entry.is_dir()
            for path in entry.iterdir()
            for stem in (path.stem, path.name)
            for name in (stem, f"{entry.name}/{stem}")
        }
    return {stem: found[stem] for stem in found.keys() & wanted}
