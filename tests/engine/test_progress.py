import pytest

from motionaware.engine.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def run(*, seconds_per_step: float, done: int = 0, bar: bool = False) -> list[str]:
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
        clock.seconds += seconds_per_step
        progress.advance(16, loss=lambda: 1.25)
    return lines


def test_one_line_a_minute_gives_step_loss_speed_and_time_left():
    lines = run(seconds_per_step=2.0)
    assert lines == [
        "epoch 2/9  step 30/100  loss 1.250  8.0 videos/s  about 2 min left",
        "epoch 2/9  step 60/100  loss 1.250  8.0 videos/s  about 80 s left",
        "epoch 2/9  step 90/100  loss 1.250  8.0 videos/s  about 20 s left",
    ]


def test_an_epoch_of_less_than_a_minute_logs_no_line():
    assert run(seconds_per_step=0.5) == []


def test_the_speed_of_a_resumed_epoch_does_not_count_earlier_steps():
    (line,) = run(seconds_per_step=2.0, done=50)
    assert line == "epoch 2/9  step 80/100  loss 1.250  8.0 videos/s  about 40 s left"


def test_a_bar_replaces_the_lines(capsys: pytest.CaptureFixture[str]):
    assert run(seconds_per_step=2.0, bar=True) == []
    assert "epoch 2/9" in capsys.readouterr().err
