"""Shards: a data set as tar files, each read sequentially from its first byte to its last.

    ROOT/shards.json         the classes; name, size and labels of each split's shards; how many
                             videos two splits share
    ROOT/train-000000.tar    KEY.json KEY.mp4 KEY.json KEY.mp4 ... in the layout of WebDataset

A video is stored as its file, or as KEY.000001.jpg KEY.000002.jpg ... if it is a folder of frames.
Its JSON file has `name`, `class` and `label`. ROOT is a folder, its address (http, https), or
either with a pattern of shards: ROOT/train-{000000..000009}.tar. An open shard is held in memory,
so the data set need not fit on the local disk.

Source  https://github.com/webdataset/webdataset
"""

import http.client
import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from jaxtyping import Int32, Int64

from motionaware.data.annotations.split import (
    SHARD_INDEX,
    Example,
    ExampleArrays,
    Overlap,
    Split,
    contents,
)
from motionaware.data.shards.braces import expand_braces
from motionaware.errors import DataError, SplitAbsent, UsageError

VERSION = 1
REMEDY = "write the shards again: motionaware prepare shards KIND --root ROOT --out DIR"
READ_ERRORS = (tarfile.TarError, OSError, ValueError, EOFError, http.client.HTTPException)
"""What reading a damaged or unreachable file can raise."""

_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, eq=False)
class ShardedExamples(ExampleArrays):
    """The videos of a split, in the order of its shards.

    The path of an example is SHARD/POSITION: its real name is known once the shard is read.

    Attributes:
        base: Folder or address of the shards.
        shards: Names of the shards.
        ends: Number of videos up to the end of each shard.
        labels: Label of each video.
    """

    base: str
    shards: tuple[str, ...]
    ends: Int64[np.ndarray, "s"]
    labels: Int32[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        shard, position = self.locate(range(len(self))[index])
        return Example(Path(self.shards[shard]) / f"{position:06d}", int(self.labels[index]))

    def all_labels(self) -> Int32[np.ndarray, "n"]:
        """Return the label of each example."""
        return self.labels

    def has_duplicates(self) -> bool:
        """Return False: the index does not say whether two videos have the same name."""
        return False

    def locate(self, index: int) -> tuple[int, int]:
        """Return the shard that contains a video, and the video's position in it."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        return shard, index - self.videos_in(shard).start

    def videos_in(self, shard: int) -> range:
        """Return the indices of the videos in a shard."""
        return range(int(self.ends[shard - 1]) if shard else 0, int(self.ends[shard]))


# ---------------------------------------------------------------------------------------- the index


@dataclass(frozen=True)
class ShardIndex:
    """The content of shards.json.

    Attributes:
        root: Folder, address or pattern, as given.
        base: Folder or address of the shards.
        chosen: Names of the shards that a pattern chooses; None chooses all.
        class_names: All classes.
        shards: For each split, the entries of its shards: `name`, `num_bytes`, `labels`.
        overlap: How many videos two splits share.
    """

    root: str
    base: str
    chosen: frozenset[str] | None
    class_names: tuple[str, ...]
    shards: dict[str, list[dict[str, Any]]]
    overlap: Overlap

    def split(self, name: str) -> Split:
        """Return one split, after a check of the size of each of its shards on a local disk.

        Raises:
            SplitAbsent: There are no shards of this split.
            DataError: A shard is missing, has another size, or is not in the index.
        """
        if name not in self.shards:
            raise SplitAbsent(
                f"{self.base}/{SHARD_INDEX} has no shards of {name}; it has "
                f"{', '.join(self.shards) or 'none'}"
            )
        entries = self._chosen_entries(name)
        for entry in entries:
            _check_size(self.base, entry)
        counts = [len(entry["labels"]) for entry in entries]
        labels = np.concatenate([np.array(entry["labels"], dtype=np.int32) for entry in entries])
        names, ends = tuple(entry["name"] for entry in entries), np.cumsum(counts, dtype=np.int64)
        return Split(name, ShardedExamples(self.base, names, ends, labels), self.class_names)

    def _chosen_entries(self, split: str) -> list[dict[str, Any]]:
        if self.chosen is None:
            return self.shards[split]
        known = {entry["name"] for entries in self.shards.values() for entry in entries}
        for name in self.chosen - known:
            raise DataError(f"{self.base}/{name} is not in {self.base}/{SHARD_INDEX}; {REMEDY}")
        entries = [entry for entry in self.shards[split] if entry["name"] in self.chosen]
        if not entries:
            raise SplitAbsent(f"data.root {self.root} names no shard of {split}; name some")
        return entries


def read_shards(root: str | Path | None, split: str) -> Split:
    """Read one split of a data set in shards; see `read_shard_index` and `ShardIndex.split`."""
    return read_shard_index(root).split(split)


def read_shard_index(root: str | Path | None) -> ShardIndex:
    """Read the index of shards from a folder, an address, or either with a pattern.

    Raises:
        DataError: There is no index, it cannot be downloaded, or it is damaged.
    """
    if not root:
        raise DataError(
            "data of kind 'shards' needs its folder; set data.root "
            "(--data.root FOLDER; in a grid under overrides)"
        )
    base, chosen = _split_pattern(str(root))
    where = f"{base}/{SHARD_INDEX}"
    if not is_address(base):
        _check_folder(base)
    try:
        index = json.loads(_read_index_file(where))
        _check_index(index)
        shared = index.get("shared", ())  # older indices lack it
        overlap = {(str(first), str(second)): int(number) for first, second, number in shared}
    except DataError:  # it could not be downloaded, and the message says why
        raise
    except (*READ_ERRORS, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where} is not a valid index of shards ({reason}); {REMEDY}") from error
    class_names = tuple(index["class_names"])
    return ShardIndex(str(root), base, chosen, class_names, index["splits"], overlap)


def _split_pattern(root: str) -> tuple[str, frozenset[str] | None]:
    """Return the folder of the shards, and the names that a pattern chooses; None for all."""
    if not (root.endswith(".tar") or "{" in root):
        return root.rstrip("/") or "/", None
    base, _, pattern = root.rpartition("/")
    try:
        chosen = frozenset(expand_braces(pattern))
    except UsageError as error:
        raise DataError(
            f"data.root {root} is not a pattern of shards ({error}); write for example "
            "DIR/{train,val}-{000000..000009}.tar"
        ) from error
    if not base or "{" in base:
        raise DataError(f"data.root {root}: a pattern names shards in one folder; give DIR/PATTERN")
    return base, chosen


def _check_folder(base: str) -> None:
    if not Path(base).is_dir():
        where = "" if Path(base).is_absolute() else f" in {Path.cwd()}"
        raise DataError(
            f"data.root {base} is not a folder{where}; give the folder that contains {SHARD_INDEX}"
        )
    if not (Path(base) / SHARD_INDEX).is_file():
        raise DataError(
            f"{base}/{SHARD_INDEX} does not exist; it lists classes and shards; {base} holds "
            f"{contents(Path(base))}; {REMEDY}"
        )


def _check_index(index: Any) -> None:
    class_names = index["class_names"]
    if index["version"] != VERSION:
        raise UsageError(f"version {index['version']}, wanted {VERSION}")
    if not class_names or len({*map(str, class_names)}) < len(class_names):
        raise UsageError("no class names, or one class twice")
    for entry in (entry for entries in index["splits"].values() for entry in entries):
        labels = entry["labels"]
        if not labels or not 0 <= min(labels) <= max(labels) < len(class_names):
            raise UsageError(f"{entry['name']} has labels without a class")
        int(entry["num_bytes"])
        if Path(entry["name"]).name != entry["name"]:
            raise UsageError(f"{entry['name']} is not the name of a file in the same folder")


def _read_index_file(where: str) -> bytes:
    try:
        with open_binary(where) as stream:
            return stream.read()
    except (OSError, http.client.HTTPException) as error:
        if not is_address(where):
            raise
        raise DataError(
            f"{where} cannot be downloaded ({_network_reason(error)}); check the address and the "
            "network"
        ) from error


def _network_reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return str(error)
    cause = getattr(error, "reason", error)  # urllib wraps the error of the operating system
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _check_size(base: str, entry: dict[str, Any]) -> None:
    """Find missing and truncated shards on a local disk before training starts."""
    if is_address(base):
        return
    path = Path(base) / entry["name"]
    if not path.is_file():
        raise DataError(f"shard {path} does not exist, but {SHARD_INDEX} lists it; copy it again")
    size = path.stat().st_size
    if size != entry["num_bytes"]:
        raise DataError(
            f"shard {path} has {size} bytes, {SHARD_INDEX} says {entry['num_bytes']}; it was "
            "truncated, or was written at another time than the index: copy both again"
        )


# -------------------------------------------------------------------------------- files, addresses


@contextmanager
def open_binary(where: str) -> Iterator[BinaryIO]:
    """Open a local file or an http(s) address for reading.

    Anything else is the path of a local file. WebDataset's `pipe:` addresses run a command; they
    are never opened, since a checkpoint carries its `data.root`.
    """
    if is_address(where):
        with urllib.request.urlopen(where, timeout=_TIMEOUT_SECONDS) as stream:
            yield stream
        return
    with Path(where).open("rb") as stream:
        yield stream


def is_address(where: str) -> bool:
    """Return True for an http or https address."""
    return where.startswith(("http://", "https://"))
