"""The tables of a report, for machines: rows of CSV files; shares, not percent."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motionaware.engine.statistics import spread
from motionaware.report.columns import Column, Gain
from motionaware.report.tables import extreme_classes

RESULTS_HEADER = (
    "backbone", "temporal", "seeds", "num_failed", "num_videos",
    "top1_mean", "top1_sd", "top5_mean", "top5_sd", "num_parameters", "gmac", "latency_seconds",
    "backward_bytes", "training_seconds", "against", "gain", "gain_low", "gain_high", "gain_sd",
    "gain_p", "gain_p_holm", "gain_t_low", "gain_t_high",
)  # fmt: skip


def results_rows(columns: Sequence[Column], gains: Sequence[Gain], baseline: str) -> list[list]:
    """A row a column, for machines: shares, not percent; the gain is that over the baseline."""
    over = {gain.one.name: gain for gain in gains if gain.other.temporal == baseline}
    rows = []
    for column in columns:
        row: list = [column.backbone, column.temporal, " ".join(map(str, column.seeds))]
        row.append(len(column.failures))
        if column.runs:
            cost, top5 = column.cost, column.top5()
            assert cost is not None
            row += [len(column.runs[0].labels), *_pair(column.top1()), *_pair(top5)]
            row += [cost.num_parameters, cost.gmac, cost.latency_seconds, cost.backward_bytes]
            row.append(round(column.training_seconds(), 2))
        gain = over.get(column.name)
        if gain is not None:
            interval = gain.interval
            row += [baseline, gain.difference, interval.low, interval.high, gain.spread]
            row += [interval.p, gain.p_holm, *(gain.t_interval or (None, None))]
        rows.append(row + [None] * (len(RESULTS_HEADER) - len(row)))
    return rows


def _pair(shares: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if not shares else (float(np.mean(shares)), spread(shares))


GAINS_HEADER = (
    "backbone", "temporal", "against", "seeds", "gain", "gain_sd", "gain_low", "gain_high", "p",
    "p_holm", "most_class", "most_gain", "least_class", "least_gain", "mcnemar_p_by_seed",
    "mcnemar_p_holm_by_seed", "t_low", "t_high",
)  # fmt: skip


def gains_rows(gains: Sequence[Gain]) -> list[list]:
    """A row a pair of columns, for machines: shares, not percent."""
    return [
        [
            gain.one.backbone,
            gain.one.temporal,
            gain.other.temporal,
            " ".join(map(str, gain.seeds)),
            gain.difference,
            gain.spread,
            gain.interval.low,
            gain.interval.high,
            gain.interval.p,
            gain.p_holm,
            *(part for one in extreme_classes(gain) for part in (one.name, one.gain)),
            " ".join(f"{pair.p:.3g}" for pair in gain.runs),
            " ".join(f"{pair.p_holm:.3g}" for pair in gain.runs),
            *(gain.t_interval or (None, None)),
        ]
        for gain in gains
    ]


RUNS_HEADER = (
    "backbone", "temporal", "seed", "top1", "top5", "num_skipped", "training_seconds", "folder",
    "trained_date", "trained_commit", "trained_machine",
)  # fmt: skip


def runs_rows(columns: Sequence[Column], out: Path) -> list[list]:
    """A row a run, for machines; folders are named from `out` or from here on, or by their name."""
    rows = []
    for column in columns:
        top5 = column.top5() if column.runs else None
        for place, one in enumerate(column.runs):
            run, said = one.run, one.run.provenance()
            seconds = sum(float(row["seconds"]) for row in run.folder.read_log())
            rows.append(
                [
                    run.backbone,
                    run.temporal,
                    run.seed,
                    float(one.right.mean()),
                    top5[place] if top5 else None,
                    one.num_skipped,
                    round(seconds, 2),
                    _from(out, run.folder.path).as_posix(),
                    *(said.get(key) for key in ("date", "commit", "machine")),
                ]
            )
    return rows


def _from(out: Path, folder: Path) -> Path:
    for base in (out.resolve(), Path.cwd()):
        if folder.resolve().is_relative_to(base):
            return folder.resolve().relative_to(base)
    return Path(folder.name)


def class_rows(columns: Sequence[Column]) -> tuple[list[str], list[list]]:
    """A row a class, for machines: its videos, and each column's top-1."""
    whole = [column for column in columns if column.runs]
    first = whole[0].runs[0]
    counts = np.bincount(first.labels, minlength=len(first.class_names))
    shares = [column.per_class() for column in whole]
    rows = [
        [name, int(counts[place]), *(_number(share[place]) for share in shares)]
        for place, name in enumerate(first.class_names)
    ]
    return ["class", "num_videos", *(column.name for column in whole)], rows


def as_numbers(shares: Sequence[float] | np.ndarray) -> list[float | None]:
    """Shares as they are written down; None where there is none."""
    return [_number(share) for share in shares]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
