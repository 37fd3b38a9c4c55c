"""A shard -> its videos: read whole, held while they are asked for, laid out one at a time."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from motionaware.data.annotations.split import Split
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import FailedSample, Request, Sample
from motionaware.data.shards.layout import (
    DAMAGES,
    INDEX,
    WRITE,
    ShardedExamples,
    is_address,
    opened,
    tar_streams,
)
from motionaware.data.video.base import ANIMATION_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video
from motionaware.errors import VideoError

MIXED = 2  # shards whose videos are mixed with each other, and that a process holds in memory

_TRIES = 3  # to read a shard over a network
# A list may name an animated image as a video; a single image is a video of one frame.
_SUFFIXES = VIDEO_SUFFIXES | ANIMATION_SUFFIXES | IMAGE_SUFFIXES
_FRAME = re.compile(r"[0-9]+\.[a-z]+")


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
                words = str(error).replace(str(path), name).replace(f"{folder}/", "")
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
        try:
            samples = _read_tar(where)
        except DAMAGES as error:
            raise VideoError(
                f"shard {where} cannot be read as a tar file ({_words(error)}); fetch it again"
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
            raise VideoError(f"{where} lacks the json that names its class; {WRITE}") from error
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

    def __getitem__(self, request: Request) -> Sample | FailedSample:
        """Make a sample, or say why it cannot be made."""
        try:
            with self.reader.video(request.index) as (name, self._path):
                made = super().__getitem__(request)
                if isinstance(made, FailedSample):
                    raise made.error
                notes = (note.replace(str(self._path), name) for note in made.notes)
                made = replace(made, notes=tuple(notes))
        except VideoError as error:
            return FailedSample(request.index, VideoError(str(error)))
        return made

    def _open(self, index: int) -> Video:
        assert self._path is not None, index
        return self._opener(self._path)


def _unpack(files: dict[str, bytes], folder: Path, where: str) -> Path:
    """Write a video out. No name in a tar file becomes the name of a file as it is."""
    suffix, content = next(iter(files.items()), ("", b""))
    if len(files) == 1 and f".{suffix}" in _SUFFIXES:  # a frame has its number before it
        path = folder / f"video.{suffix}"
        path.write_bytes(content)
        return path
    if not files or not all(
        _FRAME.fullmatch(key) and Path(key).suffix in IMAGE_SUFFIXES for key in files
    ):
        raise VideoError(
            f"{where} holds {', '.join(sorted(files)[:5]) or 'nothing'} beside its json, wanted "
            f"one video or frames 000001.jpg and so on; {WRITE}"
        )
    for key, content in files.items():
        (folder / key).write_bytes(content)
    return folder


def _read_tar(where: str) -> list[_Packed]:
    for _ in range(_TRIES - 1 if is_address(where) else 0):
        with suppress(*DAMAGES):
            return _unpacked(where)
    return _unpacked(where)


def _unpacked(where: str) -> list[_Packed]:
    tariterators = tar_streams().tariterators
    packed = []
    with opened(where) as stream:
        files = tariterators.tar_file_expander([{"url": where, "stream": stream}])
        for sample in tariterators.group_by_keys(files):
            inside = {key: sample[key] for key in sample if not key.startswith("__")}
            packed.append(_Packed(sample["__key__"], inside.pop("json", None), inside))
    return packed


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error.args[0]) if error.args else type(error).__name__  # more args are webdataset's
