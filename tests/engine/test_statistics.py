import itertools
import math
import sys

import numpy as np
import pytest

from motionaware.engine import statistics
from motionaware.engine.statistics import (
    exact_mcnemar,
    holm,
    paired_bootstrap,
    per_class_accuracy,
    sample_sd,
    t_interval,
)
from motionaware.errors import MissingPackage


def test_the_sample_standard_deviation_has_divisor_n_minus_1():
    assert sample_sd([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(math.sqrt(32 / 7))
    assert sample_sd([0.5]) is None


# --------------------------------------------------------------------------------------- McNemar


@pytest.mark.parametrize(("first", "second"), [*itertools.product(range(7), repeat=2)])
def test_mcnemar_counts_all_outcomes_that_are_at_least_as_uneven(first: int, second: int):
    num = first + second
    outcomes = itertools.product((0, 1), repeat=num)
    uneven = sum(abs(2 * sum(outcome) - num) >= abs(first - second) for outcome in outcomes)
    assert exact_mcnemar(first, second) == pytest.approx(uneven / 2**num, rel=1e-12)


def test_mcnemar_agrees_with_r():
    # R: binom.test(5, 20)$p.value
    assert exact_mcnemar(5, 15) == pytest.approx(0.04138947, rel=1e-6)
    assert exact_mcnemar(15, 5) == exact_mcnemar(5, 15)


def test_mcnemar_with_thousands_of_videos_is_near_the_normal_approximation():
    first, second = 5000, 5200
    z = (abs(first - second) - 1) / math.sqrt(first + second)  # with Edwards' correction
    assert exact_mcnemar(first, second) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


# ------------------------------------------------------------------------------------ Student's t


def test_if_all_videos_are_equal_the_t_interval_is_that_of_the_seeds():
    # mean 2/3, standard deviation sqrt(1/3), t quantile for 2 degrees of freedom 4.3026527
    difference = np.repeat([[0], [1], [1]], 50, axis=1)
    assert t_interval(difference) == pytest.approx(
        (2 / 3 - 4.3026527 / 3, 2 / 3 + 4.3026527 / 3), abs=1e-6
    )


def test_if_all_seeds_are_equal_the_t_interval_is_that_of_the_videos():
    # mean 2/3, standard deviation sqrt(30/29 * 2/9), t quantile for 29 degrees of freedom 2.0452296
    half = 2.0452296 * math.sqrt(30 / 29 * 2 / 9 / 30)
    difference = np.array([[0] * 10 + [1] * 20] * 4)
    assert t_interval(difference) == pytest.approx((2 / 3 - half, 2 / 3 + half), abs=1e-6)


def test_the_t_interval_uses_the_exact_quantile_for_many_videos():
    # standard deviation sqrt(1200/1199 / 4), t quantile for 1199 degrees of freedom 1.9619445
    half = 1.9619445 * math.sqrt(1200 / 1199 / 4 / 1200)
    difference = np.array([[0] * 600 + [1] * 600] * 2)
    assert t_interval(difference) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-8)


def test_one_seed_has_no_t_interval_and_equal_values_one_of_width_zero():
    assert t_interval(np.array([[0, 1, 1]])) is None
    assert t_interval(np.ones((2, 3), dtype=int)) == (1.0, 1.0)


def test_with_three_seeds_that_differ_much_only_the_t_interval_has_its_coverage():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        seed_effects = rng.normal(0, 0.15, (2, 3, 1))
        first, second = (rng.random((2, 3, 300)) < 0.6 + seed_effects).astype(np.int8)
        bootstrap = paired_bootstrap(first - second, num_resamples=300)
        t = t_interval(first - second)
        assert t is not None
        covered.append((bootstrap.low <= 0 <= bootstrap.high, t[0] <= 0 <= t[1]))
    bootstrap_coverage, t_coverage = np.mean(covered, axis=0)
    assert t_coverage > 0.92
    assert bootstrap_coverage < 0.85


@pytest.mark.parametrize(
    "compute", [lambda: exact_mcnemar(1, 2), lambda: t_interval(np.array([[0, 1], [1, 1]]))]
)
def test_a_missing_scipy_names_the_extra(compute, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingPackage, match=r"pip install 'motionaware\[compare\]'"):
        compute()


# ------------------------------------------------------------------------------------------ Holm


def test_holm_agrees_with_r():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"), and in another order
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.05, 0.01, 0.04]) == pytest.approx([0.08, 0.03, 0.08])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_single_p_value_is_not_corrected():
    assert holm([0.03]) == [0.03]


# ------------------------------------------------------------------------------------- bootstrap


def every_resample(difference: np.ndarray) -> np.ndarray:
    """Return the mean of every possible resample of seeds and videos, all equally likely."""
    num_seeds, num_videos = difference.shape
    return np.array(
        [
            difference[np.ix_(seeds, videos)].mean()
            for seeds in itertools.product(range(num_seeds), repeat=num_seeds)
            for videos in itertools.product(range(num_videos), repeat=num_videos)
        ]
    )


@pytest.mark.parametrize(
    "difference",
    [
        [[1, 0, -1, 1, 1]],
        [[1, 0, 1, 1], [0, 1, 1, -1]],
        [[1, 0, 1], [0, 0, 1], [1, -1, 1]],
        [[-1, -1, 0], [-1, 1, -1], [0, -1, -1]],
    ],
)
def test_the_bootstrap_agrees_with_an_enumeration_of_all_resamples(difference: list[list[int]]):
    array = np.array(difference, dtype=np.int8)
    means = every_resample(array)
    result = paired_bootstrap(array)
    # There are few distinct means: a bound may fall on either side of a step at 2.5 %.
    for bound, level in ((result.low, 0.025), (result.high, 0.975)):
        low, high = np.quantile(means, [level - 0.006, level + 0.006])
        assert low - 1e-12 <= bound <= high + 1e-12
    rarer_side = min((means <= 1e-12).mean(), (means >= -1e-12).mean())
    assert result.p == pytest.approx(min(1, 2 * rarer_side), abs=0.03)


def test_equal_answers_give_an_interval_of_zero_and_p_one():
    result = paired_bootstrap(np.zeros((3, 50), dtype=np.int8))
    assert (result.low, result.high, result.p) == (0, 0, 1)


def test_p_is_never_zero():
    result = paired_bootstrap(np.ones((3, 50), dtype=np.int8), num_resamples=999)
    assert (result.low, result.high) == (1, 1)
    assert result.p == 2 / 1000


def test_disagreeing_seeds_widen_the_interval():
    agreeing = np.zeros((2, 400), dtype=np.int8)
    agreeing[:, :200] = 1
    disagreeing = np.stack([np.ones(400), np.zeros(400)]).astype(np.int8)  # the same mean
    narrow, wide = paired_bootstrap(agreeing), paired_bootstrap(disagreeing)
    assert narrow.high - narrow.low < 0.12
    assert (wide.low, wide.high) == (0, 1)


def test_videos_are_paired():
    rng = np.random.default_rng(0)
    right = rng.random((3, 300)) < 0.5
    better = right.copy()
    better[:, :15] = True  # about 7 of 300 more
    paired = paired_bootstrap(better.astype(np.int8) - right.astype(np.int8))
    shuffled = better.astype(np.int8) - right[:, rng.permutation(300)].astype(np.int8)
    unpaired = paired_bootstrap(shuffled)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_the_bootstrap_is_reproducible_and_leaves_the_global_generator_alone():
    difference = np.random.default_rng(1).integers(-1, 2, (3, 40)).astype(np.int8)
    before = np.random.get_state(legacy=False)
    assert paired_bootstrap(difference) == paired_bootstrap(difference)
    assert paired_bootstrap(difference) != paired_bootstrap(difference, seed=1)
    assert str(np.random.get_state(legacy=False)) == str(before)


def test_resampling_in_chunks_gives_a_similar_interval(monkeypatch: pytest.MonkeyPatch):
    difference = np.random.default_rng(1).integers(-1, 2, (3, 40)).astype(np.int8)
    in_one_chunk = paired_bootstrap(difference)
    monkeypatch.setattr(statistics, "_MAX_VALUES_PER_CHUNK", 40 * 7)
    in_chunks = paired_bootstrap(difference)
    assert in_chunks.low == pytest.approx(in_one_chunk.low, abs=0.02)
    assert in_chunks.high == pytest.approx(in_one_chunk.high, abs=0.02)


def test_per_class_accuracy_is_the_mean_over_seeds_and_nan_for_absent_classes():
    correct = np.array([[True, False, True, True], [True, True, False, True]])
    accuracies = per_class_accuracy(correct, np.array([0, 0, 2, 2]), 3)
    np.testing.assert_allclose(accuracies, [0.75, np.nan, 0.75])
