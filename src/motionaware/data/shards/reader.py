"""Read videos from shards. A shard is read as a whole; its videos are unpacked one at a time."""

import json
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from motionaware.data.annotations.split import SHARD_INDEX, Split
from motionaware.data.clip_loaders import TrainingLoader
from motionaware.data.dataset import VideoDataset
from motionaware.data.loader import FailedSample, Request, Sample, make_loader
from motionaware.data.shards.layout import (
    READ_ERRORS,
    REMEDY,
    ShardedExamples,
    is_address,
    open_binary,
)
from motionaware.data.shards.sampler import (
    NUM_MIXED_SHARDS,
    RoundRobinLoader,
    ShardBatchSampler,
    rank_and_world_size,
    round_robin_loader,
)
from motionaware.data.transforms.mixup import Mixing
from motionaware.data.video.base import ANIMATION_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video
from motionaware.errors import DataError, UsageError, VideoError

_NUM_TRIES = 3  # to read a shard from an address
# A list may name an animated image as a video; a single image is a video of one frame.
_SUFFIXES = VIDEO_SUFFIXES | ANIMATION_SUFFIXES | IMAGE_SUFFIXES
_FRAME = re.compile(r"[0-9]+\.[a-z]+")
# WebDataset's rules: the key ends at the first dot of the file name; names in __ are metadata.
_MEMBER = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
_METADATA = re.compile(r"__[^/]*__($|/)")


@dataclass
class _Sample:
    """One sample of a shard: its key, and the content of its files by their suffixes."""

    key: str
    files: dict[str, bytes] = field(default_factory=dict)


class ShardReader:
    """Reads videos from shards; the last `NUM_MIXED_SHARDS` shards stay in memory."""

    def __init__(self, split: Split) -> None:
        assert isinstance(split.examples, ShardedExamples)
        self.examples = split.examples
        self.class_names = split.class_names
        self._shards: dict[int, list[_Sample] | VideoError] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_shards": {}}  # each process reads its own shards

    @contextmanager
    def video(self, index: int) -> Iterator[tuple[str, Path]]:
        """Unpack a video into a temporary file or folder.

        Yields its name, with the shard that contains it, and the path of the file or folder. A
        file, not bytes in memory: so the same decoders read it, at the same speed.

        Raises:
            VideoError: The shard cannot be read or differs from the index; the message names it.
        """
        shard, position = self.examples.locate(index)
        sample = self._samples(shard)[position]
        where = f"{self._address(shard)}, sample {sample.key}"
        name = self._check_label(sample, index, where)
        with tempfile.TemporaryDirectory(prefix="motionaware-") as folder:
            path = _unpack(sample, Path(folder), where)
            try:
                yield f"{where} ({name})", path
            except VideoError as error:
                message = str(error).replace(str(path), name).replace(f"{folder}/", "")
                raise VideoError(f"{where}: {message}") from error

    def _samples(self, shard: int) -> list[_Sample]:
        if shard not in self._shards:
            if len(self._shards) >= NUM_MIXED_SHARDS:
                del self._shards[next(iter(self._shards))]
            try:
                self._shards[shard] = self._read(shard)
            except VideoError as error:
                self._shards[shard] = error  # do not read a damaged shard once a video
        samples = self._shards[shard]
        if isinstance(samples, VideoError):
            raise VideoError(str(samples))
        return samples

    def _read(self, shard: int) -> list[_Sample]:
        address = self._address(shard)
        try:
            samples = _read_with_retries(address)
        except READ_ERRORS as error:
            raise VideoError(
                f"shard {address} cannot be read as a tar file ({_reason(error)}); copy it again"
            ) from error
        num_wanted = len(self.examples.videos_in(shard))
        if len(samples) != num_wanted:
            raise VideoError(
                f"shard {address} holds {len(samples)} samples, {SHARD_INDEX} says {num_wanted}; "
                "copy both again"
            )
        return samples

    def _address(self, shard: int) -> str:
        return f"{self.examples.base}/{self.examples.shards[shard]}"

    def _check_label(self, sample: _Sample, index: int, where: str) -> str:
        """Return the name of a video, if its class is that of the index."""
        wanted = self.class_names[self.examples.labels[index]]
        try:
            about = json.loads(sample.files.get("json", b""))
            name, found = str(about["name"]), about["class"]
        except (KeyError, TypeError, ValueError) as error:
            raise VideoError(
                f"{where} lacks the JSON file that names its class; {REMEDY}"
            ) from error
        if found != wanted:
            raise VideoError(
                f"{where} ({name}) shows {found!r}, {SHARD_INDEX} says {wanted!r}; shard and index "
                "were written at different times: copy both again"
            )
        return name


class ShardDataset(VideoDataset):
    """Clips of the videos of a split in shards; equal to those of a `VideoDataset` of the videos.

    Any shard can be read at any time, but reading the batches in the order of `ShardBatchSampler`
    reads each shard once an epoch.
    """

    def __init__(self, split: Split, **options: Any) -> None:
        super().__init__(split, **options)
        self.reader = ShardReader(split)
        self._path: Path | None = None  # of the unpacked video

    def __getitem__(self, request: Request) -> Sample | FailedSample:
        """Return the clip of a request, or the reason why its video cannot be read."""
        try:
            with self.reader.video(request.index) as (name, self._path):
                sample = super().__getitem__(request)
                if isinstance(sample, FailedSample):
                    raise sample.error
                notes = (note.replace(str(self._path), name) for note in sample.notes)
                return replace(sample, notes=tuple(notes))
        except VideoError as error:
            return FailedSample(request.index, VideoError(str(error)))

    def training_loader(
        self,
        *,
        batch_size: int,
        seed: int,
        num_workers: int,
        mixing: Mixing | None = None,
        skip: bool = False,
        balanced: bool = False,
    ) -> TrainingLoader:
        """Return the loader of training clips; each rank gets its own shards.

        See `SplitDataset.training_loader` for the arguments.

        Raises:
            DataError: `balanced`, or fewer shards than ranks.
        """
        if balanced:
            raise DataError(
                "data.balanced_sampling needs to read a video several times in an epoch, but "
                "shards are read once an epoch, one after the other; set train.class_weights "
                "balanced instead, or train on the data set that the shards were written from"
            )
        rank, world_size = rank_and_world_size()
        sampler = ShardBatchSampler(
            self.reader.examples,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        make = partial(make_loader, self, mixing=mixing, skip=skip)
        return TrainingLoader(
            sampler,
            round_robin_loader(sampler, make, num_workers=num_workers),
            part="" if world_size == 1 else f" (of rank {rank} of {world_size})",
            digest=sampler.digest(),
        )

    def view_loader(
        self, *, batch_size: int, num_workers: int, skip: bool = False
    ) -> RoundRobinLoader:
        """Return the loader of the test views of all videos, the same for each rank."""
        sampler = ShardBatchSampler(
            self.reader.examples, batch_size=batch_size, num_workers=num_workers, seed=None
        )
        make = partial(make_loader, self, skip=skip)
        return round_robin_loader(sampler, make, num_workers=num_workers)

    def _open(self, index: int) -> Video:
        assert self._path is not None, index
        return self._opener(self._path)


def _unpack(sample: _Sample, folder: Path, where: str) -> Path:
    """Write a video to a folder. File names are our own, never those in the tar file."""
    files = {suffix: content for suffix, content in sample.files.items() if suffix != "json"}
    suffix, content = next(iter(files.items()), ("", b""))
    if len(files) == 1 and f".{suffix}" in _SUFFIXES:  # a frame would have a number before it
        path = folder / f"video.{suffix}"
        path.write_bytes(content)
        return path
    if not files or not all(
        _FRAME.fullmatch(name) and Path(name).suffix in IMAGE_SUFFIXES for name in files
    ):
        raise VideoError(
            f"{where} holds {', '.join(sorted(files)[:5]) or 'nothing'} besides its JSON file, "
            f"wanted one video, or frames 000001.jpg and so on; {REMEDY}"
        )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _read_with_retries(where: str) -> list[_Sample]:
    for _ in range(_NUM_TRIES - 1 if is_address(where) else 0):
        with suppress(*READ_ERRORS):
            return _read_samples(where)
    return _read_samples(where)


def _read_samples(where: str) -> list[_Sample]:
    """Read a tar file. Members that follow each other and have the same key are one sample."""
    samples: list[_Sample] = []
    with open_binary(where) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            name = _MEMBER.fullmatch(member.name)
            if name is None or not member.isreg() or _METADATA.match(member.name):
                continue
            key, suffix = name[1], name[2].lower()
            if not samples or samples[-1].key != key:
                samples.append(_Sample(key))
            if suffix in samples[-1].files:
                raise UsageError(f"{member.name} occurs twice")
            content = tar.extractfile(member)
            assert content is not None, member.name  # of a regular file it never is
            samples[-1].files[suffix] = content.read()
    return samples


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
