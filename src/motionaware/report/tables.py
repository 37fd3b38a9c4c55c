"""The tables of a report: accuracy and cost, gains, McNemar tests."""

from collections.abc import Sequence

import numpy as np

from motionaware.engine.statistics import sample_sd
from motionaware.messages import count
from motionaware.report.cells import Cell
from motionaware.report.gains import Gain, extreme_classes
from motionaware.report.table_writer import Table


def mean_and_sd(accuracies: Sequence[float] | None) -> str:
    """Return mean and, for several values, sample standard deviation in percent.

    >>> mean_and_sd([0.5, 0.6])
    '55.0 ± 7.1'
    """
    if not accuracies:
        return ""
    sd = sample_sd(accuracies)
    mean = f"{100 * float(np.mean(accuracies)):.1f}"
    return mean if sd is None else f"{mean} ± {100 * sd:.1f}"


def points(difference: float) -> str:
    """Return a difference of accuracies in percentage points.

    >>> points(-0.031)
    '-3.1'
    """
    return f"{100 * difference:+.1f}"


def interval_in_points(low: float, high: float) -> str:
    """Return an interval of accuracy differences in percentage points.

    >>> interval_in_points(-0.01, 0.2)
    '[-1.0, +20.0]'
    """
    return f"[{points(low)}, {points(high)}]"


def minutes(seconds: float) -> str:
    """Return a duration in minutes: one decimal, or two significant digits below one minute.

    >>> minutes(90.0), minutes(3.2)
    ('1.5', '0.053')
    """
    return f"{seconds / 60:.1f}" if seconds >= 60 else f"{seconds / 60:.2g}"


def p_value(p: float) -> str:
    """Return a p value with three decimals.

    >>> p_value(0.04), p_value(0.00001)
    ('0.040', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def accuracy_table(cells: Sequence[Cell]) -> Table:
    """Return accuracy and cost, one row per cell."""
    has_top5 = any(cell.top5_by_seed() for cell in cells)
    header = ["backbone", "temporal module", "seeds", "top-1, %"]
    header += ["top-5, %"] if has_top5 else []
    header += ["parameters, M", "GMAC", "latency, ms", "memory, MB", "training, min"]
    rows = []
    for cell in cells:
        row = [cell.backbone, cell.temporal, _num_seeds(cell)]
        if cell.runs:
            cost = cell.cost
            assert cost is not None
            row.append(mean_and_sd(cell.top1_by_seed()))
            row += [mean_and_sd(cell.top5_by_seed())] if has_top5 else []
            row += [
                f"{cost.num_parameters / 1e6:.2f}",
                f"{cost.gmac:.4g}",
                f"{cost.latency_seconds * 1e3:.1f}",
                f"{cost.backward_bytes / 1e6:.1f}",
                minutes(cell.training_seconds()),
            ]
        else:
            row += ["failed", *[""] * (len(header) - 4)]
        rows.append(tuple(row))
    caption = (
        "Top-1 and top-5 accuracy: mean ± sample standard deviation over seeds. "
        if has_top5
        else "Top-1 accuracy: mean ± sample standard deviation over seeds. "
    ) + (
        "GMAC (1e9 multiply-adds), latency (median; all models are timed in turns) and memory "
        "(held for the backward pass) are for one clip. Training: time of all epochs, validation "
        "included, mean over seeds."
    )
    return Table(tuple(header), tuple(rows), caption, num_text_columns=2)


def _num_seeds(cell: Cell) -> str:
    num_runs, num_failures = len(cell.runs), len(cell.failures)
    return f"{num_runs} of {num_runs + num_failures}" if num_failures else str(num_runs)


def gains_table(gains: Sequence[Gain]) -> Table:
    """Return the gains with intervals and p values, one row per pair of cells."""
    header = (
        "backbone", "temporal module", "reference", "seeds", "gain, points", "95 % CI, bootstrap",
        "95 % CI, Student's t", "p (Holm)", "largest class gain", "smallest class gain",
    )  # fmt: skip
    rows = []
    for gain in gains:
        sd = "" if gain.sd is None else f" ± {100 * gain.sd:.1f}"
        largest, smallest = extreme_classes(gain)
        are_equal = largest.difference == smallest.difference
        rows.append(
            (
                gain.cell.backbone,
                gain.cell.temporal,
                gain.reference.temporal,
                str(len(gain.seeds)),
                points(gain.difference) + sd,
                interval_in_points(gain.bootstrap.low, gain.bootstrap.high),
                interval_in_points(*gain.t_interval) if gain.t_interval else "-",
                p_value(gain.p_holm),
                *(
                    "-" if are_equal else f"{extreme.label()} {points(extreme.difference)}"
                    for extreme in (largest, smallest)
                ),
            )
        )
    caption = (
        "Gain: difference of top-1 in percentage points, paired by seed and by video; ± is the "
        "sample standard deviation over seeds. The 95 % confidence intervals (paired bootstrap "
        "over seeds and videos; Student's t) are not corrected for multiple comparisons. p: "
        f"bootstrap, Holm-corrected over {count(len(gains), 'pair')} of models."
    )
    return Table(header, tuple(rows), caption, num_text_columns=3)


def mcnemar_table(gains: Sequence[Gain]) -> Table:
    """Return the exact McNemar tests, one row per pair of runs with the same seed."""
    header = (
        "backbone", "temporal module", "reference", "seed", "only module correct",
        "only reference correct", "p", "p (Holm)",
    )  # fmt: skip
    rows = [
        (
            gain.cell.backbone,
            gain.cell.temporal,
            gain.reference.temporal,
            str(test.seed),
            str(test.only_cell),
            str(test.only_reference),
            p_value(test.p),
            p_value(test.p_holm),
        )
        for gain in gains
        for test in gain.mcnemar
    ]
    caption = (
        "Exact McNemar test of each pair of runs with the same seed: the number of videos on which "
        "only one of the two runs is correct, and the two-sided p value, Holm-corrected over "
        f"{count(len(rows), 'pair')} of runs. It accounts for the choice of videos, not of seeds."
    )
    return Table(header, tuple(rows), caption, num_text_columns=3)
