"""Statistics of a comparison: standard deviation, bootstrap and t intervals, exact McNemar, Holm.

Answers are arrays `s n`: one row per seed, one column per video. All runs are evaluated on the same
videos. Student's t and the binomial test need scipy (extra `compare`).

Source   Efron and Tibshirani 1993, "An Introduction to the Bootstrap" (percentile interval);
         McNemar 1947, exact (binomial) form; Holm 1979.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, Int

from motionaware.errors import MissingPackage

NUM_RESAMPLES = 10_000
_MAX_VALUES_PER_CHUNK = 4_000_000  # bounds the memory that the resamples take


def _import_scipy_stats() -> ModuleType:
    """Return the module `scipy.stats`.

    Raises:
        MissingPackage: scipy is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingPackage(
            "the statistics of a comparison need scipy; run: pip install 'motionaware[compare]'"
        ) from error
    return stats


def sample_sd(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (divisor n - 1), or None for a single value.

    >>> sample_sd([1.0, 2.0, 3.0])
    1.0
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class BootstrapResult:
    """Confidence interval and p value of a difference of accuracies in [-1, 1].

    Attributes:
        low, high: Bounds of the 95 % percentile interval.
        p: Two-sided p value: twice the share of resamples on the rarer side of zero (zero counts
            on both sides). The observed sample counts as one resample, so p is never 0.
    """

    low: float
    high: float
    p: float


def paired_bootstrap(
    difference: Int[np.ndarray, "s n"], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> BootstrapResult:
    """Bootstrap the mean of paired differences over seeds and videos.

    Each resample draws s seeds and n videos with replacement and takes the mean over both. A row
    holds the difference of two runs with the same seed, a column that of the same video, so the
    pairing is kept.

    Args:
        difference: Correct answers (0 or 1) of one cell minus those of the other: -1, 0 or 1.
        num_resamples: Number of resamples.
        seed: Seed of the random draws.
    """
    num_seeds, num_videos = difference.shape
    rng = np.random.default_rng(seed)
    differences = difference.astype(np.float32)
    chunks = []
    chunk_size = max(1, _MAX_VALUES_PER_CHUNK // num_videos)
    for begin in range(0, num_resamples, chunk_size):
        size = min(chunk_size, num_resamples - begin)
        drawn_seeds = rng.integers(num_seeds, size=(size, num_seeds))
        drawn_videos = rng.integers(num_videos, size=(size, num_videos))
        seed_counts = (drawn_seeds[:, :, None] == np.arange(num_seeds)).sum(axis=1)
        video_sums = seed_counts.astype(np.float32) @ differences  # integers: exact in float32
        sums = np.take_along_axis(video_sums, drawn_videos, axis=1).sum(axis=1, dtype=np.float64)
        chunks.append(sums / (num_seeds * num_videos))
    means = np.concatenate(chunks)
    low, high = np.quantile(means, [0.025, 0.975])
    rarer_side = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p = min(1.0, 2 * (rarer_side + 1) / (num_resamples + 1))
    return BootstrapResult(low=float(low), high=float(high), p=p)


def t_interval(difference: Int[np.ndarray, "s n"]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of paired differences by Student's t.

    The half-width is the root of the sum of squares of two half-widths: one for the choice of
    seeds (s - 1 degrees of freedom) and one for the choice of videos (n - 1). With few seeds that
    differ much, this interval is far wider than the bootstrap's and keeps its coverage.

    Args:
        difference: As for `paired_bootstrap`.

    Returns:
        Lower and upper bound; None for one seed or one video.

    Raises:
        MissingPackage: scipy is not installed.
    """
    num_seeds, num_videos = difference.shape
    if num_seeds == 1 or num_videos == 1:
        return None
    t = _import_scipy_stats().t
    mean = float(difference.mean())
    seeds_variance = float(difference.mean(axis=1).var(ddof=1)) / num_seeds
    videos_variance = float(difference.mean(axis=0).var(ddof=1)) / num_videos
    half_width = math.sqrt(
        float(t.ppf(0.975, num_seeds - 1)) ** 2 * seeds_variance
        + float(t.ppf(0.975, num_videos - 1)) ** 2 * videos_variance
    )
    return mean - half_width, mean + half_width


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p value of the exact McNemar test of two runs.

    Under the null hypothesis, each discordant video (only one of the runs is correct) favours
    either run with probability 1/2.

    Args:
        only_first: Number of videos on which only the first run is correct.
        only_second: Number of videos on which only the second run is correct.

    Raises:
        MissingPackage: scipy is not installed.

    >>> exact_mcnemar(1, 9)
    0.021484375
    """
    num_discordant = only_first + only_second
    if num_discordant == 0:
        return 1.0
    return float(_import_scipy_stats().binomtest(only_first, num_discordant).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's method, in the given order.

    Comparing all of them with one level alpha keeps the family-wise error rate at alpha.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    ascending = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(ascending):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def per_class_accuracy(
    correct: Bool[np.ndarray, "s n"], labels: Int[np.ndarray, "n"], num_classes: int
) -> Float[np.ndarray, "k"]:
    """Return the accuracy of each class, averaged over seeds; NaN for a class without videos."""
    totals = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(labels, weights=correct.mean(axis=0), minlength=num_classes)
    return np.divide(hits, totals, out=np.full(num_classes, np.nan), where=totals > 0)
