"""Finished runs -> what each said of every video of a split, kept beside the run."""

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
from motionaware.engine.evaluate import pick_device, predict_split
from motionaware.errors import UsageError
from motionaware.files import write_atomically
from motionaware.report.train_runs import Run

_FORMAT = 1  # of the file of predictions; raise it with any change to what it holds


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluatedRun:
    """A run and its answers; video by video, in the order of the split.

    Attributes:
        run: Whose answers they are.
        predicted: The likeliest class.
        right: Whether it is the right one.
        in_top5: Whether the right one is among the five likeliest; None for five classes or fewer.
        confidence: Probability of the right class.
        labels: The right classes.
        indices: Places of the videos in the split.
        names: The videos.
        class_names: One name a class.
        num_skipped: Videos left out because they are absent or cannot be read.
    """

    run: Run
    predicted: Int[np.ndarray, "n"]
    right: Bool[np.ndarray, "n"]
    in_top5: Bool[np.ndarray, "n"] | None
    confidence: Float[np.ndarray, "n"]
    labels: Int[np.ndarray, "n"]
    indices: Int[np.ndarray, "n"]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    num_skipped: int


def evaluate_run(run: Run, *, split: str, progress: bool = False) -> EvaluatedRun:
    """Judge the last checkpoint of a run, or read what was said when it was judged before.

    Written to `predictions-SPLIT.npz` in its folder: `probabilities` (n k), `labels`, `indices`,
    `names`, `class_names`. They hold as long as checkpoint, data and views are the same.

    Raises:
        FileNotFoundError: The run has no checkpoint.
        ValueError, DataError, VideoError, NonFiniteScores: As for `evaluate`.
    """
    path = run.folder.path / f"predictions-{split}.npz"
    key = json.dumps(_key(run, split), sort_keys=True)
    content = _read(path, key)
    if content is None:
        model = run.load().to(pick_device())
        found = predict_split(
            model, run.recipe.data, split=split, config=run.recipe.eval, progress=progress
        )
        content = {
            "key": np.array(key),
            "probabilities": found.probabilities.numpy(),
            "labels": found.labels.numpy(),
            "indices": found.indices.numpy(),
            "names": np.array(found.names),
            "class_names": np.array(found.class_names),
            "num_skipped": np.array(found.num_skipped),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **content)
        write_atomically(path, buffer.getvalue())
    return _judged(run, content)


def data_facts(recipe: Recipe, split: str) -> dict[str, Any]:
    """What makes two recipes' data the same, for training and for judging on a split."""
    data = recipe.data
    if data.kind == "motionpairs":
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
    """Refuse runs of different data sets.

    Raises:
        ValueError: Naming the first difference.
    """
    first, *others = runs
    facts = data_facts(first.recipe, split)
    for other in others:
        for key, value in data_facts(other.recipe, split).items():
            if facts.get(key) != value:
                raise UsageError(
                    f"{first.folder.path} and {other.folder.path} are of different data: {key} is "
                    f"{facts.get(key)!r} in the one, {value!r} in the other; compare runs of one "
                    "data set"
                )


def check_same_videos(evaluated: Sequence[EvaluatedRun]) -> None:
    """Refuse answers to different videos.

    Raises:
        ValueError: Naming the first difference.
    """
    first, *others = evaluated
    for other in others:
        where = f"{first.run.folder.path} and {other.run.folder.path}"
        if first.class_names != other.class_names:
            raise UsageError(f"{where} know different classes; compare runs of one data set")
        if first.names != other.names or (first.labels != other.labels).any():
            raise UsageError(
                f"{where} were judged on different videos, {len(first.names)} and "
                f"{len(other.names)} of them; if the data have changed, delete the "
                "predictions-*.npz in the runs and compare again"
            )


def _key(run: Run, split: str) -> dict[str, Any]:
    if not run.folder.last.is_file():
        raise FileNotFoundError(
            f"{run.folder.last} does not exist: the run has not finished an epoch; go on with it "
            f"by motionaware train --resume {run.folder.path}"
        )
    digest = hashlib.sha256(run.folder.last.read_bytes()).hexdigest()
    views = run.recipe.eval
    return {
        "format": _FORMAT,
        "checkpoint": digest,
        "split": split,
        "views": [views.num_views, views.num_crops],
        **data_facts(run.recipe, split),
    }


def _read(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """What is kept, if it was said by the same checkpoint of the same videos."""
    if not path.is_file():
        return None
    try:
        # Its bytes, not its path: of a damaged file numpy leaves the handle open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            content = {name: file[name] for name in file.files}
            # Older files may hold NaN, which evaluating again refuses.
            return content if np.isfinite(content["probabilities"]).all() else None
    except (BadZipFile, zlib.error, ValueError, KeyError, EOFError):  # damaged: made again
        return None


def _judged(run: Run, content: dict[str, np.ndarray]) -> EvaluatedRun:
    probabilities, labels = content["probabilities"], content["labels"]
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return EvaluatedRun(
        run=run,
        predicted=predicted,
        right=predicted == labels,
        in_top5=(likeliest == labels[:, None]).any(axis=1) if num_classes > 5 else None,
        confidence=np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0],
        labels=labels,
        indices=content["indices"],
        names=tuple(content["names"].tolist()),
        class_names=tuple(content["class_names"].tolist()),
        num_skipped=int(content["num_skipped"]),
    )
