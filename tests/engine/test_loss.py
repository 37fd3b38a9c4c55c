import pytest
import torch
from torch import nn

from motionaware.engine.loss import TrainingLoss, make_weights

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 4.0])


def scores(num_clips: int) -> torch.Tensor:
    return torch.randn(num_clips, 4, generator=torch.Generator().manual_seed(num_clips))


def labels(num_clips: int) -> torch.Tensor:
    return torch.arange(num_clips) * 3 % 4


def shares(num_clips: int) -> torch.Tensor:
    drawn = torch.rand(num_clips, 4, generator=torch.Generator().manual_seed(9))
    return drawn / drawn.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("targets_of", [labels, shares])
def test_a_step_of_several_batches_has_torchs_loss_of_all_its_clips(
    weights: torch.Tensor | None, label_smoothing: float, targets_of
):
    loss = TrainingLoss(weights, label_smoothing=label_smoothing)
    all_scores, all_targets = scores(11), targets_of(11)
    batches = list(zip(all_scores.split(4), all_targets.split(4), strict=True))
    total = sum(loss.total(*batch) for batch in batches)
    found = total / sum(loss.divisor(targets) for _, targets in batches)
    torchs = nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
    torch.testing.assert_close(found, torchs(all_scores, all_targets))


def test_balanced_weights_are_those_of_scikit_learn_and_average_to_1_over_the_videos():
    videos = [0] * 6 + [1] * 3 + [3] * 1
    weights = make_weights("balanced", ["a", "b", "empty", "d"], videos)
    assert weights is not None
    # sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 3], y=videos)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 1.0, 10 / 3]))
    torch.testing.assert_close(weights[videos].mean(), torch.tensor(1.0))


def test_classes_that_are_not_named_have_weight_1():
    weights = make_weights({"b": 2.5}, ["a", "b", "c"], [])
    assert weights is not None
    assert weights.tolist() == [1.0, 2.5, 1.0]
    assert make_weights("none", ["a", "b"], [0, 1]) is None


def test_an_unknown_class_is_refused_with_the_nearest():
    words = r"names the class 'dgo', which the data do not have; did you mean 'dog'\? The 2 classes"
    with pytest.raises(ValueError, match=words):
        make_weights({"dgo": 2.0}, ["cat", "dog"], [])
