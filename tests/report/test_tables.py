from motionaware.report.gains import compute_gains
from motionaware.report.tables import accuracy_table, gains_table, mcnemar_table, minutes


def test_times_below_a_minute_have_two_significant_digits():
    assert [minutes(seconds) for seconds in (2.0, 59.0, 60.0, 200.0)] == [
        "0.033",
        "0.98",
        "1.0",
        "3.3",
    ]


def test_captions_give_the_number_of_pairs(none, make_cell):
    gains = compute_gains([none, make_cell("m2a", {0: [0] * 6})], baseline="none", pairs=[])
    assert "Holm-corrected over 1 pair of models." in gains_table(gains).caption
    assert "Holm-corrected over 1 pair of runs." in mcnemar_table(gains).caption


def test_the_table_of_gains_names_the_extreme_classes(make_cell):
    cells = [make_cell("none", {0: [0] * 6}), make_cell("tsm", {0: [0, 1, 1, 1, 2, 2]})]
    gains = compute_gains(cells, baseline="none", pairs=[])
    assert gains_table(gains).rows[0][-2:] == ("right (and 1 more) +100.0", "left -50.0")


def test_no_extreme_class_is_named_if_all_classes_gain_equally(make_cell):
    cells = [make_cell(name, {0: [0] * 6}) for name in ("none", "m2a")]
    gains = compute_gains(cells, baseline="none", pairs=[])
    assert gains_table(gains).rows[0][-2:] == ("-", "-")


def test_a_cell_without_a_finished_run_is_marked_failed(failed_cell):
    table = accuracy_table([failed_cell("tsm")])
    assert table.rows[0][:5] == ("b", "tsm", "0 of 1", "failed", "")
    assert len(table.rows[0]) == len(table.header)
