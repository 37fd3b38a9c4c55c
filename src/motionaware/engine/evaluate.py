"""Evaluate: the views of every video -> probabilities -> Report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from motionaware.data.loader import Batch, collect_notes, iterate_batches
from motionaware.data.skipped_videos import SkippedVideos
from motionaware.engine.config import DataConfig, EvalConfig
from motionaware.engine.dataset_factory import open_cache, open_dataset
from motionaware.engine.metrics import Report, make_report
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.models.recognizer import VideoRecognizer
from motionaware.ops.layout import fold_views, unfold_views


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said of each video of a split.

    Attributes:
        probabilities: Mean over the views of the softmax of the scores.
        labels: The right classes.
        names: The videos: paths, from the root of the data on where they are below.
        indices: Its place in the split.
        class_names: One name a class.
        num_skipped: Videos left out because they are absent or cannot be read.
        notes: What was changed in videos to read them, one line each.
    """

    probabilities: Float[Tensor, "n k"]
    labels: Int[Tensor, "n"]
    names: tuple[str, ...]
    indices: Int[Tensor, "n"]
    class_names: tuple[str, ...]
    num_skipped: int
    notes: tuple[str, ...] = ()

    def report(self) -> Report:
        """How well that was."""
        report = make_report(self.probabilities, self.labels, self.class_names)
        return replace(report, num_skipped=self.num_skipped, notes=self.notes)


def evaluate(
    model: VideoRecognizer,
    data: DataConfig,
    *,
    split: str = "test",
    config: EvalConfig | None = None,
    progress: bool = False,
) -> Report:
    """Judge a model on one split; arguments and errors are those of `predict_split`."""
    return predict_split(model, data, split=split, config=config, progress=progress).report()


def predict_split(
    model: VideoRecognizer,
    data: DataConfig,
    *,
    split: str = "test",
    config: EvalConfig | None = None,
    progress: bool = False,
) -> Predictions:
    """What a model says of each video of one split.

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
        NonFiniteScores: The scores of a video are infinite or NaN.
    """
    config = config or EvalConfig()
    skips = SkippedVideos(data.max_skipped_share)
    dataset = open_dataset(
        data,
        split,
        spec=model.clip,
        views=config,
        skips=skips,
        cache=open_cache(data, spec=model.clip),
        progress=progress,
    )
    check_classes(model.class_names, dataset.class_names)
    loader = dataset.view_loader(
        batch_size=config.batch_size,
        num_workers=data.num_workers,
        skip=data.on_error == "skip",
    )
    notes: dict[str, None] = {}
    batches = skips.record(collect_notes(iterate_batches(loader), notes), dataset, split)
    probabilities, labels, indices = _collect(
        model, batches, num_batches=len(loader), name=dataset.name, progress=progress
    )
    return Predictions(
        probabilities=probabilities,
        labels=labels,
        names=tuple(_below(data.root, dataset.name(index)) for index in indices.tolist()),
        indices=indices,
        class_names=tuple(model.class_names),
        num_skipped=skips.count(split),
        notes=tuple(notes),
    )


def _below(root: str | None, name: str) -> str:
    path = Path(name)
    return path.relative_to(root).as_posix() if root and path.is_relative_to(root) else name


def evaluate_batches(
    model: VideoRecognizer,
    batches: Iterator[Batch],
    *,
    num_batches: int,
    name: Callable[[int], str] | None = None,
    progress: bool = False,
) -> Report:
    """Evaluate a model on the videos of some batches; `name` names a video by its index.

    Raises:
        NonFiniteScores: The scores of a video are infinite or NaN.
    """
    probabilities, labels, _ = _collect(
        model, batches, num_batches=num_batches, name=name or _numbered, progress=progress
    )
    return make_report(probabilities, labels, model.class_names)


def _numbered(index: int) -> str:
    return f"video {index}"


def _collect(
    model: VideoRecognizer,
    batches: Iterator[Batch],
    *,
    num_batches: int,
    name: Callable[[int], str],
    progress: bool,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Probabilities, labels and indices of the videos of some batches."""
    probabilities, labels, indices = [], [], []
    bar = tqdm(batches, "judge", total=num_batches, leave=False, disable=not progress)
    with evaluation_mode(model):
        for batch in bar:
            if not len(batch.labels):  # every video of it was skipped
                continue
            names = [name(index) for index in batch.indices.tolist()]
            probabilities.append(view_probabilities(model, batch.views, names=names))
            labels.append(batch.labels)
            indices.append(batch.indices)
    return torch.cat(probabilities), torch.cat(labels), torch.cat(indices)


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
        raise UsageError(
            f"device {name!r} cannot be used here; choose auto, cpu, or cuda with a GPU"
        ) from error


@torch.inference_mode()
def view_probabilities(
    model: VideoRecognizer,
    views: UInt8[Tensor, "b v t 3 h w"],
    *,
    names: Sequence[str] | None = None,
) -> Float[Tensor, "b k"]:
    """Mean over the views of the softmax of their scores, on the CPU.

    Raises:
        NonFiniteScores: A score is infinite or NaN; `names` holds the name of each video.
    """
    scores = model(fold_views(views).to(model.mean.device))
    scores = unfold_views(scores, num_views=views.shape[1]).float()
    check_scores(scores, model, names or [_numbered(place) for place in range(len(views))])
    return scores.softmax(dim=-1).mean(dim=1).cpu()


def check_classes(model_names: Sequence[str], data_names: Sequence[str]) -> None:
    """Refuse data whose classes are not the model's, in the model's order.

    Raises:
        ValueError: Naming the first difference.
    """
    if tuple(model_names) == tuple(data_names):
        return
    if len(model_names) != len(data_names):
        only = min(set(data_names) ^ set(model_names), default=None)
        whose = "model" if only in model_names else "data"
        raise UsageError(
            f"the model knows {len(model_names)} classes, the data have {len(data_names)}; first "
            f"not in both: {only!r}, of the {whose} alone. Evaluate on the data it was trained for"
        )
    place = next(i for i, (a, b) in enumerate(zip(model_names, data_names, strict=True)) if a != b)
    raise UsageError(
        f"class {place} is {model_names[place]!r} to the model, {data_names[place]!r} in the data; "
        "scores would be read under wrong names: give the class order of the training data"
    )
