"""The CSV files of a report; accuracies and gains are shares in [-1, 1], not percent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motionaware.engine.statistics import sample_sd
from motionaware.report.cells import Cell
from motionaware.report.gains import Gain, extreme_classes

RESULTS_HEADER = (
    "backbone", "temporal", "seeds", "num_failed", "num_videos",
    "top1_mean", "top1_sd", "top5_mean", "top5_sd", "num_parameters", "gmac", "latency_seconds",
    "backward_bytes", "training_seconds", "against", "gain", "gain_low", "gain_high", "gain_sd",
    "gain_p", "gain_p_holm", "gain_t_low", "gain_t_high",
)  # fmt: skip


def results_rows(cells: Sequence[Cell], gains: Sequence[Gain], baseline: str) -> list[list[Any]]:
    """Return the rows of results.csv: accuracy, cost and gain over the baseline of each cell."""
    baseline_gains = {g.cell.name: g for g in gains if g.reference.temporal == baseline}
    rows = []
    for cell in cells:
        row: list[Any] = [cell.backbone, cell.temporal, " ".join(map(str, cell.seeds))]
        row.append(len(cell.failures))
        if cell.runs:
            cost = cell.cost
            assert cost is not None
            row.append(len(cell.runs[0].labels))
            row += [*_mean_and_sd(cell.top1_by_seed()), *_mean_and_sd(cell.top5_by_seed())]
            row += [cost.num_parameters, cost.gmac, cost.latency_seconds, cost.backward_bytes]
            row.append(round(cell.training_seconds(), 2))
        gain = baseline_gains.get(cell.name)
        if gain is not None:
            bootstrap = gain.bootstrap
            row += [baseline, gain.difference, bootstrap.low, bootstrap.high, gain.sd]
            row += [bootstrap.p, gain.p_holm, *(gain.t_interval or (None, None))]
        rows.append(row + [None] * (len(RESULTS_HEADER) - len(row)))
    return rows


def _mean_and_sd(accuracies: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (float(np.mean(accuracies)), sample_sd(accuracies)) if accuracies else (None, None)


GAINS_HEADER = (
    "backbone", "temporal", "against", "seeds", "gain", "gain_sd", "gain_low", "gain_high", "p",
    "p_holm", "most_class", "most_gain", "least_class", "least_gain", "mcnemar_p_by_seed",
    "mcnemar_p_holm_by_seed", "t_low", "t_high",
)  # fmt: skip


def gains_rows(gains: Sequence[Gain]) -> list[list[Any]]:
    """Return the rows of gains.csv, one per pair of cells."""
    rows = []
    for gain in gains:
        largest, smallest = extreme_classes(gain)
        rows.append(
            [
                gain.cell.backbone,
                gain.cell.temporal,
                gain.reference.temporal,
                " ".join(map(str, gain.seeds)),
                gain.difference,
                gain.sd,
                gain.bootstrap.low,
                gain.bootstrap.high,
                gain.bootstrap.p,
                gain.p_holm,
                largest.name,
                largest.difference,
                smallest.name,
                smallest.difference,
                " ".join(f"{test.p:.3g}" for test in gain.mcnemar),
                " ".join(f"{test.p_holm:.3g}" for test in gain.mcnemar),
                *(gain.t_interval or (None, None)),
            ]
        )
    return rows


RUNS_HEADER = (
    "backbone", "temporal", "seed", "top1", "top5", "num_skipped", "training_seconds", "folder",
    "trained_date", "trained_commit", "trained_machine",
)  # fmt: skip


def runs_rows(cells: Sequence[Cell], out: Path) -> list[list[Any]]:
    """Return the rows of runs.csv, one per evaluated run.

    Args:
        cells: All cells.
        out: Folder of the report; the folders of runs are relative to it.
    """
    rows = []
    for cell in cells:
        for evaluated in cell.runs:
            run, provenance = evaluated.run, evaluated.run.provenance()
            seconds = sum(float(row["seconds"]) for row in run.folder.read_log())
            rows.append(
                [
                    run.backbone,
                    run.temporal,
                    run.seed,
                    float(evaluated.correct.mean()),
                    None if evaluated.in_top5 is None else float(evaluated.in_top5.mean()),
                    evaluated.num_skipped,
                    round(seconds, 2),
                    _relative_folder(run.folder.path, out).as_posix(),
                    *(provenance.get(key) for key in ("date", "commit", "machine")),
                ]
            )
    return rows


def _relative_folder(folder: Path, out: Path) -> Path:
    """Return a folder relative to `out` or the working folder; its name if it is in neither."""
    for base in (out.resolve(), Path.cwd()):
        if folder.resolve().is_relative_to(base):
            return folder.resolve().relative_to(base)
    return Path(folder.name)


def class_rows(cells: Sequence[Cell]) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of classes.csv: number of videos and each cell's top-1 per class.

    Args:
        cells: Cells with at least one evaluated run.
    """
    first = cells[0].runs[0]
    counts = class_counts(cells[0])
    accuracies = [none_for_nan(cell.per_class_accuracy()) for cell in cells]
    rows = [
        [name, counts[index], *(accuracy[index] for accuracy in accuracies)]
        for index, name in enumerate(first.class_names)
    ]
    return ["class", "num_videos", *(cell.name for cell in cells)], rows


def class_counts(cell: Cell) -> list[int]:
    """Return the number of evaluated videos of each class."""
    first = cell.runs[0]
    return np.bincount(first.labels, minlength=len(first.class_names)).tolist()


def none_for_nan(accuracies: np.ndarray) -> list[float | None]:
    """Return numbers rounded to six decimals, with None for NaN."""
    return [None if np.isnan(value) else round(float(value), 6) for value in accuracies]
