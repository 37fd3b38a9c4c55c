"""Data sets of every kind behind one protocol: video files, shards and MotionPairs."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from motionaware.clip import ClipSpec
from motionaware.data.annotations.overlap import find_overlap
from motionaware.data.annotations.split import SPLITS, Overlap, Split
from motionaware.data.annotations.table import check_videos_exist, read_split
from motionaware.data.clip_loaders import SplitDataset
from motionaware.data.dataset import MotionPairsDataset, VideoDataset
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.shards.layout import ShardIndex, read_shard_index
from motionaware.data.shards.reader import ShardDataset
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.transforms.augment import Augment
from motionaware.data.transforms.crop_flip import Crop
from motionaware.data.transforms.flip_labels import Flip
from motionaware.data.video.base import Video
from motionaware.data.video.open import open_video
from motionaware.errors import DataError, SplitAbsent


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """How clips are made of videos; the attributes are the arguments of `VideoDataset`."""

    spec: ClipSpec
    crop: Crop = "random_resized"
    flip: Flip = False
    augment: Augment | None = None
    num_views: int = 1
    num_crops: int = 1
    opener: Callable[[Path], Video] = open_video


@runtime_checkable
class VideoSource(Protocol):
    """One data set: its splits, what they share, and their clips.

    Lists are read once: what was read for one method is kept for the others.

    Attributes:
        needs_folder: True if the data are files below a root folder, which must exist.
        is_generated: True if clips are generated, not read; the root folder is then a cache.
        cache_refusal: Why a cache of decoded frames cannot be used; None if it can.
    """

    needs_folder: ClassVar[bool]
    is_generated: ClassVar[bool]
    cache_refusal: ClassVar[str | None]

    def has_split(self, split: str) -> bool:
        """Return False if the data set lacks a split. A damaged split exists."""
        ...

    def overlap(self) -> Overlap:
        """Return how many videos each two splits share; splits that cannot be read are ignored."""
        ...

    def open(
        self,
        split: str,
        options: ClipOptions,
        *,
        skips: SkippedVideos | None = None,
        progress: bool = False,
    ) -> SplitDataset:
        """Return the clips of one split.

        Args:
            split: `train`, `val` or `test`.
            options: How clips are made.
            skips: Records missing videos, which are left out; None refuses them.
            progress: Show a bar on stderr while clips are generated.

        Raises:
            SplitAbsent: The data set lacks this split.
            DataError: The data do not have the layout of their kind, or videos are missing.
        """
        ...


class FileSource:
    """Video files and folders of frames, named by lists or class folders.

    Args:
        kind: A key of `motionaware.data.annotations.table.KINDS`.
        root: The folder of the data set.
    """

    needs_folder: ClassVar[bool] = True
    is_generated: ClassVar[bool] = False
    cache_refusal: ClassVar[str | None] = None

    def __init__(self, kind: str, root: str | Path | None) -> None:
        self.kind, self.root = kind, root
        self._splits: dict[str, Split | SplitAbsent] = {}

    def read(self, split: str) -> Split:
        """Return one split from its index or lists, which are read once; see `read_split`."""
        if split not in self._splits:
            try:
                self._splits[split] = read_split(self.kind, self.root, split)
            except SplitAbsent as error:
                self._splits[split] = error
        found = self._splits[split]
        if isinstance(found, SplitAbsent):
            raise found
        return found

    def has_split(self, split: str) -> bool:
        """Return False if the data set lacks a split."""
        return _has_split(self.read, split)

    def overlap(self) -> Overlap:
        """Return how many videos each two splits share."""
        splits = []
        for name in SPLITS:
            with suppress(DataError, OSError):  # reported when the split is opened
                splits.append(self.read(name))
        return find_overlap(splits)

    def open(
        self,
        split: str,
        options: ClipOptions,
        *,
        skips: SkippedVideos | None = None,
        progress: bool = False,
    ) -> VideoDataset:
        """Return the clips of one split; see `VideoSource.open`."""
        videos = self.read(split)
        if skips is None:
            check_videos_exist(videos)
        else:
            videos = skips.without_missing(videos)
        return VideoDataset(videos, **vars(options))


class ShardSource:
    """Shards in a folder or at an address.

    Args:
        root: Folder, address, or either with a pattern; see `motionaware.data.shards.layout`.
    """

    needs_folder: ClassVar[bool] = False
    is_generated: ClassVar[bool] = False
    cache_refusal: ClassVar[str | None] = (
        "shards are streamed and not kept; leave cache_dir out, or name the data set that they "
        "were written from"
    )

    def __init__(self, root: str | Path | None) -> None:
        self.root = root

    @cached_property
    def index(self) -> ShardIndex:
        """The content of shards.json, which is read once."""
        return read_shard_index(self.root)

    def has_split(self, split: str) -> bool:
        """Return False if the data set lacks a split."""
        return _has_split(lambda name: self.index.split(name), split)

    def overlap(self) -> Overlap:
        """Return how many videos each two splits share, as shards.json says."""
        with suppress(DataError, OSError):  # reported when a split is opened
            return self.index.overlap
        return {}

    def open(
        self,
        split: str,
        options: ClipOptions,
        *,
        skips: SkippedVideos | None = None,
        progress: bool = False,
    ) -> ShardDataset:
        """Return the clips of one split; see `VideoSource.open`. No video in a shard is missing."""
        return ShardDataset(self.index.split(split), **vars(options))


class MotionPairsSource:
    """The generated data set MotionPairs.

    Args:
        num_clips: Number of clips of each split.
        seed: Seed of the data set.
        cache_dir: Folder that keeps the generated clips; None generates each clip when it is read.
    """

    needs_folder: ClassVar[bool] = False
    is_generated: ClassVar[bool] = True
    cache_refusal: ClassVar[str | None] = None  # a cache is accepted, and stays empty

    def __init__(self, num_clips: Mapping[str, int], *, seed: int, cache_dir: Path | None) -> None:
        self.num_clips, self.seed, self.cache_dir = num_clips, seed, cache_dir

    def has_split(self, split: str) -> bool:
        """Return True if clips of this split can be generated."""
        return split in self.num_clips

    def overlap(self) -> Overlap:
        """Return no overlap: the seed of a clip contains the split."""
        return {}

    def open(
        self,
        split: str,
        options: ClipOptions,
        *,
        skips: SkippedVideos | None = None,
        progress: bool = False,
    ) -> MotionPairsDataset:
        """Return the clips of one split, uncropped; see `VideoSource.open`."""
        clips = MotionPairs(
            split=split,
            num_clips=self.num_clips.get(split, 1),
            num_frames=options.spec.num_frames,
            image_size=options.spec.image_size,
            seed=self.seed,
            cache_dir=self.cache_dir,
            progress=progress,
        )
        return MotionPairsDataset(clips, flip=options.flip, augment=options.augment)


def _has_split(read: Callable[[str], Split], split: str) -> bool:
    try:
        read(split)
    except SplitAbsent:
        return False
    except (DataError, OSError):
        return True
    return True
