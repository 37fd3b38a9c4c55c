import itertools
import math

import numpy as np
import pytest

from motionaware.engine import statistics
from motionaware.engine.statistics import (
    class_accuracy,
    exact_mcnemar,
    holm,
    paired_bootstrap,
    spread,
    t_interval,
    t_quantile,
)


def test_the_spread_is_the_sample_standard_deviation():
    assert spread([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(math.sqrt(32 / 7))
    assert spread([0.5]) is None


# --------------------------------------------------------------------------------------- McNemar


@pytest.mark.parametrize(("one", "other"), [*itertools.product(range(7), repeat=2)])
def test_mcnemar_counts_all_ways_coins_can_fall_as_unevenly(one: int, other: int):
    num = one + other
    falls = itertools.product((0, 1), repeat=num)
    uneven = sum(abs(2 * sum(fall) - num) >= abs(one - other) for fall in falls)
    assert exact_mcnemar(one, other) == pytest.approx(uneven / 2**num, rel=1e-12)


def test_mcnemar_has_the_value_of_the_textbook():
    # 5 and 15 discordant pairs; R: binom.test(5, 20)$p.value
    assert exact_mcnemar(5, 15) == pytest.approx(0.04138947, rel=1e-6)
    assert exact_mcnemar(15, 5) == exact_mcnemar(5, 15)


def test_mcnemar_of_thousands_is_near_the_normal_distribution():
    one, other = 5000, 5200
    z = (abs(one - other) - 1) / math.sqrt(one + other)  # with Edwards' correction
    assert exact_mcnemar(one, other) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


# ------------------------------------------------------------------------------------------- t


@pytest.mark.parametrize(
    ("degrees", "value"),  # of printed tables
    [(1, 12.7062047), (2, 4.3026527), (3, 3.1824463), (4, 2.7764451), (29, 2.0452296)],
)
def test_t_has_the_values_of_the_table(degrees: int, value: float):
    assert t_quantile(degrees) == pytest.approx(value, rel=1e-6)


def test_t_of_many_degrees_is_nearly_normal():
    assert 1.95996 < t_quantile(10**6) < 1.97


def test_where_videos_are_alike_the_t_interval_is_that_of_the_seeds():
    # mean 2/3, standard deviation sqrt(1/3), t of 2 degrees
    difference = np.repeat([[0], [1], [1]], 50, axis=1)
    assert t_interval(difference) == pytest.approx(
        (2 / 3 - 4.3026527 / 3, 2 / 3 + 4.3026527 / 3), abs=1e-6
    )


def test_where_seeds_are_alike_the_t_interval_is_that_of_the_videos():
    # mean 2/3, standard deviation sqrt(30/29 * 2/9), t of 29 degrees
    half = 2.0452296 * math.sqrt(30 / 29 * 2 / 9 / 30)
    difference = np.array([[0] * 10 + [1] * 20] * 4)
    assert t_interval(difference) == pytest.approx((2 / 3 - half, 2 / 3 + half), abs=1e-6)


def test_one_seed_has_no_t_interval_and_no_spread_a_narrow_one():
    assert t_interval(np.array([[0, 1, 1]])) is None
    assert t_interval(np.ones((2, 3), dtype=int)) == (1.0, 1.0)


def test_with_three_seeds_that_differ_much_t_holds_the_truth_and_the_bootstrap_does_not():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        shifts = rng.normal(0, 0.15, (2, 3, 1))
        one, other = (rng.random((2, 3, 300)) < 0.6 + shifts).astype(np.int8)
        found, by_t = paired_bootstrap(one - other, num_resamples=300), t_interval(one - other)
        assert by_t is not None
        held.append((found.low <= 0 <= found.high, by_t[0] <= 0 <= by_t[1]))
    bootstrap, t = np.mean(held, axis=0)
    assert t > 0.92
    assert bootstrap < 0.85


# ------------------------------------------------------------------------------------------ Holm


def test_holm_has_the_values_of_p_adjust():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"), and in another order
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.05, 0.01, 0.04]) == pytest.approx([0.08, 0.03, 0.08])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_comparison_is_not_corrected():
    assert holm([0.03]) == [0.03]


# ------------------------------------------------------------------------------------- bootstrap


def every_resample(difference: np.ndarray) -> np.ndarray:
    """The mean of each resample of seeds and videos, all equally likely."""
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
def test_the_bootstrap_agrees_with_all_resamples_enumerated(difference: list[list[int]]):
    array = np.array(difference, dtype=np.int8)
    means = every_resample(array)
    found = paired_bootstrap(array)
    # The values are few: an end may fall on either side of a step that lies at 2.5 %.
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        low, high = np.quantile(means, [share - 0.006, share + 0.006])
        assert low - 1e-12 <= end <= high + 1e-12
    rarer = min((means <= 1e-12).mean(), (means >= -1e-12).mean())
    assert found.p == pytest.approx(min(1, 2 * rarer), abs=0.03)


def test_two_columns_that_answer_alike_do_not_differ():
    found = paired_bootstrap(np.zeros((3, 50), dtype=np.int8))
    assert (found.low, found.high, found.p) == (0, 0, 1)


def test_p_is_never_zero():
    found = paired_bootstrap(np.ones((3, 50), dtype=np.int8), num_resamples=999)
    assert (found.low, found.high) == (1, 1)
    assert found.p == 2 / 1000


def test_seeds_that_disagree_widen_the_interval_as_videos_do_not():
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
    better[:, :15] = True  # some 7 of 300 more
    paired = paired_bootstrap(better.astype(np.int8) - right.astype(np.int8))
    shuffled = better.astype(np.int8) - right[:, rng.permutation(300)].astype(np.int8)
    unpaired = paired_bootstrap(shuffled)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 3


def test_the_bootstrap_repeats_itself_and_asks_no_one_else_for_chance():
    difference = np.random.default_rng(1).integers(-1, 2, (3, 40)).astype(np.int8)
    before = np.random.get_state(legacy=False)
    assert paired_bootstrap(difference) == paired_bootstrap(difference)
    assert paired_bootstrap(difference) != paired_bootstrap(difference, seed=1)
    assert str(np.random.get_state(legacy=False)) == str(before)


def test_many_videos_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch):
    difference = np.random.default_rng(1).integers(-1, 2, (3, 40)).astype(np.int8)
    whole = paired_bootstrap(difference)
    monkeypatch.setattr(statistics, "_CHUNK", 40 * 7)
    parts = paired_bootstrap(difference)
    assert parts.low == pytest.approx(whole.low, abs=0.02)
    assert parts.high == pytest.approx(whole.high, abs=0.02)


def test_class_accuracy_is_the_mean_over_seeds_and_absent_classes_have_none():
    right = np.array([[True, False, True, True], [True, True, False, True]])
    found = class_accuracy(right, np.array([0, 0, 2, 2]), 3)
    np.testing.assert_allclose(found, [0.75, np.nan, 0.75])
