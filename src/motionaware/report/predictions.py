"""Evaluate a run on a split, and keep its predictions in the folder of the run."""

import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float, Int

from motionaware.engine.config import Recipe
from motionaware.engine.dataset_factory import open_source
from motionaware.engine.evaluate import pick_device, predict_split
from motionaware.errors import UsageError
from motionaware.files import write_atomically
from motionaware.report.runs import Run

_FORMAT = 1  # version of the file of predictions; raise it when the content changes


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluatedRun:
    """A run and its predictions for each video, in the order of the split.

    Attributes:
        run: The run.
        predicted: Most probable class.
        correct: True where `predicted` is the label.
        in_top5: True where the label is among the five most probable classes; None for five
            classes or fewer.
        label_probability: Probability of the label.
        labels: True classes.
        indices: Indices of the videos in the split.
        video_names: Names of the videos.
        class_names: Names of the classes.
        num_skipped: Number of videos left out because they are missing or cannot be read.
    """

    run: Run
    predicted: Int[np.ndarray, "n"]
    correct: Bool[np.ndarray, "n"]
    in_top5: Bool[np.ndarray, "n"] | None
    label_probability: Float[np.ndarray, "n"]
    labels: Int[np.ndarray, "n"]
    indices: Int[np.ndarray, "n"]
    video_names: tuple[str, ...]
    class_names: tuple[str, ...]
    num_skipped: int


def evaluate_run(run: Run, *, split: str, progress: bool = False) -> EvaluatedRun:
    """Evaluate the last checkpoint of a run, or read its stored predictions.

    Predictions are stored in `predictions-SPLIT.npz` in the folder of the run: `probabilities`
    (n k), `labels`, `indices`, `names`, `class_names`, `num_skipped`. They are used again while
    checkpoint, data and views are the same.

    Raises:
        FileNotFoundError: The run has no checkpoint.
        ValueError, DataError, VideoError, NonFiniteScores: As for `evaluate`.
    """
    path = run.folder.path / f"predictions-{split}.npz"
    key = json.dumps(_validity_key(run, split), sort_keys=True)
    content = _read_predictions(path, key)
    if content is None:
        model = run.load_model().to(pick_device())
        predictions = predict_split(
            model, run.recipe.data, split=split, config=run.recipe.eval, progress=progress
        )
        content = {
            "key": np.array(key),
            "probabilities": predictions.probabilities.numpy(),
            "labels": predictions.labels.numpy(),
            "indices": predictions.indices.numpy(),
            "names": np.array(predictions.names),
            "class_names": np.array(predictions.class_names),
            "num_skipped": np.array(predictions.num_skipped),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **content)
        write_atomically(path, buffer.getvalue())
    return _to_evaluated_run(run, content)


def data_identity(recipe: Recipe, split: str) -> dict[str, Any]:
    """Return the recipe's keys and values that identify its training data and a split."""
    data = recipe.data
    if open_source(data).is_generated:
        sizes = {"train": data.num_train_clips, "val": data.num_val_clips}
        sizes["test"] = data.num_test_clips
        return {
            "data.kind": data.kind,
            "data.num_train_clips": data.num_train_clips,
            f"data.num_{split}_clips": sizes[split],
            "data.seed": data.seed,
        }
    root = str(Path(data.root).resolve()) if data.root else None
    return {"data.kind": data.kind, "data.root": root}


def check_same_data(runs: Sequence[Run], *, split: str) -> None:
    """Check that all runs use the same data set.

    Raises:
        UsageError: The message names the first difference.
    """
    first, *others = runs
    identity = data_identity(first.recipe, split)
    for other in others:
        for key, value in data_identity(other.recipe, split).items():
            if identity.get(key) != value:
                raise UsageError(
                    f"{first.folder.path} and {other.folder.path} use different data: {key} is "
                    f"{identity.get(key)!r} in the first and {value!r} in the second; compare "
                    "runs of the same data set"
                )


def check_same_videos(evaluated: Sequence[EvaluatedRun]) -> None:
    """Check that all runs were evaluated on the same videos and classes.

    Raises:
        UsageError: The message names the first two runs that differ.
    """
    first, *others = evaluated
    for other in others:
        both = f"{first.run.folder.path} and {other.run.folder.path}"
        if first.class_names != other.class_names:
            raise UsageError(f"{both} have different classes; compare runs of the same data set")
        if first.video_names != other.video_names or (first.labels != other.labels).any():
            raise UsageError(
                f"{both} were evaluated on different videos ({len(first.video_names)} and "
                f"{len(other.video_names)}); if the data set has changed, delete "
                "predictions-*.npz in both folders and compare again"
            )


def _validity_key(run: Run, split: str) -> dict[str, Any]:
    """Return what the predictions of a run depend on."""
    if not run.folder.last.is_file():
        raise FileNotFoundError(
            f"{run.folder.last} does not exist: the run has not completed an epoch; continue it: "
            f"motionaware train --resume {run.folder.path}"
        )
    digest = hashlib.sha256(run.folder.last.read_bytes()).hexdigest()
    views = run.recipe.eval
    return {
        "format": _FORMAT,
        "checkpoint": digest,
        "split": split,
        "views": [views.num_views, views.num_crops],
        **data_identity(run.recipe, split),
    }


def _read_predictions(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """Return the stored arrays; None if there are none, their key differs or they are damaged."""
    if not path.is_file():
        return None
    try:
        # numpy leaves the file of a damaged archive open if it is given the path.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            if str(archive["key"]) != key:
                return None
            content = {name: archive[name] for name in archive.files}
            # Older versions stored NaN; evaluating again raises NonFiniteScores.
            return content if np.isfinite(content["probabilities"]).all() else None
    except (BadZipFile, zlib.error, ValueError, KeyError, EOFError):
        return None


def _to_evaluated_run(run: Run, content: dict[str, np.ndarray]) -> EvaluatedRun:
    probabilities, labels = content["probabilities"], content["labels"]
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    top5 = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return EvaluatedRun(
        run=run,
        predicted=predicted,
        correct=predicted == labels,
        in_top5=(top5 == labels[:, None]).any(axis=1) if num_classes > 5 else None,
        label_probability=np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0],
        labels=labels,
        indices=content["indices"],
        video_names=tuple(content["names"].tolist()),
        class_names=tuple(content["class_names"].tolist()),
        num_skipped=int(content["num_skipped"]),
    )
