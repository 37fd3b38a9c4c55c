import pytest
import torch
from torch import nn

from motionaware.engine.config import TrainConfig
from motionaware.engine.loss import TrainingLoss, balanced_weights, make_loss, named_weights

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
def test_the_loss_of_several_batches_equals_torchs_loss_of_all_their_clips(
    weights: torch.Tensor | None, label_smoothing: float, targets_of
):
    loss = TrainingLoss(weights, label_smoothing=label_smoothing)
    all_scores, all_targets = scores(11), targets_of(11)
    batches = list(zip(all_scores.split(4), all_targets.split(4), strict=True))
    total = sum(loss.total(*batch) for batch in batches)
    found = total / sum(loss.divisor(targets) for _, targets in batches)
    expected = nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)
    torch.testing.assert_close(found, expected(all_scores, all_targets))


def test_balanced_weights_equal_those_of_scikit_learn_and_their_mean_over_the_videos_is_1():
    videos = [0] * 6 + [1] * 3 + [3] * 1
    weights = balanced_weights(4, videos)
    # sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 3], y=videos)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 1.0, 10 / 3]))
    torch.testing.assert_close(weights[videos].mean(), torch.tensor(1.0))


def test_classes_that_are_not_named_have_weight_1():
    assert named_weights({"b": 2.5}, ["a", "b", "c"]).tolist() == [1.0, 2.5, 1.0]


def test_the_labels_are_read_for_balanced_weights_only():
    def no_labels() -> list[int]:
        raise AssertionError("the labels were read")

    names = ["a", "b"]
    assert make_loss(TrainConfig(), names, labels=no_labels).weights is None
    named = make_loss(TrainConfig(class_weights={"a": 2.0}), names, labels=no_labels).weights
    assert named is not None and named.tolist() == [2.0, 1.0]
    config = TrainConfig(class_weights="balanced")
    balanced = make_loss(config, names, labels=lambda: [0, 1, 1, 1]).weights
    assert balanced is not None
    torch.testing.assert_close(balanced, torch.tensor([2.0, 2 / 3]))


def test_an_unknown_class_is_an_error_that_offers_the_nearest():
    message = (
        r"names the class 'dgo', which the data do not have; did you mean 'dog'\? The 2 classes"
    )
    with pytest.raises(ValueError, match=message):
        named_weights({"dgo": 2.0}, ["cat", "dog"])
