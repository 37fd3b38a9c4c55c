import numpy as np
import pytest

from motionaware.engine.statistics import exact_mcnemar
from motionaware.report.gains import compute_gains, extreme_classes

LABELS = [0, 0, 1, 1, 2, 2]


def test_a_gain_uses_the_seeds_that_both_cells_have(none, m2a):
    (gain,) = compute_gains([none, m2a], baseline="none", pairs=[])
    assert gain.seeds == (0, 1)
    assert gain.difference == pytest.approx((3 + 2) / 12)
    assert gain.sd == pytest.approx(np.std([3 / 6, 2 / 6], ddof=1))
    counts = [(test.seed, test.only_cell, test.only_reference) for test in gain.mcnemar]
    assert counts == [(0, 4, 1), (1, 2, 0)]
    assert [test.p for test in gain.mcnemar] == [exact_mcnemar(4, 1), exact_mcnemar(2, 0)]


def test_p_values_are_corrected_over_all_pairs(none, m2a, make_cell):
    tsm = make_cell("tsm", {0: LABELS, 1: LABELS})
    gains = compute_gains(
        [none, m2a, tsm], baseline="none", pairs=[("tsm", "m2a"), ("m2a", "none")]
    )
    pairs = [(gain.cell.temporal, gain.reference.temporal) for gain in gains]
    assert pairs == [("m2a", "none"), ("tsm", "none"), ("tsm", "m2a")]  # each pair once
    smallest = min(gains, key=lambda gain: gain.bootstrap.p)
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.bootstrap.p))
    p_values = sorted((test.p, test.p_holm) for gain in gains for test in gain.mcnemar)
    assert p_values[0][1] == pytest.approx(min(1, 6 * p_values[0][0]))


def test_cells_of_different_backbones_are_not_compared(m2a, make_cell):
    other = make_cell("none", {0: [0] * 6}, backbone="other")
    assert compute_gains([other, m2a], baseline="none", pairs=[]) == []


def test_cells_without_a_common_seed_are_not_compared(m2a, make_cell):
    other = make_cell("none", {7: [0] * 6})
    assert compute_gains([other, m2a], baseline="none", pairs=[]) == []


def test_a_class_without_videos_has_no_gain(none, m2a):
    (gain,) = compute_gains([none, m2a], baseline="none", pairs=[])
    difference_of_left = (0.5 + 1) / 2 - 1
    np.testing.assert_allclose(gain.per_class()[0], difference_of_left)
    assert np.isnan(gain.per_class()[3])
    largest, smallest = extreme_classes(gain)
    assert (largest.label(), smallest.label()) == ("right (and 1 more)", "left")
    assert smallest.difference == pytest.approx(difference_of_left)


def test_with_classes_of_equal_size_the_mean_of_class_gains_is_the_gain(none, m2a):
    (gain,) = compute_gains([none, m2a], baseline="none", pairs=[])
    assert len(m2a.seeds) > len(gain.seeds)
    assert np.nanmean(gain.per_class()) == pytest.approx(gain.difference)


def test_the_number_of_ties_is_given_with_the_largest_class_gain(make_cell):
    cells = [make_cell("none", {0: [0] * 6}), make_cell("tsm", {0: [0, 1, 1, 1, 2, 2]})]
    (gain,) = compute_gains(cells, baseline="none", pairs=[])
    largest, smallest = extreme_classes(gain)
    assert (largest.label(), smallest.label()) == ("right (and 1 more)", "left")


def test_a_gain_is_not_significant_if_the_t_interval_includes_zero(make_cell):
    labels = np.zeros(200, dtype=int)
    none = make_cell("none", {seed: [1] * 200 for seed in (0, 1)}, labels=labels)
    unequal = make_cell("m2a", {0: [0] * 200, 1: [0] * 20 + [1] * 180}, labels=labels)
    (gain,) = compute_gains([none, unequal], baseline="none", pairs=[])
    assert gain.bootstrap.low > 0
    assert gain.p_holm < 0.05
    assert gain.t_includes_zero
    assert not gain.is_significant
    equal = make_cell("m2a", {0: [0] * 200, 1: [0] * 200}, labels=labels)
    (gain,) = compute_gains([none, equal], baseline="none", pairs=[])
    assert gain.is_significant
