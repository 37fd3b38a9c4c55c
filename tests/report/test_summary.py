from dataclasses import replace

import pytest

from motionaware.report.gains import compute_gains
from motionaware.report.summary import missing_gains, summary_lines


def test_a_single_cell_has_no_highest_top1(make_cell, make_results):
    first, second, source = summary_lines(make_results([make_cell("none", {0: [0] * 6})]))
    assert first == "1 model, seed 0; evaluated on the 6 videos of the test split, 4 classes."
    assert second == "b: top-1 of `none`, 33.3 %."
    assert "Seed 0. Report of" in source


def test_the_highest_top1_is_given_with_its_gain(none, make_cell, make_results):
    best = make_cell("m2a", {0: [0, 0, 1, 1, 2, 2], 1: [0, 0, 1, 1, 2, 0]})
    gains = compute_gains([none, best], baseline="none", pairs=[])
    line = summary_lines(make_results([none, best], gains))[1]
    assert line.startswith(
        "b: highest top-1 of `m2a`, 91.7 ± 11.8 %; gain over the baseline `none`: +50.0 points, "
        "95 % CI [+"
    )
    assert "Student's t over 2 seeds [-" in line


def test_cells_that_tie_are_called_equal(make_cell, make_results):
    cells = [make_cell(name, {0: [0] * 6}) for name in ("none", "m2a")]
    gains = compute_gains(cells, baseline="none", pairs=[])
    line = summary_lines(make_results(cells, gains))[1]
    assert line == "b: equal highest top-1 of `none` and `m2a`, 33.3 %."


def test_gains_that_cannot_be_computed_are_listed_with_the_reason(
    none, m2a, make_cell, failed_cell, make_results
):
    cells = [none, m2a, failed_cell("tsm"), make_cell("tea", {7: [0] * 6})]
    gains = compute_gains(cells, baseline="none", pairs=[("m2a", "tsm")])
    results = replace(make_results(cells, gains), pairs=(("m2a", "tsm"),))
    assert missing_gains(results) == [
        "b: no gain of `tsm` over `none`: no run of `tsm` finished.",
        "b: no gain of `tea` over `none`: no common seed.",
        "b: no gain of `m2a` over `tsm`: no run of `tsm` finished.",
    ]
    assert missing_gains(make_results([none, m2a], gains)) == []
    failed = "Left out of all results: 1 failed run (see below)."
    assert failed in summary_lines(make_results(cells))


@pytest.mark.parametrize(
    ("with_baseline", "reason"),
    [(False, "it is not in this report"), (True, "none of its runs finished")],
)
def test_a_baseline_without_runs_is_reported(
    m2a, failed_cell, make_results, with_baseline: bool, reason: str
):
    cells = [failed_cell("none"), m2a] if with_baseline else [m2a]
    lines = missing_gains(make_results(cells))
    assert lines == [f"b: no gains over the baseline `none`: {reason}."]
