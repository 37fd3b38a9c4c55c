"""Evaluate a model on a split: probabilities of each video, averaged over its views."""

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
    """The predictions of a model for the `n` videos of a split.

    Attributes:
        probabilities: Softmax of the scores, averaged over the views.
        labels: The correct classes.
        names: Names of the videos: paths, relative to the root of the data if they are below it.
        indices: Position of each video in the split.
        class_names: One name for each class.
        num_skipped: Videos left out because they are absent or cannot be read.
        notes: Changes that were needed to read videos, one line each.
    """

    probabilities: Float[Tensor, "n k"]
    labels: Int[Tensor, "n"]
    names: tuple[str, ...]
    indices: Int[Tensor, "n"]
    class_names: tuple[str, ...]
    num_skipped: int
    notes: tuple[str, ...] = ()

    def report(self) -> Report:
        """Return the accuracies and the loss."""
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
    """Evaluate a model on one split; arguments and errors are those of `predict_split`."""
    return predict_split(model, data, split=split, config=config, progress=progress).report()


def predict_split(
    model: VideoRecognizer,
    data: DataConfig,
    *,
    split: str = "test",
    config: EvalConfig | None = None,
    progress: bool = False,
) -> Predictions:
    """Return the predictions of a model for each video of one split.

    Args:
        model: The model, on the device to use.
        data: The videos. Their classes must be those of the model, in the same order.
        split: `train`, `val` or `test`.
        config: Views and batch size.
        progress: Show a progress bar on standard error.

    Raises:
        UsageError: The data have other classes than the model.
        DataError: More videos must be skipped than `data.max_skipped_share` allows.
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
        names=tuple(_relative_name(dataset.name(i), data.root) for i in indices.tolist()),
        indices=indices,
        class_names=tuple(model.class_names),
        num_skipped=skips.count(split),
        notes=tuple(notes),
    )


def _relative_name(name: str, root: str | None) -> str:
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
    """Evaluate a model on the videos of some batches.

    Args:
        model: The model, on the device to use.
        batches: The batches.
        num_batches: Number of batches, for the progress bar.
        name: Returns the name of a video by its index, for errors.
        progress: Show a progress bar on standard error.

    Raises:
        NonFiniteScores: The scores of a video are infinite or NaN.
    """
    probabilities, labels, _ = _collect(
        model, batches, num_batches=num_batches, name=name or _default_name, progress=progress
    )
    return make_report(probabilities, labels, model.class_names)


def _default_name(index: int) -> str:
    return f"video {index}"


def _collect(
    model: VideoRecognizer,
    batches: Iterator[Batch],
    *,
    num_batches: int,
    name: Callable[[int], str],
    progress: bool,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Return probabilities, labels and indices of the videos of some batches."""
    probabilities, labels, indices = [], [], []
    bar = tqdm(batches, "evaluate", total=num_batches, leave=False, disable=not progress)
    with evaluation_mode(model):
        for batch in bar:
            if not len(batch.labels):  # all its videos were skipped
                continue
            names = [name(index) for index in batch.indices.tolist()]
            probabilities.append(view_probabilities(model, batch.views, names=names))
            labels.append(batch.labels)
            indices.append(batch.indices)
    return torch.cat(probabilities), torch.cat(labels), torch.cat(indices)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and restore the mode of each submodule at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def pick_device(name: str = "auto") -> torch.device:
    """Return a device by name; `auto` is a GPU if there is one.

    Raises:
        UsageError: The device does not exist.
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
    """Return the softmax of the scores, averaged over the views, on the CPU.

    Args:
        model: The model.
        views: The views of `b` videos.
        names: Name of each video, for the error.

    Raises:
        NonFiniteScores: A score is infinite or NaN.
    """
    scores = model(fold_views(views).to(model.mean.device))
    scores = unfold_views(scores, num_views=views.shape[1]).float()
    check_scores(scores, model, names or [_default_name(i) for i in range(len(views))])
    return scores.softmax(dim=-1).mean(dim=1).cpu()


def check_classes(model_names: Sequence[str], data_names: Sequence[str]) -> None:
    """Check that the classes of model and data are the same, in the same order.

    Raises:
        UsageError: Names the first difference.
    """
    if tuple(model_names) == tuple(data_names):
        return
    if len(model_names) != len(data_names):
        unshared = min(set(data_names) ^ set(model_names), default=None)
        owner = "model" if unshared in model_names else "data"
        raise UsageError(
            f"the model has {len(model_names)} classes, the data have {len(data_names)}; "
            f"{unshared!r} is a class of the {owner} only. Evaluate on the data that the model was "
            "trained for"
        )
    pairs = enumerate(zip(model_names, data_names, strict=True))
    index, (in_model, in_data) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise UsageError(
        f"class {index} is {in_model!r} in the model, {in_data!r} in the data; with this order, "
        "scores would get wrong names: use the class order of the training data"
    )
