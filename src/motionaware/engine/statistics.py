"""Statistics of a comparison: spread over seeds, bootstrap and t interval, exact McNemar, Holm.

Right answers are given as `s n`: a row a seed, a column a video. All runs judged the same videos.

Source   Efron and Tibshirani 1993, "An Introduction to the Bootstrap" (percentile interval);
         McNemar 1947 in its exact, binomial form; Holm 1979; Abramowitz and Stegun 1964, 26.7.3
         and 26.7.4 (Student's t).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int

_CHUNK = 4_000_000  # numbers of a draw that are held at once
_MANY = 300  # degrees of freedom beyond which Student's t is the normal distribution, to 1 %


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation (the divisor is one less than the count); None for one value.

    >>> spread([1.0, 2.0, 3.0])
    1.0
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What a paired bootstrap says of a difference of accuracies, as shares in [-1, 1].

    Attributes:
        low, high: The 95 % percentile interval.
        p: Two-sided: twice the share of resamples on the rarer side of zero, zero on both; each
            side is counted with the observation itself, so it is never 0.
    """

    low: float
    high: float
    p: float


def paired_bootstrap(
    difference: Int[np.ndarray, "s n"], *, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """How far the mean of paired differences would move with other seeds and other videos.

    Every resample draws as many seeds and as many videos as there are, with replacement, and takes
    the mean over both. A seed stands for the pair of runs that share it, a video for the answers of
    all runs to it: so pairing is kept.

    Args:
        difference: Right answers of one column minus those of the other, in -1, 0, 1.
        num_resamples: How many.
        seed: Of the draws.
    """
    num_seeds, num_videos = difference.shape
    rng = np.random.default_rng(seed)
    differences = difference.astype(np.float32)
    means = []
    step = max(1, _CHUNK // num_videos)
    for begin in range(0, num_resamples, step):
        size = min(step, num_resamples - begin)
        drawn_seeds = rng.integers(num_seeds, size=(size, num_seeds))
        videos = rng.integers(num_videos, size=(size, num_videos))
        counts = (drawn_seeds[:, :, None] == np.arange(num_seeds)).sum(axis=1)
        of_videos = counts.astype(np.float32) @ differences  # whole numbers: exact in float32
        sums = np.take_along_axis(of_videos, videos, axis=1).sum(axis=1, dtype=np.float64)
        means.append(sums / (num_seeds * num_videos))
    found = np.concatenate(means)
    low, high = np.quantile(found, [0.025, 0.975])
    rarer = min(int((found <= 0).sum()), int((found >= 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (num_resamples + 1))
    return Interval(low=float(low), high=float(high), p=p)


def t_interval(difference: Int[np.ndarray, "s n"]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of paired differences by Student's t; None for one.

    What chance there is in the choice of seeds and in that of videos, each at 95 %, are added in
    squares. With few seeds that differ much this is far wider than what a bootstrap can draw from
    them, and holds the truth as often as it says.

    Args:
        difference: As of `paired_bootstrap`.
    """
    num_seeds, num_videos = difference.shape
    if num_seeds == 1 or num_videos == 1:
        return None
    mean = float(difference.mean())
    of_seeds = float(difference.mean(axis=1).var(ddof=1)) / num_seeds
    of_videos = float(difference.mean(axis=0).var(ddof=1)) / num_videos
    half = math.sqrt(
        t_quantile(num_seeds - 1) ** 2 * of_seeds + t_quantile(num_videos - 1) ** 2 * of_videos
    )
    return mean - half, mean + half


def t_quantile(degrees: int) -> float:
    """What Student's t exceeds in 2.5 % of cases.

    Args:
        degrees: Of freedom, from 1 on.

    >>> round(t_quantile(1), 3), round(t_quantile(2), 3), round(t_quantile(9), 3)
    (12.706, 4.303, 2.262)
    """
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, min(degrees, _MANY)) < 0.95 else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """How often Student's t lies between -t and t."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, degrees + 1, 2):  # powers of the cosine, two further each time
        total += term
        term *= cosine**2 * (power - 1) / power
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def exact_mcnemar(only_one: int, only_other: int) -> float:
    """Two-sided p: of the videos that one of two runs has right, could a fair coin say which?

    Args:
        only_one: Videos that the one run has right and the other wrong.
        only_other: The other way round.

    >>> exact_mcnemar(1, 9)
    0.021484375
    """
    num = only_one + only_other
    term = total = 1  # binomial coefficients, from 0 on
    for k in range(min(only_one, only_other)):
        term = term * (num - k) // (k + 1)
        total += term
    return float(min(Fraction(1), Fraction(2 * total, 2**num)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected by Holm's method, so that all may be held against one level at once.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def class_accuracy(
    right: Bool[np.ndarray, "s n"], labels: Int[np.ndarray, "n"], num_classes: int
) -> Float[np.ndarray, "k"]:
    """Share of right answers a class, over all seeds; not a number where the class is absent."""
    totals = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(labels, weights=right.mean(axis=0), minlength=num_classes)
    return np.divide(hits, totals, out=np.full(num_classes, np.nan), where=totals > 0)
