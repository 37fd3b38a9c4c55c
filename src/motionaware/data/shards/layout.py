"""Shards: a data set as tar files, each read in one go from its first byte to its last.

    ROOT/shards.json         the classes; each split's shards, their sizes and the labels in them;
                             how many videos two splits share
    ROOT/train-000000.tar    KEY.mp4 KEY.json KEY.mp4 KEY.json ... as WebDataset has it

A video is the file as it was, or KEY.000001.jpg KEY.000002.jpg ... where it was a folder of frames.
Its json says `name`, `class` and `label`. ROOT is a folder, or the address of one (http, https), or
either with a pattern of shards: ROOT/train-{000000..000009}.tar. A shard that is opened is held in
memory: no disk need hold the data set.

Source  https://github.com/webdataset/webdataset
"""

import http.client
import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
from jaxtyping import Int32, Int64

from motionaware.data.annotations.split import Example, Shared, Split, contents
from motionaware.errors import DataError, MissingPackage, SplitAbsent, UsageError

KIND = "shards"  # in `data.kind`
INDEX = "shards.json"
VERSION = 1

_TIMEOUT_SECONDS = 60
WRITE = "write the shards again: motionaware prepare shards KIND --root ROOT --out DIR"
DAMAGES = (tarfile.TarError, OSError, ValueError, EOFError, http.client.HTTPException)


@dataclass(frozen=True, eq=False)
class ShardedExamples(Sequence[Example]):
    """The videos of a split in the order of its shards.

    Attributes:
        base: The folder of the shards, or its address.
        shards: Their names.
        ends: For each, how many videos there are up to its end.
        labels: The position of each video's class.
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
            return tuple(self[place] for place in range(*index.indices(len(self))))
        shard, place = self.find(range(len(self))[index])
        return Example(Path(self.shards[shard]) / f"{place:06d}", int(self.labels[index]))

    def all_labels(self) -> Int32[np.ndarray, "n"]:
        """Return the label of each example."""
        return self.labels

    def find(self, index: int) -> tuple[int, int]:
        """In which shard a video is, and at which place in it."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        return shard, index - self.within(shard).start

    def within(self, shard: int) -> range:
        """The videos of a shard."""
        return range(int(self.ends[shard - 1]) if shard else 0, int(self.ends[shard]))


# ------------------------------------------------------------------------------ opening the index


def read_shards(root: str | Path | None, split: str) -> Split:
    """Read what the index says of a split, and look at the size of each of its shards on a disk.

    Raises:
        SplitAbsent: There are no shards of this split.
        DataError: There is no index, it cannot be fetched, it is damaged, or a shard is not as it
            says.
    """
    if not root:
        raise DataError("data of kind 'shards' needs its folder; set data.root")
    base, chosen = _parted(str(root))
    index = _read_index(base)
    class_names, splits = index.class_names, index.splits
    if split not in splits:
        raise SplitAbsent(
            f"{base}/{INDEX} has no shards of {split}; it has {', '.join(splits) or 'none'}"
        )
    entries = splits[split]
    if chosen is not None:
        known = {entry["name"] for entries in splits.values() for entry in entries}
        for name in chosen - known:
            raise DataError(f"{base}/{name} is not in {base}/{INDEX}; {WRITE}")
        entries = [entry for entry in entries if entry["name"] in chosen]
    if not entries:
        raise SplitAbsent(f"data.root {root} names no shard of {split}; name some")
    for entry in entries:
        _check_size(base, entry)
    counts = [len(entry["labels"]) for entry in entries]
    labels = np.concatenate([np.array(entry["labels"], dtype=np.int32) for entry in entries])
    examples = ShardedExamples(
        base, tuple(entry["name"] for entry in entries), np.cumsum(counts, dtype=np.int64), labels
    )
    return Split(split, examples, class_names)


def read_shared(root: str | Path) -> Shared:
    """Read how many videos the splits share, by the lists that the shards were written from.

    Raises:
        DataError: There is no index, it cannot be fetched, or it is damaged.
    """
    base, _ = _parted(str(root))
    return {(one, other): number for one, other, number in _read_index(base).shared}


def _parted(root: str) -> tuple[str, set[str] | None]:
    """The folder of the shards, and the names of those that are chosen; None takes all."""
    if not (root.endswith(".tar") or "{" in root):
        return root.rstrip("/") or "/", None
    base, _, pattern = root.rpartition("/")
    try:
        chosen = set(tar_streams().shardlists.expand_urls(pattern))
    except ValueError as error:
        raise DataError(
            f"data.root {root} is no pattern of shards ({error}); write for example "
            "DIR/{train,val}-{000000..000009}.tar"
        ) from error
    if not base or "{" in base:
        raise DataError(f"data.root {root}: a pattern names shards in one folder; give DIR/PATTERN")
    return base, chosen


class _Index(NamedTuple):
    class_names: tuple[str, ...]
    splits: dict[str, list[dict[str, Any]]]
    shared: list[tuple[str, str, int]]


def _read_index(base: str) -> _Index:
    where = f"{base}/{INDEX}"
    if not is_address(base):
        if not Path(base).is_dir():
            begin = "" if Path(base).is_absolute() else f" in {Path.cwd()}"
            raise DataError(
                f"data.root {base} is not a folder{begin}; give the one that holds {INDEX}"
            )
        if not Path(where).is_file():
            raise DataError(
                f"{where} does not exist, which lists classes and shards; {base} holds "
                f"{contents(Path(base))}; {WRITE}"
            )
    try:
        index = json.loads(_index_text(where))
        class_names, splits = tuple(index["class_names"]), index["splits"]
        shared = [(str(a), str(b), int(n)) for a, b, n in index.get("shared", ())]  # older lack it
        if index["version"] != VERSION:
            raise UsageError(f"version {index['version']}, wanted {VERSION}")
        if not class_names or len({*map(str, class_names)}) < len(class_names):
            raise UsageError("no class names, or one twice")
        for entry in (entry for entries in splits.values() for entry in entries):
            labels = entry["labels"]
            if not labels or not 0 <= min(labels) <= max(labels) < len(class_names):
                raise UsageError(f"{entry['name']}: labels that are none of its classes")
            int(entry["num_bytes"])
            if Path(entry["name"]).name != entry["name"]:
                raise UsageError(f"{entry['name']} is no name of a file beside it")
    except DataError:  # not fetched at all: it has words of its own
        raise
    except (*DAMAGES, KeyError, TypeError, AttributeError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where} is no index of shards ({lacks}); {WRITE}") from error
    return _Index(class_names, splits, shared)


def _index_text(where: str) -> bytes:
    try:
        with opened(where) as stream:
            return stream.read()
    except (OSError, http.client.HTTPException) as error:
        if not is_address(where):
            raise
        cause = getattr(error, "reason", error)  # what urllib wraps
        words = str(error) if isinstance(error, urllib.error.HTTPError) else _cause_words(cause)
        raise DataError(
            f"{where} cannot be fetched ({words}); check the address and the network"
        ) from error


def _cause_words(cause: object) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _check_size(base: str, entry: dict[str, Any]) -> None:
    """Find what was lost or cut short before hours of training, where a look costs nothing."""
    if is_address(base):
        return
    path = Path(base) / entry["name"]
    if not path.is_file():
        raise DataError(f"shard {path} does not exist, but {INDEX} lists it; fetch it again")
    found = path.stat().st_size
    if found != entry["num_bytes"]:
        raise DataError(
            f"shard {path} has {found} bytes, {INDEX} says {entry['num_bytes']}; it was cut short, "
            "or is of another writing: fetch it again"
        )


# ------------------------------------------------------------------------------ where files are


@contextmanager
def opened(where: str) -> Iterator[BinaryIO]:
    """Open a file on a disk, or at an address."""
    # No other address is opened, above all no `pipe:`: a checkpoint brings its data.root along, and
    # must not run commands.
    if is_address(where):
        with urllib.request.urlopen(where, timeout=_TIMEOUT_SECONDS) as stream:
            yield stream
        return
    with Path(where).open("rb") as stream:
        yield stream


def is_address(where: str) -> bool:
    """Whether this is read over a network."""
    return where.startswith(("http://", "https://"))


def tar_streams() -> Any:
    """The package webdataset, with what expands patterns and what reads tar files.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import webdataset.shardlists
        import webdataset.tariterators
    except ImportError as error:
        raise MissingPackage(
            "shards need webdataset, which is not installed; pip install 'motionaware[shards]'"
        ) from error
    return webdataset
