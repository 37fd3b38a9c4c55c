"""Open the data that a recipe names: where a recipe's words become a data set of clips."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from motionaware.clip import ClipSpec
from motionaware.data.annotations.split import SPLITS, Shared, Split
from motionaware.data.annotations.table import check_videos_exist, count_shared, read_split
from motionaware.data.dataset import MotionPairsDataset, VideoDataset
from motionaware.data.loader import ClipDataset
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.shards.layout import KIND as SHARDS
from motionaware.data.shards.layout import read_shards, read_shared
from motionaware.data.shards.reader import ShardDataset
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.data.transforms.augment import Augment
from motionaware.data.video.base import Video
from motionaware.data.video.frame_cache import FrameCache
from motionaware.data.video.open import video_opener
from motionaware.engine.config import DataConfig, EvalConfig
from motionaware.errors import DataError, SplitAbsent


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
) -> ClipDataset:
    """Open one split of the data that a recipe names.

    Args:
        config: Names the data.
        split: `train`, `val` or `test`.
        spec: What the model expects of a clip.
        views: How many views a video has at test time.
        augment: What is done to training clips.
        skips: Notes the videos that are absent, where the config says to leave them out.
        cache: Opens the videos, if they are kept decoded.
        progress: Show a bar on the error stream while clips are drawn.

    Raises:
        DataError: The data are not as their kind wants them.
    """
    views = views or EvalConfig()
    if config.kind != "motionpairs":
        if config.kind == SHARDS:
            videos = read_shards(config.root, split)
        else:
            videos = read_split(config.kind, config.root, split)
            if config.on_error == "skip":
                videos = (skips or SkippedVideos(config.max_skipped_share)).without_missing(videos)
            else:
                check_videos_exist(videos)
        return (ShardDataset if config.kind == SHARDS else VideoDataset)(
            videos,
            spec=spec,
            crop=config.crop,
            flip=config.flip,
            augment=augment,
            num_views=views.num_views,
            num_crops=views.num_crops,
            opener=cache.open if cache else _opener(config, spec),
        )
    sizes = {
        "train": config.num_train_clips,
        "val": config.num_val_clips,
        "test": config.num_test_clips,
    }
    clips = MotionPairs(
        split=split,
        num_clips=sizes[split],
        num_frames=spec.num_frames,
        image_size=spec.image_size,
        seed=config.seed,
        cache_dir=Path(config.root) if config.root else None,
        progress=progress,
    )
    return MotionPairsDataset(clips, flip=config.flip, augment=augment)


def _opener(config: DataConfig, spec: ClipSpec) -> Callable[[str | Path], Video]:
    return video_opener(
        config.decoder, square_pixels=spec.square_pixels, size_change=config.size_change
    )


def open_cache(config: DataConfig, *, spec: ClipSpec) -> FrameCache | None:
    """The cache of decoded frames that a recipe names, if it does.

    Args:
        config: Names the data.
        spec: What the model expects of a clip.

    Raises:
        DataError: The data are not kept; no folder is made.
        OSError: The folder cannot be written.
    """
    if config.cache_dir is None:
        return None
    if config.kind == SHARDS:
        raise DataError(
            f"data.cache_dir is {config.cache_dir}, but shards are streamed and not kept; "
            "leave cache_dir out, or name the data set that they were written from"
        )
    return FrameCache(
        config.cache_dir,
        max_gib=config.cache_gib,
        decoder=config.decoder,
        square_pixels=spec.square_pixels,
        size_change=config.size_change,
    )


@dataclass(frozen=True)
class HeldOut:
    """Whether data have a test split, and what else its videos and validation's are used for.

    Attributes:
        exists: There is a test split.
        num_shared: How many of its videos are validation's too.
        num_learnt: How many videos of a split are training's too, where any are.
    """

    exists: bool = True
    num_shared: int = 0
    num_learnt: Mapping[str, int] = field(default_factory=dict)


def look_for_test(config: DataConfig) -> HeldOut:
    """Look at the splits that a recipe's data have; what is amiss is said when one is opened."""
    splits: list[Split] = []
    absent = set()
    for name in SPLITS if config.kind != "motionpairs" else ():
        try:
            if config.kind == SHARDS:
                read_shards(config.root, name)
            else:
                splits.append(read_split(config.kind, config.root, name))
        except SplitAbsent:
            absent.add(name)
        except (DataError, OSError):
            pass
    shared = _shared(config, splits)
    return HeldOut(
        exists="test" not in absent,
        num_shared=shared.get(("val", "test"), 0),
        num_learnt={to: number for (of, to), number in shared.items() if of == "train"},
    )


def _shared(config: DataConfig, splits: Iterable[Split]) -> Shared:
    if config.kind != SHARDS:
        return count_shared(splits)
    try:
        return read_shared(config.root or "")
    except (DataError, OSError):
        return {}
