import pytest
import torch
from torch import nn

from motionaware.engine.scores import check_scores, shorten
from motionaware.errors import NonFiniteScores

MODEL = nn.Linear(2, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_error_names_the_videos_with_non_finite_scores(value: float):
    scores = torch.zeros(3, 4)
    scores[1, 2] = value
    message = r"the model's scores of b\.mp4 are infinite or not a number \(NaN\), so they name no"
    with pytest.raises(NonFiniteScores, match=message):
        check_scores(scores, MODEL, ["a.mp4", "b.mp4", "c.mp4"])


def test_all_views_of_a_video_belong_to_one_name():
    scores = torch.zeros(2, 3, 4)
    scores[0, 2, 1] = float("nan")
    with pytest.raises(NonFiniteScores, match="scores of a are"):
        check_scores(scores, MODEL, ["a", "b"])


def test_finite_scores_whose_sum_overflows_pass():
    check_scores(torch.full((2, 3), 3e38), MODEL, ["a", "b"])


def test_infinities_of_both_signs_are_found():
    scores = torch.tensor([[float("inf"), -float("inf")]])
    with pytest.raises(NonFiniteScores):
        check_scores(scores, MODEL, ["a"])


def test_the_error_gives_the_weights_or_the_computation_as_the_cause():
    scores = torch.full((1, 3), float("nan"))
    with pytest.raises(NonFiniteScores, match=r"weights are finite \(float32\), so values over"):
        check_scores(scores, MODEL, ["a"])
    broken = nn.Linear(2, 3)
    nn.init.constant_(broken.weight, float("nan"))
    message = (
        r"1 of the model's weights are infinite or NaN themselves, the first is weight: use an"
    )
    with pytest.raises(NonFiniteScores, match=message):
        check_scores(scores, broken, ["a"])


def test_shorten_lists_the_first_names_and_counts_the_others():
    assert shorten(["a", "b", "a"]) == "a, b"
    assert shorten(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
