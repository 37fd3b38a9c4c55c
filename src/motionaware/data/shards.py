"""Shards: a data set as tar files, each read in one go from its first byte to its last.

    ROOT/shards.json         the classes; each split's shards, their sizes and the labels in them
    ROOT/train-000000.tar    KEY.mp4 KEY.json KEY.mp4 KEY.json ... as WebDataset has it

A video is the file as it was, or KEY.00001.jpg KEY.00002.jpg ... where it was a folder of frames.
Its json says `name`, `class` and `label`. ROOT is a folder, or the address of one (http, https), or
either with a pattern of shards: ROOT/train-{000000..000009}.tar. A shard that is opened is held in
memory: no disk need hold the data set.

Source  https://github.com/webdataset/webdataset
"""

import http.client
import json
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from jaxtyping import Int32, Int64

from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import Broken, Request, Sample
from motionaware.data.split import DataError, Example, Split, SplitAbsent, contents
from motionaware.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video, VideoError, open_video

KIND = "shards"  # in `data.kind`
INDEX = "shards.json"
VERSION = 1
MIXED = 2  # shards whose videos are mixed with each other, and that a process holds in memory

_TIMEOUT_SECONDS = 60
_TRIES = 3  # to read a shard over a network
_WRITE = "write the shards again: motionaware prepare KIND --root ROOT --shards DIR"
_FRAME = re.compile(r"[0-9]+\.[a-z]+")
_DAMAGES = (tarfile.TarError, OSError, ValueError, EOFError, http.client.HTTPException)


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
        DataError: There is no index, it is damaged, or a shard is not as it says.
    """
    if not root:
        raise DataError("data of kind 'shards' needs its folder; set data.root")
    base, chosen = _parted(str(root))
    class_names, splits = _read_index(base)
    if split not in splits:
        raise SplitAbsent(
            f"{base}/{INDEX} has no shards of {split}; it has {', '.join(splits) or 'none'}"
        )
    entries = splits[split]
    if chosen is not None:
        known = {entry["name"] for entries in splits.values() for entry in entries}
        for name in chosen - known:
            raise DataError(f"{base}/{name} is not in {base}/{INDEX}; {_WRITE}")
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


def _parted(root: str) -> tuple[str, set[str] | None]:
    """The folder of the shards, and the names of those that are chosen; None takes all."""
    if not (root.endswith(".tar") or "{" in root):
        return root.rstrip("/") or "/", None
    base, _, pattern = root.rpartition("/")
    try:
        chosen = set(_webdataset().shardlists.expand_urls(pattern))
    except ValueError as error:
        raise DataError(
            f"data.root {root} is no pattern of shards ({error}); write for example "
            "DIR/{train,val}-{000000..000009}.tar"
        ) from error
    if not base or "{" in base:
        raise DataError(f"data.root {root}: a pattern names shards in one folder; give DIR/PATTERN")
    return base, chosen


def _read_index(base: str) -> tuple[tuple[str, ...], dict[str, list[dict[str, Any]]]]:
    where = f"{base}/{INDEX}"
    if not _is_address(base):
        if not Path(base).is_dir():
            raise DataError(f"data.root {base} is not a folder; give the one that holds {INDEX}")
        if not Path(where).is_file():
            raise DataError(
                f"{where} does not exist, which lists classes and shards; {base} holds "
                f"{contents(Path(base))}; {_WRITE}"
            )
    try:
        with _opened(where) as stream:
            index = json.load(stream)
        class_names, splits = tuple(index["class_names"]), index["splits"]
        if index["version"] != VERSION:
            raise ValueError(f"version {index['version']}, wanted {VERSION}")
        if not class_names or len({*map(str, class_names)}) < len(class_names):
            raise ValueError("no class names, or one twice")
        for entry in (entry for entries in splits.values() for entry in entries):
            labels = entry["labels"]
            if not labels or not 0 <= min(labels) <= max(labels) < len(class_names):
                raise ValueError(f"{entry['name']}: labels that are none of its classes")
            int(entry["num_bytes"])
    except (*_DAMAGES, KeyError, TypeError, AttributeError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{where} is no index of shards ({lacks}); {_WRITE}") from error
    return class_names, splits


def _check_size(base: str, entry: dict[str, Any]) -> None:
    """Find what was lost or cut short before hours of training, where a look costs nothing."""
    if _is_address(base):
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


# ------------------------------------------------------------------------------- reading a shard


@dataclass(frozen=True)
class _Packed:
    """A sample of a shard: its key, what its json says, and its other files by what follows it."""

    key: str
    about: bytes | None
    files: dict[str, bytes]


class ShardReader:
    """Reads shards whole, and remembers the last few of them."""

    def __init__(self, split: Split) -> None:
        assert isinstance(split.examples, ShardedExamples)
        self.examples = split.examples
        self.class_names = split.class_names
        self._held: dict[int, list[_Packed] | VideoError] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_held": {}}  # another process reads its own

    @contextmanager
    def video(self, index: int) -> Iterator[tuple[str, Path]]:
        """Lay a video out as a file or a folder, for as long as it is needed; and say its name.

        A file, not bytes in memory: whatever decodes files then decodes this, as quickly.

        Raises:
            VideoError: Its shard cannot be read or is not as the index says; which one and why.
        """
        shard, place = self.examples.find(index)
        sample = self._samples(shard)[place]
        where = f"{self._where(shard)}, sample {sample.key}"
        name = self._checked_name(sample, index, where)
        with tempfile.TemporaryDirectory(prefix="motionaware-") as folder:
            path = _unpack(sample.files, Path(folder), where)
            try:
                yield f"{where} ({name})", path
            except VideoError as error:
                words = str(error).replace(str(path), name)
                raise VideoError(f"{where}: {words}") from error

    def _samples(self, shard: int) -> list[_Packed]:
        if shard not in self._held:
            if len(self._held) >= MIXED:
                del self._held[next(iter(self._held))]
            try:
                self._held[shard] = self._read(shard)
            except VideoError as error:
                self._held[shard] = error
        samples = self._held[shard]
        if isinstance(samples, VideoError):
            raise VideoError(str(samples))
        return samples

    def _read(self, shard: int) -> list[_Packed]:
        where = self._where(shard)
        for tries_left in reversed(range(_TRIES if _is_address(where) else 1)):
            try:
                samples = _read_tar(where)
                break
            except _DAMAGES as error:
                if not tries_left:
                    words = error.args[0] if error.args else type(error).__name__
                    if isinstance(error, OSError) and error.strerror:
                        words = error.strerror
                    raise VideoError(
                        f"shard {where} cannot be read as a tar file ({words}); fetch it again"
                    ) from error
        wanted = len(self.examples.within(shard))
        if len(samples) != wanted:
            raise VideoError(
                f"shard {where} holds {len(samples)} samples, {INDEX} says {wanted}; fetch both "
                "again"
            )
        return samples

    def _where(self, shard: int) -> str:
        return f"{self.examples.base}/{self.examples.shards[shard]}"

    def _checked_name(self, sample: _Packed, index: int, where: str) -> str:
        wanted = self.class_names[self.examples.labels[index]]
        try:
            about = json.loads(sample.about or b"")
            name, shown = str(about["name"]), about["class"]
        except (KeyError, TypeError, ValueError) as error:
            raise VideoError(f"{where} lacks the json that names its class; {_WRITE}") from error
        if shown != wanted:
            raise VideoError(
                f"{where} ({name}) shows {shown!r}, {INDEX} says {wanted!r}; they are not of one "
                "writing: fetch both again"
            )
        return name


class ShardDataset(VideoDataset):
    """Clips of the videos of a split in shards; made as `VideoDataset` makes them."""

    def __init__(self, split: Split, **options: Any) -> None:
        super().__init__(split, **options)
        self.reader = ShardReader(split)
        self._path: Path | None = None

    def __getitem__(self, request: Request) -> Sample | Broken:
        """Make a sample, or say why it cannot be made."""
        try:
            with self.reader.video(request.index) as (_, self._path):
                made = super().__getitem__(request)
                if isinstance(made, Broken):
                    raise made.error
        except VideoError as error:
            return Broken(request.index, VideoError(str(error)))
        return made

    def _open(self, index: int) -> Video:
        assert self._path is not None, index
        return open_video(self._path)


def _unpack(files: dict[str, bytes], folder: Path, where: str) -> Path:
    """Write a video out. No name in a tar file becomes the name of a file as it is."""
    suffix, content = next(iter(files.items()), ("", b""))
    if len(files) == 1 and f".{suffix}" in VIDEO_SUFFIXES:
        path = folder / f"video.{suffix}"
        path.write_bytes(content)
        return path
    if not files or not all(
        _FRAME.fullmatch(key) and Path(key).suffix in IMAGE_SUFFIXES for key in files
    ):
        raise VideoError(
            f"{where} holds {', '.join(sorted(files)[:5]) or 'nothing'} beside its json, wanted "
            f"one video or frames 000001.jpg and so on; {_WRITE}"
        )
    for key, content in files.items():
        (folder / key).write_bytes(content)
    return folder


def _read_tar(where: str) -> list[_Packed]:
    tariterators = _webdataset().tariterators
    packed = []
    with _opened(where) as stream:
        files = tariterators.tar_file_expander([{"url": where, "stream": stream}])
        for sample in tariterators.group_by_keys(files):
            inside = {key: sample[key] for key in sample if not key.startswith("__")}
            packed.append(_Packed(sample["__key__"], inside.pop("json", None), inside))
    return packed


@contextmanager
def _opened(where: str) -> Iterator[BinaryIO]:
    # No other address is opened, above all no `pipe:`: a checkpoint brings its data.root along, and
    # must not run commands.
    if _is_address(where):
        with urllib.request.urlopen(where, timeout=_TIMEOUT_SECONDS) as stream:
            yield stream
        return
    with Path(where).open("rb") as stream:
        yield stream


def _is_address(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _webdataset() -> Any:
    try:
        import webdataset.shardlists
        import webdataset.tariterators
    except ImportError as error:
        raise ImportError(
            "shards need webdataset, which is not installed; pip install 'motionaware[shards]'"
        ) from error
    return webdataset
