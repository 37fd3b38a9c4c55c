"""What all verbs say alike."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def say_error(words: str) -> None:
    """Tell the person at the terminal, on the error stream."""
    print(f"motionaware: {words}", file=sys.stderr)


def show_progress() -> bool:
    """Bars are for people: show them where someone is watching."""
    return sys.stderr.isatty()


@contextmanager
def prints_notes() -> Iterator[None]:
    """For a verb that prints the notes of videos itself: keep them out of the log meanwhile."""
    log = logging.getLogger("motionaware.data.video")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
