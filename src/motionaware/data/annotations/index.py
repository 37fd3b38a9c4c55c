"""The index of a split: its list as arrays in a memory-mapped file.

    paths    bytes of all paths, concatenated; paths below the root are relative to it
    ends     end of each path in `paths`
    labels   label of each video
    frames   number of frames of each video; UNREADABLE or MISSING if it could not be read when the
             index was written

So a list of 200,000 videos needs no Python object per video: `Example`s are created on access, and
all worker processes share the pages of one file. The metadata hold the class names, the overlap
with the other splits, and a fingerprint of the lists.

Location     `KIND-SPLIT.safetensors` in ROOT/.motionaware, or in a folder below
             ~/.cache/motionaware if ROOT cannot be written.
Fresh        An index is used only while its fingerprint is unchanged: size and modification time of
             every list in ROOT and its list folders; for kinds that search for their videos, also
             the names in ROOT and the modification time of each folder that contains videos.
Undetected   A video that was changed in place; for `csv` and `list`, also a video that was deleted.
             Both are noticed when the video is read.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from safetensors.numpy import save

from motionaware.data.annotations.split import LIST_FOLDERS, Example, ExampleArrays, Split
from motionaware.errors import UsageError
from motionaware.files import write_atomically

UNREADABLE, MISSING = 0, -1  # stored in place of a number of frames

_VERSION = "2"  # version 1 had the classes of HMDB51 in another order
_FOLDER = ".motionaware"
_LIST_SUFFIXES = (".csv", ".json", ".txt")
_MORE_LIST_FOLDERS = ("testTrainMulti_7030_splits",)  # of HMDB51, one file a class
_KINDS_WITH_PATHS = frozenset({"csv", "list"})  # their lists give the path of each video
_DTYPES = {"U8": np.uint8, "I32": np.int32, "I64": np.int64}


class IndexUnusable(Exception):
    """There is no index, it is damaged, or the data have changed; the message says which."""


@dataclass(frozen=True, eq=False)
class IndexedExamples(ExampleArrays):
    """The examples of an index; each `Example` is created on access.

    Attributes:
        root: Folder of relative paths.
        paths, ends, labels, frames: The arrays of the index; see the module.
        num_distinct: Number of different paths; None if the index was written without it.
        overlap: Number of videos that each other split lists too, by its name; None if the index
            was written without it.
        kept: Positions in the arrays of the examples that were kept, ascending; None keeps all.
    """

    root: Path
    paths: UInt8[np.ndarray, "bytes"]
    ends: Int64[np.ndarray, "n"]
    labels: Int32[np.ndarray, "n"]
    frames: Int32[np.ndarray, "n"]
    num_distinct: int | None = None
    overlap: Mapping[str, int] | None = None
    kept: Int64[np.ndarray, "k"] | None = None

    def __len__(self) -> int:
        return len(self.labels if self.kept is None else self.kept)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        i = range(len(self))[index]
        if self.kept is not None:
            i = int(self.kept[i])
        begin = int(self.ends[i - 1]) if i else 0
        path = os.fsdecode(self.paths[begin : int(self.ends[i])].tobytes())
        return Example(self.root / path, int(self.labels[i]))

    def all_labels(self) -> Int32[np.ndarray, "n"]:
        """Return the label of each example."""
        return self.labels if self.kept is None else self.labels[self.kept]

    def all_lengths(self) -> Int32[np.ndarray, "n"]:
        """Return the number of frames of each video, or UNREADABLE or MISSING."""
        return self.frames if self.kept is None else self.frames[self.kept]

    def distinct_paths(self) -> set[bytes]:
        """Return the different paths as stored: below the root relative, else absolute."""
        content, ends = self.paths.tobytes(), self.ends.tolist()
        paths = [content[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        return set(paths if self.kept is None else (paths[i] for i in self.kept.tolist()))

    def has_duplicates(self) -> bool:
        """Return True if two examples have the same path."""
        if self.num_distinct == len(self.labels):  # so have any of them
            return False
        return len(self.distinct_paths()) < len(self)

    def without(self, positions: Iterable[int]) -> "IndexedExamples":
        """Return all examples but those at some positions; the stored overlap is dropped."""
        kept = np.arange(len(self)) if self.kept is None else self.kept
        return replace(self, kept=np.delete(kept, list(positions)), overlap=None)


def missing_examples(split: Split) -> list[int]:
    """Return the positions of the videos of a split that do not exist.

    With an index, only videos that were missing when it was written are looked for.
    """
    examples = split.examples
    candidates = range(len(examples))
    if isinstance(examples, IndexedExamples):
        candidates = np.flatnonzero(examples.all_lengths() == MISSING).tolist()
    return [i for i in candidates if not examples[i].path.exists()]


def known_lengths(split: Split | None) -> Int32[np.ndarray, "n"] | None:
    """Return the number of frames of each video that was readable when the index was written.

    Returns None if there is no split or it has no index.
    """
    if split is None or not isinstance(split.examples, IndexedExamples):
        return None
    lengths = split.examples.all_lengths()
    return lengths[lengths > 0]


def without_examples(split: Split, positions: Sequence[int]) -> Split:
    """Return a split without the examples at some positions."""
    if isinstance(split.examples, IndexedExamples):
        return replace(split, examples=split.examples.without(positions))
    removed = set(positions)
    kept = (example for i, example in enumerate(split.examples) if i not in removed)
    return replace(split, examples=tuple(kept))


# ----------------------------------------------------------------------------------- write and read


def write_index(
    kind: str,
    root: Path,
    split: Split,
    frames: Sequence[int],
    *,
    fingerprint: dict[str, str],
    overlap: Mapping[str, int] | None = None,
) -> Path:
    """Write the index of a split and return its path.

    Args:
        kind: Kind of the data set.
        root: The folder of the data set.
        split: The content of its lists.
        frames: Number of frames of each video, or UNREADABLE or MISSING.
        fingerprint: Result of `fingerprint_lists` from before the videos were opened.
        overlap: Number of videos that each other split lists too, by its name; None if unknown.

    Raises:
        OSError: The index can be written neither below the root nor in the cache folder.
    """
    encoded = [os.fsencode(_relative(example.path, root)) for example in split.examples]
    metadata = {
        "version": _VERSION,
        "class_names": json.dumps(split.class_names),
        "facts": json.dumps(fingerprint),
        "num_distinct": json.dumps(len(set(encoded))),
    }
    if overlap is not None:
        metadata["overlap"] = json.dumps(dict(overlap))
    content = save(
        {
            "paths": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "ends": np.cumsum([len(path) for path in encoded], dtype=np.int64),
            "labels": np.array([example.label for example in split.examples], dtype=np.int32),
            "frames": np.array(frames, dtype=np.int32),
        },
        metadata=metadata,
    )
    return write_index_file(root, f"{kind}-{split.name}.safetensors", content)


def write_index_file(root: Path, name: str, content: bytes) -> Path:
    """Write a file atomically to the index folder of a data set and return its path.

    Raises:
        OSError: It can be written neither below the root nor in the cache folder.
    """
    in_root, in_cache = (folder / name for folder in _index_folders(root))
    try:
        write_atomically(in_root, content)
    except OSError:
        write_atomically(in_cache, content)
        return in_cache
    in_cache.unlink(missing_ok=True)  # written earlier, when the root was read-only
    return in_root


def open_index(kind: str, root: Path, split: str) -> Split:
    """Open the index of a split as memory-mapped arrays.

    Raises:
        IndexUnusable: There is no index, it is damaged, or the data have changed.
    """
    name = f"{kind}-{split}.safetensors"
    paths = (folder / name for folder in _index_folders(root))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise IndexUnusable("there is no index")
    try:
        metadata, arrays = _map_safetensors(path)
        stored = {key: json.loads(metadata[key]) for key in ("facts", "class_names")}
        optional = {key: json.loads(metadata.get(key, "null")) for key in _OPTIONAL}
        examples = IndexedExamples(root, **arrays, **optional)
        is_valid = metadata["version"] == _VERSION and (
            len(examples.ends) == len(examples.labels) == len(examples.frames)
            and int(examples.ends[-1]) == len(examples.paths)
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise IndexUnusable(f"{path} is damaged") from error
    if not is_valid:
        raise IndexUnusable(f"{path} is damaged, or of another version")
    before = stored["facts"]
    now = _fingerprint(kind, root, [key for key in before if key.endswith("/")])
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise IndexUnusable(f"{root / changed[0]} has changed since {path} was written")
    return Split(split, examples, tuple(stored["class_names"]))


_OPTIONAL = ("num_distinct", "overlap")  # metadata that older indices lack


def _map_safetensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return metadata and memory-mapped arrays of a safetensors file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise UsageError("the header is longer than the file")
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__")
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        shape = ((end - begin) // dtype.itemsize,)
        mapped = np.memmap(path, dtype, mode="r", offset=8 + size + begin, shape=shape)
        arrays[name] = np.asarray(mapped)  # a plain array on the map: indexing a memmap is slow
    return metadata, arrays


# ---------------------------------------------------------------------------------------- freshness


def fingerprint_lists(kind: str, root: Path, split: Split) -> dict[str, str]:
    """Return a fingerprint that changes if reading the lists again could give another split.

    The keys are paths below `root`; those of folders end with a slash.
    """
    if kind in _KINDS_WITH_PATHS:
        return _fingerprint(kind, root, [])
    parents = {example.path.parent for example in split.examples} | {root / "train"}
    inside = {parent for parent in parents if parent != root and parent.is_relative_to(root)}
    ancestors = {up for folder in inside for up in folder.parents if up.is_relative_to(root)}
    # A listed video may appear in a class folder that contains none yet: watch siblings too.
    siblings = {
        Path(entry.path)
        for folder in {folder.parent for folder in inside if folder.is_dir()}
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    }
    watched = (inside | ancestors | siblings) - {root}
    return _fingerprint(kind, root, [f"{_relative(folder, root)}/" for folder in watched])


def list_files(root: Path) -> list[Path]:
    """Return all .csv, .json and .txt files in the root and its list folders."""
    folders = (root / folder for folder in (*LIST_FOLDERS, *_MORE_LIST_FOLDERS))
    return [
        Path(entry.path)
        for folder in folders
        if folder.is_dir()
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(_LIST_SUFFIXES) and entry.is_file()
    ]


def _fingerprint(kind: str, root: Path, folders: Iterable[str]) -> dict[str, str]:
    fingerprint = {}
    for path in list_files(root):
        stat = path.stat()
        fingerprint[_relative(path, root)] = f"{stat.st_size} {stat.st_mtime_ns}"
    if kind not in _KINDS_WITH_PATHS:
        names = sorted(name for name in os.listdir(root) if not name.startswith("."))  # noqa: PTH208 - fast
        fingerprint["."] = hashlib.sha256(os.fsencode("/".join(names))).hexdigest()
    for folder in folders:
        path = root / folder
        fingerprint[folder] = str(path.stat().st_mtime_ns) if path.is_dir() else "absent"
    return fingerprint


def _index_folders(root: Path) -> tuple[Path, Path]:
    """Return the index folder below the root, and the one in the user's cache."""
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return root / _FOLDER, Path.home() / ".cache" / "motionaware" / digest


def _relative(path: Path, root: Path) -> str:
    """Return a path relative to the root if it is below it, else absolute."""
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()
