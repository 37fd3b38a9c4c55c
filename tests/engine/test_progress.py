import pytest

from motionaware.engine.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def run(*, seconds_a_step: float, done: int = 0, bar: bool = False) -> list[str]:
    lines: list[str] = []
    clock = Clock()
    progress = Progress(
        "epoch 2/9",
        unit="step",
        total=100,
        done=done,
        bar=bar,
        log=lines.append,
        every_seconds=60,
        clock=clock,
    )
    for _ in progress.follow(range(done, 100)):
        clock.seconds += seconds_a_step
        progress.advance(16, loss=lambda: 1.25)
    return lines


def test_a_line_a_minute_says_step_loss_speed_and_time_left():
    lines = run(seconds_a_step=2.0)
    assert lines == [
        "epoch 2/9  step 30/100  loss 1.250  8.0 videos/s  about 2 min left",
        "epoch 2/9  step 60/100  loss 1.250  8.0 videos/s  about 80 s left",
        "epoch 2/9  step 90/100  loss 1.250  8.0 videos/s  about 20 s left",
    ]


def test_an_epoch_of_less_than_a_minute_has_no_line():
    assert run(seconds_a_step=0.5) == []


def test_the_speed_of_a_resumed_epoch_counts_its_own_steps_only():
    (line,) = run(seconds_a_step=2.0, done=50)
    assert line == "epoch 2/9  step 80/100  loss 1.250  8.0 videos/s  about 40 s left"


def test_a_bar_takes_the_place_of_lines(capsys: pytest.CaptureFixture[str]):
    assert run(seconds_a_step=2.0, bar=True) == []
    assert "epoch 2/9" in capsys.readouterr().err
