"""A cell of a comparison: one backbone with one temporal module, over its seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from motionaware.engine.cost import Cost
from motionaware.engine.statistics import per_class_accuracy
from motionaware.report.predictions import EvaluatedRun


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One backbone with one temporal module, over its seeds.

    Attributes:
        backbone: Name of the backbone.
        temporal: Name of the temporal module.
        runs: The evaluated runs, by ascending seed.
        failures: One message per failed run.
        cost: Cost of the model; None if no run finished.
    """

    backbone: str
    temporal: str
    runs: tuple[EvaluatedRun, ...]
    failures: tuple[str, ...]
    cost: Cost | None

    @property
    def name(self) -> str:
        """Backbone and temporal module, separated by a space."""
        return f"{self.backbone} {self.temporal}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the evaluated runs."""
        return tuple(evaluated.run.seed for evaluated in self.runs)

    def top1_by_seed(self) -> list[float]:
        """Return the top-1 accuracy of each run, in [0, 1]."""
        return [float(evaluated.correct.mean()) for evaluated in self.runs]

    def top5_by_seed(self) -> list[float] | None:
        """Return the top-5 accuracy of each run, in [0, 1]; None for five classes or fewer."""
        hits = [one.in_top5 for one in self.runs if one.in_top5 is not None]
        return [float(one.mean()) for one in hits] or None

    def correct(self, seeds: Sequence[int] | None = None) -> Bool[np.ndarray, "s n"]:
        """Return which videos are classified correctly: one row per seed (all seeds if None)."""
        by_seed = {evaluated.run.seed: evaluated.correct for evaluated in self.runs}
        return np.stack([by_seed[seed] for seed in (seeds or self.seeds)])

    def per_class_accuracy(self, seeds: Sequence[int] | None = None) -> Float[np.ndarray, "k"]:
        """Return the top-1 of each class, mean over seeds; NaN for a class without videos."""
        first = self.runs[0]
        return per_class_accuracy(self.correct(seeds), first.labels, len(first.class_names))

    def confusion_matrix(self) -> Float[np.ndarray, "k k"]:
        """Return the share of each true class (row) that is predicted as each class (column)."""
        num_classes = len(self.runs[0].class_names)
        counts = np.zeros((num_classes, num_classes))
        for evaluated in self.runs:
            np.add.at(counts, (evaluated.labels, evaluated.predicted), 1)
        totals = counts.sum(axis=1, keepdims=True)
        return np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)

    def validation_curves(self) -> Float[np.ndarray, "s e"]:
        """Return validation top-1 per epoch, one row per seed, cut to the shortest run."""
        logs = [evaluated.run.folder.read_log() for evaluated in self.runs]
        num_epochs = min(map(len, logs))
        return np.array([[float(row["val_top1"]) for row in log[:num_epochs]] for log in logs])

    def training_seconds(self) -> float:
        """Return the time that all epochs took, validation included; mean over seeds."""
        logs = [evaluated.run.folder.read_log() for evaluated in self.runs]
        return statistics.mean(sum(float(row["seconds"]) for row in log) for log in logs)
