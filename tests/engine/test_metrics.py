import math

import pytest
import torch

from motionaware.engine.metrics import make_report, note_lines


def test_a_report_equals_values_computed_by_hand():
    probabilities = torch.tensor(
        [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]]
    )
    report = make_report(probabilities, torch.tensor([0, 0, 1, 1]), ["a", "b", "c"])
    assert report.num_videos == 4
    assert report.top1 == 0.75
    assert report.mean_class == 0.75
    assert report.loss == pytest.approx(-sum(map(math.log, (0.7, 0.5, 0.8, 0.3))) / 4)
    assert report.per_class == {"a": 1.0, "b": 0.5, "c": None}
    assert report.confusion == [[2, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_the_mean_over_classes_does_not_depend_on_the_number_of_videos():
    probabilities = torch.tensor([[0.9, 0.1]] * 4)
    report = make_report(probabilities, torch.tensor([0, 0, 0, 1]), ["a", "b"])
    assert (report.top1, report.mean_class) == (0.75, 0.5)


def test_top5_counts_a_correct_class_at_rank_5_but_not_at_rank_6():
    row = torch.tensor([0.3, 0.25, 0.2, 0.12, 0.08, 0.05])
    report = make_report(torch.stack([row, row]), torch.tensor([4, 5]), list("abcdef"))
    assert report.top5 == 0.5


def test_five_classes_have_no_top5():
    assert make_report(torch.full((1, 5), 0.2), torch.tensor([0]), list("abcde")).top5 is None


def test_a_correct_class_of_probability_0_gives_a_finite_loss():
    report = make_report(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), ["a", "b"])
    assert report.loss == pytest.approx(-math.log(1e-12))


def test_to_dict_returns_plain_values():
    report = make_report(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), ["a", "b"])
    assert report.to_dict()["confusion"] == [[0, 0], [1, 0]]


def test_note_lines_show_the_first_notes_and_count_the_others():
    lines = note_lines([str(number) for number in range(20)])
    assert lines[:2] == ["note: 0", "note: 1"]
    assert lines[8:] == ["note: and 12 more like these; motionaware doctor names all"]
    assert note_lines([]) == []
