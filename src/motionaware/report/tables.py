"""The tables of a report, for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motionaware.engine.statistics import spread
from motionaware.messages import count
from motionaware.report.blocks import Table
from motionaware.report.columns import Column, Gain


def mean_and_spread(shares: Sequence[float] | None) -> str:
    """Shares in percent: mean, and sample standard deviation where there are several.

    >>> mean_and_spread([0.5, 0.6])
    '55.0 ± 7.1'
    """
    if not shares:
        return ""
    deviation = spread(shares)
    mean = f"{100 * float(np.mean(shares)):.1f}"
    return mean if deviation is None else f"{mean} ± {100 * deviation:.1f}"


def points(share: float) -> str:
    """A difference of shares in points.

    >>> points(-0.031)
    '-3.1'
    """
    return f"{100 * share:+.1f}"


def range_of(low: float, high: float) -> str:
    """An interval of shares, in points.

    >>> range_of(-0.01, 0.2)
    '[-1.0, +20.0]'
    """
    return f"[{points(low)}, {points(high)}]"


def range_words(counts: Sequence[int]) -> str:
    """How many videos a class has.

    >>> range_words([20, 20]), range_words([3, 20])
    ('20 videos', '3 to 20 videos')
    """
    low, high = min(counts), max(counts)
    return count(low, "video") if low == high else f"{low} to {high} videos"


def minutes(seconds: float) -> str:
    """Seconds in minutes: tenths, and below one minute two significant digits.

    >>> minutes(90.0), minutes(3.2)
    ('1.5', '0.053')
    """
    return f"{seconds / 60:.1f}" if seconds >= 60 else f"{seconds / 60:.2g}"


def p_words(p: float) -> str:
    """A p value, as exact as it is worth.

    >>> p_words(0.04), p_words(0.00001)
    ('0.040', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def accuracy_table(columns: Sequence[Column]) -> Table:
    """Every column: accuracy and cost."""
    has_top5 = any(column.runs and column.top5() for column in columns)
    header = ["backbone", "temporal", "seeds", "top-1, %"]
    header += ["top-5, %"] if has_top5 else []
    header += ["parameters, M", "GMAC", "latency, ms", "memory, MB", "training, min"]
    rows = []
    for column in columns:
        row = [column.backbone, column.temporal]
        if column.runs:
            cost = column.cost
            assert cost is not None
            row += [_count_seeds(column), mean_and_spread(column.top1())]
            row += [mean_and_spread(column.top5())] if has_top5 else []
            row += [
                f"{cost.num_parameters / 1e6:.2f}",
                f"{cost.gmac:.4g}",
                f"{cost.latency_seconds * 1e3:.1f}",
                f"{cost.backward_bytes / 1e6:.1f}",
                minutes(column.training_seconds()),
            ]
        else:
            row += [_count_seeds(column), "failed"] + [""] * (len(header) - 4)
        rows.append(tuple(row))
    caption = (
        "Accuracy: mean ± sample standard deviation over seeds. Multiply-adds, latency (median, "
        "all models in turns) and memory held for the backward pass are those of one clip. "
        "Training: mean over seeds of the time all epochs took."
    )
    return Table(tuple(header), tuple(rows), caption, num_names=2)


def _count_seeds(column: Column) -> str:
    num, failed = len(column.runs), len(column.failures)
    return f"{num} of {num + failed}" if failed else str(num)


def gains_table(gains: Sequence[Gain]) -> Table:
    """Every pair that was compared."""
    header = (
        "backbone", "temporal", "against", "seeds", "gain, points", "95 % interval",
        "by t", "p, Holm", "class gaining most", "class gaining least",
    )  # fmt: skip
    rows = []
    for gain in gains:
        interval = gain.interval
        extremes = extreme_classes(gain)
        own_spread = "" if gain.spread is None else f" ± {100 * gain.spread:.1f}"
        rows.append(
            (
                gain.one.backbone,
                gain.one.temporal,
                gain.other.temporal,
                str(len(gain.seeds)),
                points(gain.difference) + own_spread,
                range_of(interval.low, interval.high),
                range_of(*gain.t_interval) if gain.t_interval else "-",
                p_words(gain.p_holm),
                *(
                    [f"{one.words()} {points(one.gain)}" for one in extremes]
                    if extremes[0].gain != extremes[1].gain
                    else ["-", "-"]
                ),
            )
        )
    caption = (
        "Gains in points of top-1, paired by seed and by video; ± is the sample standard deviation "
        "over seeds. Intervals, by bootstrap and by Student's t, are not corrected; p is, "
        f"{_for_pairs(len(gains))}."
    )
    return Table(header, tuple(rows), caption, num_names=3)


@dataclass(frozen=True)
class Extreme:
    """A class that gains most or least, what it gains, and how many others gain as much."""

    name: str
    gain: float
    num_others: int

    def words(self) -> str:
        """Its name, and that it is not alone."""
        return self.name + (f" (and {self.num_others} more)" if self.num_others else "")


def extreme_classes(gain: Gain) -> tuple[Extreme, Extreme]:
    """The classes that gain most and least; of several the first."""
    differences = gain.per_class().round(9)  # sums of shares: equal but for the last digits
    names = gain.one.runs[0].class_names
    most, least = (
        Extreme(
            names[place],
            float(differences[place]),
            int((differences == differences[place]).sum()) - 1,
        )
        for place in (int(np.nanargmax(differences)), int(np.nanargmin(differences)))
    )
    return most, least


def _for_pairs(num: int) -> str:
    return "for the one pair of this table" if num == 1 else f"for the {num} pairs of this table"


def mcnemar_table(gains: Sequence[Gain]) -> Table:
    """Every pair of runs that share a seed."""
    header = (
        "backbone", "temporal", "against", "seed", "only the first right", "only the other right",
        "p", "p, Holm",
    )  # fmt: skip
    rows = [
        (
            gain.one.backbone,
            gain.one.temporal,
            gain.other.temporal,
            str(pair.seed),
            str(pair.only_one),
            str(pair.only_other),
            p_words(pair.p),
            p_words(pair.p_holm),
        )
        for gain in gains
        for pair in gain.runs
    ]
    caption = (
        f"Exact McNemar test for each pair of runs, two-sided; corrected {_for_pairs(len(rows))}."
    )
    summary = "Run by run: the exact McNemar test"
    return Table(header, tuple(rows), caption, num_names=3, summary=summary)
