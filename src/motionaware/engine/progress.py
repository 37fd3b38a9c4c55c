"""Progress within an epoch: a bar on a terminal, else a line about once a minute."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LINE_SECONDS = 60.0

_Work = TypeVar("_Work")


class Progress:
    """Follows work of a known number of pieces, and tells how far it has come.

    Args:
        name: What is done, `epoch 3/30` for example.
        unit: What a piece is.
        total: Pieces in all.
        done: Pieces that an earlier process has done.
        bar: Show a bar on the error stream instead of lines.
        tell: Takes the lines.
        every_seconds: Between two lines.
        clock: Seconds that pass.
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
        self._first = done
        self._num_videos = 0
        self._began = self._told = clock()

    def follow(self, work: Iterable[_Work]) -> Iterator[_Work]:
        """Pass the pieces on; without a bar, call `advance` after each of them."""
        if not self.bar:
            yield from work
            return
        yield from tqdm(work, self.name, total=self.total, initial=self.done, leave=False)

    def advance(self, num_videos: int, *, loss: Callable[[], float] | None = None) -> None:
        """Count a piece of so many videos; tell a line if the last one is long ago.

        `loss` gives the mean loss so far; it is called only for a line.
        """
        self.done += 1
        self._num_videos += num_videos
        now = self.clock()
        if self.bar or now - self._told < self.every_seconds or self.done >= self.total:
            return
        self._told = now
        seconds = now - self._began
        left = (self.total - self.done) * seconds / (self.done - self._first)
        loss_words = "" if loss is None else f"loss {loss():.3f}  "
        self.log(
            f"{self.name}  {self.unit} {self.done}/{self.total}  {loss_words}"
            f"{self._num_videos / seconds:.1f} videos/s  about {duration(left)} left"
        )


def duration(seconds: float) -> str:
    """Write a duration for a person.

    >>> duration(42.4), duration(170.0), duration(7300.0)
    ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
