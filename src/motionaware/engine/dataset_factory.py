"""Open the data set that a recipe names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import SPLITS
from motionaware.data.annotations.table import KINDS
from motionaware.data.clip_loaders import SplitDataset
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.source import (
    ClipOptions,
    FileSource,
    MotionPairsSource,
    ShardSource,
    VideoSource,
)
from motionaware.data.transforms.augment import Augment
from motionaware.data.video.base import Video
from motionaware.data.video.frame_cache import FrameCache
from motionaware.data.video.open import video_opener
from motionaware.engine.config import DataConfig, EvalConfig
from motionaware.errors import DataError


def _file_source(config: DataConfig) -> VideoSource:
    return FileSource(config.kind, config.root)


def _shard_source(config: DataConfig) -> VideoSource:
    return ShardSource(config.root)


def _motionpairs_source(config: DataConfig) -> VideoSource:
    num_clips = (config.num_train_clips, config.num_val_clips, config.num_test_clips)
    return MotionPairsSource(
        dict(zip(SPLITS, num_clips, strict=True)),
        seed=config.seed,
        cache_dir=Path(config.root) if config.root else None,
    )


_SOURCES: dict[str, Callable[[DataConfig], VideoSource]] = {
    **dict.fromkeys(KINDS, _file_source),
    "shards": _shard_source,
    "motionpairs": _motionpairs_source,
}


def open_source(config: DataConfig) -> VideoSource:
    """Return the data set of a recipe. Nothing is read yet.

    An unknown `data.kind` is refused by the first method that reads.
    """
    return _SOURCES.get(config.kind, _file_source)(config)


def open_dataset(
    config: DataConfig,
    split: str,
    *,
    spec: ClipSpec,
    views: EvalConfig | None = None,
    augment: Augment | None = None,
    skips: SkippedVideos | None = None,
    cache: FrameCache | None = None,
    progress: bool = False,
    source: VideoSource | None = None,
) -> SplitDataset:
    """Open one split of the data set of a recipe.

    Args:
        config: The recipe's `data`.
        split: `train`, `val` or `test`.
        spec: Number of frames, sampling and size of the clips.
        views: Number of views of a video at test time.
        augment: Augmentation of training clips.
        skips: Records missing videos, if the recipe skips them.
        cache: Keeps decoded frames; see `open_cache`.
        progress: Show a bar on stderr while clips are generated.
        source: The data set, if it was opened before; its lists are not read again.

    Raises:
        SplitAbsent: The data set does not have this split.
        DataError: The data do not have the layout of their kind, or videos are missing.
    """
    views = views or EvalConfig()
    if config.on_error != "skip":
        skips = None
    elif skips is None:
        skips = SkippedVideos(config.max_skipped_share)
    options = ClipOptions(
        spec=spec,
        crop=config.crop,
        flip=config.flip,
        augment=augment,
        num_views=views.num_views,
        num_crops=views.num_crops,
        opener=cache.open if cache else _video_opener(config, spec),
    )
    source = source or open_source(config)
    return source.open(split, options, skips=skips, progress=progress)


def _video_opener(config: DataConfig, spec: ClipSpec) -> Callable[[str | Path], Video]:
    return video_opener(
        config.decoder, square_pixels=spec.square_pixels, size_change=config.size_change
    )


def open_cache(config: DataConfig, *, spec: ClipSpec) -> FrameCache | None:
    """Return the cache of decoded frames that a recipe names; None if it names none.

    Args:
        config: The recipe's `data`.
        spec: Whether frames are resized to square pixels.

    Raises:
        DataError: Data of this kind cannot be cached; no folder is made.
        OSError: The folder cannot be written.
    """
    if config.cache_dir is None:
        return None
    if refusal := open_source(config).cache_refusal:
        raise DataError(f"data.cache_dir is {config.cache_dir}, but {refusal}")
    return FrameCache(
        config.cache_dir,
        max_gib=config.cache_gib,
        decoder=config.decoder,
        square_pixels=spec.square_pixels,
        size_change=config.size_change,
    )


@dataclass(frozen=True)
class SplitCheck:
    """Whether a data set has a test split, and which splits share videos.

    Attributes:
        has_test: False if there is no test split.
        num_val_in_test: Number of videos that validation and test share.
        num_in_train: Number of videos that `train` shares with another split, by its name; splits
            that share none are absent.
    """

    has_test: bool = True
    num_val_in_test: int = 0
    num_in_train: Mapping[str, int] = field(default_factory=dict)


def check_splits(source: VideoSource) -> SplitCheck:
    """Return which splits exist and share videos. Damaged data are reported when opened, not here.

    With a fresh index, the numbers are those that `motionaware prepare index` stored in it.
    """
    overlap = source.overlap()
    return SplitCheck(
        has_test=source.has_split("test"),
        num_val_in_test=overlap.get(("val", "test"), 0),
        num_in_train={
            second: number for (first, second), number in overlap.items() if first == "train"
        },
    )
