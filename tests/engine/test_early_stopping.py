import pytest

from motionaware.engine.config import TrainConfig
from motionaware.engine.early_stopping import epochs_without_improvement, is_over, stopped_early


def log(*top1: float) -> list[dict[str, float]]:
    return [{"val_top1": value} for value in top1]


@pytest.mark.parametrize(
    ("scores", "min_delta", "num_epochs"),
    [
        ((), 0.0, 0),
        ((0.5,), 0.0, 0),
        ((0.5, 0.5), 0.0, 1),
        ((0.5, 0.6, 0.5, 0.55), 0.0, 2),
        ((0.5, 0.6, 0.5, 0.61), 0.0, 0),
        (
            (0.5, 0.51, 0.52, 0.54),
            0.03,
            0,
        ),  # compared with the best, so that small improvements add up
        ((0.5, 0.51, 0.52), 0.03, 2),
    ],
)
def test_epochs_are_counted_since_the_last_improvement(scores, min_delta, num_epochs):
    assert epochs_without_improvement(log(*scores), min_delta=min_delta) == num_epochs


def test_a_run_is_over_after_its_last_epoch_or_without_improvement():
    config = TrainConfig(epochs=5, early_stopping_epochs=2)
    assert not is_over(log(0.5, 0.4), config)
    assert is_over(log(0.5, 0.4, 0.4), config)
    assert is_over(log(0.1, 0.2, 0.3, 0.4, 0.5), config)
    assert not is_over(log(0.5, 0.4, 0.4, 0.4), TrainConfig(epochs=5))


def test_the_reason_gives_patience_and_best_epoch():
    config = TrainConfig(epochs=5, early_stopping_epochs=2, early_stopping_min_delta=0.01)
    assert stopped_early(log(0.5, 0.505, 0.4), config) == (
        "stopped early after 3 of 5 epochs: validation top-1 did not improve by more than 0.01 in "
        "the last 2 (train.early_stopping_epochs); the best is 50.5% in epoch 2"
    )
    assert stopped_early(log(0.5, 0.5, 0.5, 0.5, 0.5), config) is None  # all epochs are trained


def test_a_log_read_from_its_file_gives_the_same_result():
    config = TrainConfig(epochs=5, early_stopping_epochs=1)
    assert is_over([{"val_top1": "0.5"}, {"val_top1": "0.5"}], config)
