"""Evaluate: the views of every video -> probabilities -> Report."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from motionaware.clip import ClipSpec
from motionaware.data.annotations import check_videos_exist, read_split
from motionaware.data.augment import Augment
from motionaware.data.dataset import (
    Batch,
    ClipDataset,
    MotionPairsDataset,
    VideoDataset,
    batches_of,
)
from motionaware.data.lanes import view_loader
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.shard_reader import ShardDataset
from motionaware.data.shards import KIND as SHARDS
from motionaware.data.shards import read_shards
from motionaware.data.skips import Skips
from motionaware.data.split import DataError, SplitAbsent
from motionaware.engine.config import DataConfig, EvalConfig
from motionaware.engine.metrics import Report, make_report
from motionaware.models.recognizer import VideoRecognizer
from motionaware.ops.layout import fold_views, unfold_views


def open_dataset(
    config: DataConfig,
    split: str,
    *,
    spec: ClipSpec,
    views: EvalConfig | None = None,
    augment: Augment | None = None,
    skips: Skips | None = None,
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
                videos = (skips or Skips(config.max_skipped_share)).without_missing(videos)
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


def has_split(config: DataConfig, split: str) -> bool:
    """Whether the data that a recipe names have a split; what else is amiss is said when opened."""
    try:
        if config.kind == SHARDS:
            read_shards(config.root, split)
        elif config.kind != "motionpairs":
            read_split(config.kind, config.root, split)
    except SplitAbsent:
        return False
    except (DataError, OSError):
        pass
    return True


def evaluate(
    model: VideoRecognizer,
    data: DataConfig,
    *,
    split: str = "test",
    config: EvalConfig | None = None,
    progress: bool = False,
) -> Report:
    """Judge a model on one split.

    Args:
        model: On the device to work on.
        data: The videos; their classes must be the model's, in its order.
        split: `train`, `val` or `test`.
        config: Views and batch size.
        progress: Show a bar on the error stream.

    Raises:
        ValueError: The classes of the data are not the model's.
        DataError: More videos must be skipped than the config allows.
        VideoError: A video cannot be read.
    """
    config = config or EvalConfig()
    skips = Skips(data.max_skipped_share)
    dataset = open_dataset(
        data, split, spec=model.clip, views=config, skips=skips, progress=progress
    )
    check_classes(model.class_names, dataset.class_names)
    loader = view_loader(
        dataset,
        batch_size=config.batch_size,
        num_workers=data.num_workers,
        skip=data.on_error == "skip",
    )
    batches = skips.pass_on(batches_of(loader), dataset, split)
    report = judge(model, batches, num_batches=len(loader), progress=progress)
    return replace(report, num_skipped=skips.count(split))


def judge(
    model: VideoRecognizer, batches: Iterator[Batch], *, num_batches: int, progress: bool = False
) -> Report:
    """Judge a model on the videos of some batches."""
    probabilities, labels = [], []
    bar = tqdm(batches, "judge", total=num_batches, leave=False, disable=not progress)
    with evaluation_mode(model):
        for batch in bar:
            if not len(batch.labels):  # every video of it was skipped
                continue
            probabilities.append(view_probabilities(model, batch.views))
            labels.append(batch.labels)
    return make_report(torch.cat(probabilities), torch.cat(labels), model.class_names)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every part of it back into its own mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Raises:
        ValueError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three
        raise ValueError(
            f"device {name!r} cannot be used here; choose auto, cpu, or cuda with a GPU"
        ) from error


@torch.inference_mode()
def view_probabilities(
    model: VideoRecognizer, views: UInt8[Tensor, "b v t 3 h w"]
) -> Float[Tensor, "b k"]:
    """Mean over the views of the softmax of their scores, on the CPU."""
    scores = model(fold_views(views).to(model.mean.device))
    return unfold_views(scores, num_views=views.shape[1]).softmax(dim=-1).mean(dim=1).float().cpu()


def check_classes(model_names: Sequence[str], data_names: Sequence[str]) -> None:
    """Refuse data whose classes are not the model's, in the model's order.

    Raises:
        ValueError: Naming the first difference.
    """
    if tuple(model_names) == tuple(data_names):
        return
    if len(model_names) != len(data_names):
        only = sorted(set(data_names) ^ set(model_names))
        raise ValueError(
            f"the model knows {len(model_names)} classes, the data have {len(data_names)}; first "
            f"not in both: {only[0] if only else 'none'!r}. Evaluate on the data it was trained for"
        )
    place = next(i for i, (a, b) in enumerate(zip(model_names, data_names, strict=True)) if a != b)
    raise ValueError(
        f"class {place} is {model_names[place]!r} to the model, {data_names[place]!r} in the data; "
        "scores would be read under wrong names: give the class order of the training data"
    )
