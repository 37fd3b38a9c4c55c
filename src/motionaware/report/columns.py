"""Judged runs -> columns (backbone x temporal module, over seeds), and the gains between them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from motionaware.engine.cost import Cost
from motionaware.engine.statistics import (
    Interval,
    class_accuracy,
    exact_mcnemar,
    holm,
    paired_bootstrap,
    spread,
    t_interval,
)
from motionaware.report.predictions import EvaluatedRun


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One backbone with one temporal module, over its seeds.

    Attributes:
        backbone, temporal: Their names.
        runs: Those that finished, by ascending seed.
        failures: Why others did not.
        cost: What the model costs; None where no run finished.
    """

    backbone: str
    temporal: str
    runs: tuple[EvaluatedRun, ...]
    failures: tuple[str, ...]
    cost: Cost | None

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.backbone} {self.temporal}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs that finished."""
        return tuple(one.run.seed for one in self.runs)

    def top1(self) -> list[float]:
        """A share a seed."""
        return [float(one.right.mean()) for one in self.runs]

    def top5(self) -> list[float] | None:
        """A share a seed; None for five classes or fewer."""
        found = [one.in_top5 for one in self.runs]
        return (
            [float(one.mean()) for one in found if one is not None]
            if found[0] is not None
            else None
        )

    def right(self, seeds: Sequence[int] | None = None) -> Bool[np.ndarray, "s n"]:
        """Right answers, a row a seed."""
        by_seed = {one.run.seed: one.right for one in self.runs}
        return np.stack([by_seed[seed] for seed in (seeds or self.seeds)])

    def per_class(self, seeds: Sequence[int] | None = None) -> Float[np.ndarray, "k"]:
        """Mean over the seeds of each class's top-1; not a number where it is absent."""
        first = self.runs[0]
        return class_accuracy(self.right(seeds), first.labels, len(first.class_names))

    def confusion(self) -> Float[np.ndarray, "k k"]:
        """Share of the videos of a class (row) that are taken for a class (column): seeds' mean."""
        num = len(self.runs[0].class_names)
        counts = np.zeros((num, num))
        for one in self.runs:
            np.add.at(counts, (one.labels, one.predicted), 1)
        totals = counts.sum(axis=1, keepdims=True)
        return np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)

    def curves(self) -> Float[np.ndarray, "s e"]:
        """Validation top-1 after each epoch, a row a seed; as far as all have come."""
        rows = [[float(row["val_top1"]) for row in one.run.folder.read_log()] for one in self.runs]
        length = min(map(len, rows))
        return np.array([row[:length] for row in rows])

    def training_seconds(self) -> float:
        """Mean over the seeds of the time all epochs took, validation included."""
        logs = [one.run.folder.read_log() for one in self.runs]
        return statistics.mean(sum(float(row["seconds"]) for row in log) for log in logs)


@dataclass(frozen=True, kw_only=True)
class PairOfRuns:
    """Two runs with one seed, by exact McNemar.

    Attributes:
        seed: Of both.
        only_one, only_other: Videos that one of them alone has right.
        p: That a fair coin decides so unevenly, or more.
        p_holm: Corrected for all pairs of runs in the report.
    """

    seed: int
    only_one: int
    only_other: int
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Gain:
    """What one column has over another.

    Attributes:
        one, other: The columns.
        seeds: Those that both have; they are paired.
        difference: Mean over seeds and videos: top-1 of the one less that of the other.
        spread: Sample standard deviation over the seeds; None for one seed.
        interval: By paired bootstrap over seeds and videos.
        t_interval: By Student's t over seeds and videos; None for one seed.
        p_holm: The bootstrap's p, corrected for all pairs of columns in the report.
        runs: One pair a seed.
    """

    one: Column
    other: Column
    seeds: tuple[int, ...]
    difference: float
    spread: float | None
    interval: Interval
    t_interval: tuple[float, float] | None
    p_holm: float
    runs: tuple[PairOfRuns, ...]

    @property
    def is_significant(self) -> bool:
        """Whether it is told from zero at 5 %: by the corrected p, and by Student's t."""
        return self.p_holm < 0.05 and self.steady

    @property
    def steady(self) -> bool:
        """Whether the seeds agree well enough to tell it from zero, as far as more than one can."""
        return self.t_interval is None or not self.t_interval[0] <= 0 <= self.t_interval[1]

    def per_class(self) -> Float[np.ndarray, "k"]:
        """The difference class by class; not a number where a class is absent."""
        return self.one.per_class(self.seeds) - self.other.per_class(self.seeds)


def make_gains(
    columns: Sequence[Column], *, baseline: str, pairs: Sequence[tuple[str, str]]
) -> list[Gain]:
    """Compare each column with the baseline of its backbone, and the pairs that were asked for.

    Columns without a finished run, and pairs that share no seed, are left out.
    """
    whole = {(one.backbone, one.temporal): one for one in columns if one.runs}
    chosen = []
    for backbone in dict.fromkeys(column.backbone for column in columns):
        over = [(one.temporal, baseline) for one in columns if one.backbone == backbone]
        chosen += [
            (whole[backbone, one], whole[backbone, other])
            for one, other in dict.fromkeys([*over, *pairs])
            if one != other and (backbone, one) in whole and (backbone, other) in whole
        ]
    chosen = [(a, b) for a, b in chosen if set(a.seeds) & set(b.seeds)]
    shared = [tuple(sorted(set(a.seeds) & set(b.seeds))) for a, b in chosen]
    differences = [
        a.right(seeds).astype(np.int8) - b.right(seeds).astype(np.int8)
        for (a, b), seeds in zip(chosen, shared, strict=True)
    ]
    intervals = [paired_bootstrap(difference) for difference in differences]
    corrected = holm([interval.p for interval in intervals])
    of_runs = _pairs_of_runs(differences, shared)
    return [
        Gain(
            one=pair[0],
            other=pair[1],
            seeds=seeds,
            difference=float(difference.mean()),
            spread=spread(difference.mean(axis=1).tolist()),
            interval=interval,
            t_interval=t_interval(difference),
            p_holm=p_holm,
            runs=runs,
        )
        for pair, seeds, difference, interval, p_holm, runs in zip(
            chosen, shared, differences, intervals, corrected, of_runs, strict=True
        )
    ]


def _pairs_of_runs(
    differences: Sequence[Int[np.ndarray, "_ n"]], seeds: Sequence[tuple[int, ...]]
) -> list[tuple[PairOfRuns, ...]]:
    found = [
        [
            (seed, int((row > 0).sum()), int((row < 0).sum()))
            for seed, row in zip(of, rows, strict=True)
        ]
        for of, rows in zip(seeds, differences, strict=True)
    ]
    p_values = [exact_mcnemar(one, other) for pairs in found for _, one, other in pairs]
    numbers = iter(zip(p_values, holm(p_values), strict=True))
    return [
        tuple(
            PairOfRuns(seed=seed, only_one=one, only_other=other, p=p, p_holm=p_holm)
            for (seed, one, other), (p, p_holm) in zip(pairs, numbers, strict=False)
        )
        for pairs in found
    ]
