"""What all verbs say alike."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from motionaware.errors import MotionAwareWarning


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


@contextmanager
def plain_warnings(*, of_libraries: bool) -> Iterator[None]:
    """Print our own warnings as one line each, and those of libraries only where wanted.

    A warning of a library speaks of a line of code that the user did not write. Filters that turn
    warnings into errors still do.
    """
    as_usual = warnings.showwarning
    matplotlib = logging.getLogger("matplotlib")
    level = matplotlib.level

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, MotionAwareWarning):
            say_error(f"note: {message}")
        elif of_libraries:
            as_usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        if not of_libraries:
            matplotlib.setLevel(logging.ERROR)  # it logs that it looks for fonts, for example
        try:
            yield
        finally:
            matplotlib.setLevel(level)
