"""The tables of a report, for people and for machines."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motionaware.apps.comparison.blocks import Table
from motionaware.apps.comparison.columns import Column, Gain
from motionaware.engine.statistics import spread


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


def counted(num: int, one: str, many: str = "") -> str:
    """A number and what it counts.

    >>> counted(1, "column"), counted(2, "column"), counted(2, "class", "classes")
    ('1 column', '2 columns', '2 classes')
    """
    return f"{num} {one if num == 1 else many or one + 's'}"


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
        "p, Holm", "class gaining most", "class gaining least",
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
                f"[{points(interval.low)}, {points(interval.high)}]",
                p_words(gain.p_holm),
                *(
                    [f"{name} {points(own)}" for name, own in extremes]
                    if any_differ(extremes)
                    else ["-", "-"]
                ),
            )
        )
    caption = (
        "Gains in points of top-1, paired by seed and by video; ± is the sample standard deviation "
        f"over seeds. Intervals are not corrected; p is, {_for_pairs(len(gains))}."
    )
    return Table(header, tuple(rows), caption, num_names=3)


def extreme_classes(gain: Gain) -> tuple[tuple[str, float], tuple[str, float]]:
    """The classes that gain most and least, with their gains."""
    differences = gain.per_class()
    names = gain.one.runs[0].class_names
    most, least = int(np.nanargmax(differences)), int(np.nanargmin(differences))
    return (names[most], float(differences[most])), (names[least], float(differences[least]))


def any_differ(extremes: tuple[tuple[str, float], tuple[str, float]]) -> bool:
    """Whether any class gains more than another, so that one can be named."""
    return extremes[0][1] != extremes[1][1]


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


RESULTS_HEADER = (
    "backbone", "temporal", "seeds", "num_failed", "num_videos",
    "top1_mean", "top1_sd", "top5_mean", "top5_sd", "num_parameters", "gmac", "latency_seconds",
    "backward_bytes", "training_seconds", "against", "gain", "gain_low", "gain_high", "gain_sd",
    "gain_p", "gain_p_holm",
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
            row += [interval.p, gain.p_holm]
        rows.append(row + [None] * (len(RESULTS_HEADER) - len(row)))
    return rows


def _pair(shares: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if not shares else (float(np.mean(shares)), spread(shares))


GAINS_HEADER = (
    "backbone", "temporal", "against", "seeds", "gain", "gain_sd", "gain_low", "gain_high", "p",
    "p_holm", "most_class", "most_gain", "least_class", "least_gain", "mcnemar_p_by_seed",
    "mcnemar_p_holm_by_seed",
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
            *(part for extreme in extreme_classes(gain) for part in extreme),
            " ".join(f"{pair.p:.3g}" for pair in gain.runs),
            " ".join(f"{pair.p_holm:.3g}" for pair in gain.runs),
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


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
