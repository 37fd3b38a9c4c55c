"""Split: a list of videos with their classes, and what its readers share."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motionaware.errors import DataError, SplitAbsent
from motionaware.messages import did_you_mean

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Example:
    """A video, a file or a folder of frames, and the position of its class."""

    path: Path
    label: int


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Read from lists, its examples are a tuple; read from an index, they are made one by one.
    """

    name: str
    examples: Sequence[Example]
    class_names: tuple[str, ...]


Shared = dict[tuple[str, str], int]
"""How many videos two splits both hold, for each two that share some."""

Reader = Callable[[Path, str], Split]
"""Reads the split of that name below a folder; no video is opened."""


def text_of(path: Path) -> str:
    """Read a text file as UTF-8.

    Raises:
        DataError: It is written in something else.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # Excel marks its UTF-8
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number from 1."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def json_of(path: Path, kind: type) -> Any:
    """Read a JSON file that holds a list or an object, as `kind` says.

    Raises:
        DataError: It is no JSON, or holds something else, or nothing.
    """
    try:
        content = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}; fetch it again") from error
    if not isinstance(content, kind) or not content:
        raise DataError(f"{path} holds no {kind.__name__} with entries; fetch it again")
    return content


def contents(folder: Path) -> str:
    """The first names in a folder, for an error to say what is there."""
    names = sorted(p.name for p in folder.iterdir())
    shown = ", ".join(names[:8]) or "nothing"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def nearest(name: str, known: Sequence[str]) -> str:
    """The class meant by a name that is none, and the first of those there are."""
    shown = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
    return f"{did_you_mean(name, known)}The {len(known)} classes are {shown}"


def position(name: str, class_names: Mapping[str, int], *, where: str, remedy: str = "") -> int:
    """Where a class stands in the list of classes.

    Raises:
        DataError: It is not in the list; `where` says who named it, `remedy` what to do.
    """
    if name not in class_names:
        raise DataError(
            f"{where}: label {name!r} is not in the class list; {nearest(name, list(class_names))}"
            f"{remedy}"
        )
    return class_names[name]


def find_list(root: Path, what: str, names: Iterable[str], *, absent: bool = False) -> Path:
    """The first of some files that is there, looked for where downloads are known to put it.

    Args:
        root: The folder of the data set.
        what: What the file is, for the error.
        names: Its possible names.
        absent: Whether the data set can do without it: the split is missing, not the data set.

    Raises:
        DataError: None is there: what was looked for, and what is there.
    """
    names = list(names)
    for folder in LIST_FOLDERS:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    raise (SplitAbsent if absent else DataError)(
        f"{what} does not exist; looked for {' or '.join(names)} in {root} and its folders "
        f"{', '.join(filter(None, LIST_FOLDERS))}; {root} holds {contents(root)}"
    )


LIST_FOLDERS = ("", "annotations", "labels", "splits", "ucfTrainTestlist")


def locate(
    root: Path,
    folders: Iterable[str],
    stems: Sequence[str],
    *,
    what: str,
    suffix: str,
    class_folders: Sequence[str] | None = None,
) -> list[Path]:
    """Where each video of a list lies: in the first of some folders that holds any of them.

    A video may be a file with any suffix, or a folder of frames, directly in the folder or in a
    class folder in it. One that is absent gets the path that was looked for.

    Args:
        root: The folder of the data set.
        folders: Where downloads are known to put the videos, below root.
        stems: The videos' names without suffix; CLASS/NAME where names repeat between classes.
        what: What they are, for the error.
        suffix: How the name of a published video ends; empty for folders of frames.
        class_folders: Each video's class, where videos may lie in folders of that name: a path that
            was looked for then names it too.

    Raises:
        DataError: No folder holds any of them: what was looked for, and what is there.
    """
    tried = list(dict.fromkeys(root / folder for folder in folders))
    for folder in tried:
        if not folder.is_dir():
            continue
        found = _by_stem(folder, set(stems))
        if found:
            homes = {}
            if class_folders and any(path.parent != folder for path in found.values()):
                pairs = zip(stems, class_folders, strict=True)
                homes = {one: found[stem].parent.name for stem, one in pairs if stem in found}
                homes = {one: homes.get(one, one) for one in class_folders}  # spelt as it is there
            inside = class_folders or [""] * len(stems)
            return [
                found.get(stem, folder / homes.get(one, "") / f"{stem}{suffix}")
                for stem, one in zip(stems, inside, strict=True)
            ]
    raise DataError(
        f"no video of {what} is there, {stems[0]}{suffix} for example; looked in "
        f"{', '.join(str(folder) for folder in tried)} and their class folders; {root} holds "
        f"{contents(root)}"
    )


def _by_stem(folder: Path, wanted: set[str]) -> dict[str, Path]:
    """Look once over a folder, which is far quicker than asking for each of 200 000 names."""
    inside = list(folder.iterdir())
    # A frame folder goes by its whole name, which may hold a dot; a file by what precedes the last.
    found = {name: path for path in inside for name in (path.stem, path.name)}
    if not found.keys() & wanted:
        found = {
            name: path
            for one in inside
            if one.is_dir()
            for path in one.iterdir()
            for stem in (path.stem, path.name)
            for name in (stem, f"{one.name}/{stem}")
        }
    return {stem: found[stem] for stem in found.keys() & wanted}
