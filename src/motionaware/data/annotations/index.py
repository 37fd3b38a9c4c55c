"""The index of a split: its list as arrays in a file that is mapped, not read.

    paths    the bytes of all paths, one after the other; those below the root begin there
    ends     where each path ends in them
    labels   the position of each class
    frames   how many frames each video has; UNREADABLE or MISSING when the index was written

A list of 200 000 videos so costs no Python objects: an Example is made when it is asked for, and
all worker processes share the pages of one file.

Where    `KIND-SPLIT.safetensors` in ROOT/.motionaware; where that cannot be written, in a folder of
         its own below ~/.cache/motionaware.
Fresh    Each start compares the size and time of change of every list in ROOT and its folders of
         lists, and, for kinds that look for their videos, the names in ROOT and the time of change
         of each folder that holds videos. Any difference makes the index unusable.
Unseen   A video that was changed in place, and one of kind `csv` or `list` that was taken away:
         they are met when they are read.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from safetensors.numpy import save

from motionaware.data.annotations.split import LIST_FOLDERS, Example, Split
from motionaware.errors import UsageError
from motionaware.files import write_atomically

UNREADABLE, MISSING = 0, -1  # in place of a number of frames

_VERSION = "2"  # 1 had the classes of HMDB51 in another order
_FOLDER = ".motionaware"
_LIST_SUFFIXES = (".csv", ".json", ".txt")
_LISTS_BESIDE = ("testTrainMulti_7030_splits",)  # of HMDB51, one file a class
_LISTED_BY_PATH = frozenset({"csv", "list"})  # kinds whose lists say where each video lies
_DTYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64}


class IndexUnusable(Exception):
    """There is no index, or it is not of the data as they are now; the message says which."""


@dataclass(frozen=True, eq=False)
class IndexedExamples(Sequence[Example]):
    """The examples of an index, each made when it is asked for.

    Attributes:
        root: Where relative paths begin.
        paths, ends, labels, frames: See above.
        chosen: Which of them there are, ascending.
    """

    root: Path
    paths: UInt8[np.ndarray, "bytes"]
    ends: Int64[np.ndarray, "n"]
    labels: Int32[np.ndarray, "n"]
    frames: Int32[np.ndarray, "n"]
    chosen: Int64[np.ndarray, "k"] | None = None

    def __len__(self) -> int:
        return len(self.labels if self.chosen is None else self.chosen)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        if self.chosen is not None:
            place = int(self.chosen[place])
        begin = int(self.ends[place - 1]) if place else 0
        path = os.fsdecode(self.paths[begin : int(self.ends[place])].tobytes())
        return Example(self.root / path, int(self.labels[place]))

    def all_labels(self) -> Int32[np.ndarray, "n"]:
        """Return the label of each example."""
        return self.labels if self.chosen is None else self.labels[self.chosen]

    def without(self, places: Iterable[int]) -> "IndexedExamples":
        """All but those at some places."""
        chosen = np.arange(len(self)) if self.chosen is None else self.chosen
        return replace(self, chosen=np.delete(chosen, list(places)))

    def suspects(self) -> list[int]:
        """The places of those that were not there when the index was written."""
        frames = self.frames if self.chosen is None else self.frames[self.chosen]
        return np.flatnonzero(frames == MISSING).tolist()


def missing_places(split: Split) -> list[int]:
    """The places of a split's videos that do not exist.

    An index knows which were there when it was written: only the others are looked for again.
    """
    examples = split.examples
    suspects = (
        examples.suspects() if isinstance(examples, IndexedExamples) else range(len(examples))
    )
    return [place for place in suspects if not examples[place].path.exists()]


def labels_of(split: Split) -> list[int]:
    """The label of each example of a split."""
    examples = split.examples
    if isinstance(examples, IndexedExamples):  # without an Example for each of 200 000 videos
        chosen = examples.labels if examples.chosen is None else examples.labels[examples.chosen]
        return chosen.tolist()
    return [example.label for example in examples]


def known_lengths(split: Split) -> Int32[np.ndarray, "n"] | None:
    """How many frames each video has that could be read when the index was written.

    None for a split without an index.
    """
    examples = split.examples
    if not isinstance(examples, IndexedExamples):
        return None
    frames = examples.frames if examples.chosen is None else examples.frames[examples.chosen]
    return frames[frames > 0]


def without_places(split: Split, places: Sequence[int]) -> Split:
    """The split without the examples at some places."""
    if isinstance(split.examples, IndexedExamples):
        return replace(split, examples=split.examples.without(places))
    left_out = set(places)
    kept = (one for place, one in enumerate(split.examples) if place not in left_out)
    return replace(split, examples=tuple(kept))


# ------------------------------------------------------------------------------ writing, reading


def write_index(
    kind: str, root: Path, split: Split, frames: Sequence[int], *, facts: dict[str, str]
) -> Path:
    """Write the index of a split.

    Args:
        kind: As which the split was read.
        root: The folder of the data set.
        split: What its lists say.
        frames: How many frames each video has, or UNREADABLE or MISSING.
        facts: What `facts_of` found when the lists were read.

    Returns:
        Where it stands.

    Raises:
        OSError: It can be written neither below the root nor in the cache folder.
    """
    encoded = [os.fsencode(_relative(example.path, root)) for example in split.examples]
    content = save(
        {
            "paths": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "ends": np.cumsum([len(path) for path in encoded], dtype=np.int64),
            "labels": np.array([example.label for example in split.examples], dtype=np.int32),
            "frames": np.array(frames, dtype=np.int32),
        },
        metadata={
            "version": _VERSION,
            "class_names": json.dumps(split.class_names),
            "facts": json.dumps(facts),
        },
    )
    return write_beside(root, f"{kind}-{split.name}.safetensors", content)


def write_beside(root: Path, name: str, content: bytes) -> Path:
    """Write a file to the folder of the index, whole or not at all; returns where it stands.

    Raises:
        OSError: It can be written neither below the root nor in the cache folder.
    """
    beside, cached = (folder / name for folder in _folders(root))
    try:
        write_atomically(beside, content)
    except OSError:
        write_atomically(cached, content)
        return cached
    cached.unlink(missing_ok=True)  # of a time when the root could not be written
    return beside


def open_index(kind: str, root: Path, split: str) -> Split:
    """Map the index of a split.

    Raises:
        IndexUnusable: There is none, or the data have changed since, or it is damaged.
    """
    name = f"{kind}-{split}.safetensors"
    path = next((path for folder in _folders(root) if (path := folder / name).is_file()), None)
    if path is None:
        raise IndexUnusable("there is no index")
    try:
        metadata, arrays = _map(path)
        examples = IndexedExamples(root, **arrays)
        facts, class_names = (json.loads(metadata[key]) for key in ("facts", "class_names"))
        whole = metadata["version"] == _VERSION and (
            len(examples.ends) == len(examples.labels) == len(examples.frames)
            and int(examples.ends[-1]) == len(examples.paths)
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise IndexUnusable(f"{path} is damaged") from error
    if not whole:
        raise IndexUnusable(f"{path} is damaged, or of another version")
    folders = [fact for fact in facts if fact.endswith("/")]
    now = _facts(kind, root, folders)
    changed = sorted(fact for fact in facts.keys() | now.keys() if facts.get(fact) != now.get(fact))
    if changed:
        raise IndexUnusable(f"{root / changed[0]} has changed since {path} was written")
    return Split(split, examples, tuple(class_names))


def _map(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays of a safetensors file, which stay on disk until they are touched."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise UsageError("a header longer than the file")
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__")
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        shape = ((end - begin) // dtype.itemsize,)
        mapped = np.memmap(path, dtype, mode="r", offset=8 + size + begin, shape=shape)
        arrays[name] = np.asarray(mapped)  # an array over the map: indexing a memmap is slow
    return metadata, arrays


# --------------------------------------------------------------------------------- what is checked


def facts_of(kind: str, root: Path, split: Split) -> dict[str, str]:
    """What must stay as it is for the lists of a split to say what they say now."""
    if kind in _LISTED_BY_PATH:
        return _facts(kind, root, [])
    parents = {example.path.parent for example in split.examples} | {root / "train"}
    inside = {parent for parent in parents if parent != root and parent.is_relative_to(root)}
    above = {up for folder in inside for up in folder.parents if up.is_relative_to(root)}
    # A class folder in which no listed video is found may receive one: siblings count too.
    siblings = {
        Path(entry.path)
        for folder in {folder.parent for folder in inside if folder.is_dir()}
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    }
    watched = (inside | above | siblings) - {root}
    return _facts(kind, root, [f"{_relative(folder, root)}/" for folder in watched])


def list_files(root: Path) -> list[Path]:
    """Every file in the root and its folders of lists that may be a list of a data set."""
    folders = (root / folder for folder in (*LIST_FOLDERS, *_LISTS_BESIDE))
    return [
        Path(entry.path)
        for folder in folders
        if folder.is_dir()
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(_LIST_SUFFIXES) and entry.is_file()
    ]


def _facts(kind: str, root: Path, folders: Iterable[str]) -> dict[str, str]:
    facts = {}
    for path in list_files(root):
        stat = path.stat()
        facts[_relative(path, root)] = f"{stat.st_size} {stat.st_mtime_ns}"
    if kind not in _LISTED_BY_PATH:
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))  # noqa: PTH208 - quick
        facts["."] = hashlib.sha256(os.fsencode("/".join(names))).hexdigest()
    for folder in folders:
        path = root / folder
        facts[folder] = str(path.stat().st_mtime_ns) if path.is_dir() else "absent"
    return facts


def _folders(root: Path) -> tuple[Path, Path]:
    """Where an index may stand: below the root, and in the cache."""
    own = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return root / _FOLDER, Path.home() / ".cache" / "motionaware" / own


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()
