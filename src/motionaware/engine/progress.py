"""Report progress within an epoch: a bar on a terminal, otherwise about one line a minute."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LINE_SECONDS = 60.0

_Item = TypeVar("_Item")


class Progress:
    """Reports the progress of a loop with a known number of steps.

    Args:
        name: Name of the loop, such as `epoch 3/30`.
        unit: Name of a step.
        total: Number of steps.
        done: Steps that an earlier process has done.
        bar: Show a bar on standard error instead of lines.
        log: Called with each line.
        every_seconds: Seconds between two lines; `LINE_SECONDS` if None.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        unit: str,
        total: int,
        done: int = 0,
        bar: bool,
        log: Callable[[str], None],
        every_seconds: float | int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.unit, self.total, self.done = name, unit, total, done
        self.bar, self.log, self.clock = bar, log, clock
        self.every_seconds = LINE_SECONDS if every_seconds is None else every_seconds
        self._first_step = done
        self._num_videos = 0
        self._start = self._last_line = clock()

    def follow(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items and move the bar. Without a bar, call `advance` after each item."""
        if not self.bar:
            yield from items
            return
        yield from tqdm(items, self.name, total=self.total, initial=self.done, leave=False)

    def advance(self, num_videos: int, *, loss: Callable[[], float] | None = None) -> None:
        """Count one step, and log a line if the last line is older than `every_seconds`.

        Args:
            num_videos: Videos that the step processed.
            loss: Returns the mean loss so far; called only if a line is logged.
        """
        self.done += 1
        self._num_videos += num_videos
        now = self.clock()
        if self.bar or now - self._last_line < self.every_seconds or self.done >= self.total:
            return
        self._last_line = now
        seconds = now - self._start
        seconds_left = (self.total - self.done) * seconds / (self.done - self._first_step)
        loss_text = "" if loss is None else f"loss {loss():.3f}  "
        self.log(
            f"{self.name}  {self.unit} {self.done}/{self.total}  {loss_text}"
            f"{self._num_videos / seconds:.1f} videos/s  about {format_duration(seconds_left)} left"
        )


def format_duration(seconds: float) -> str:
    """Return a duration as text, in a unit that suits it.

    >>> format_duration(42.4), format_duration(170.0), format_duration(7300.0)
    ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
