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
def notes_on_one_line() -> Iterator[None]:
    """Show each `MotionAwareWarning` as one line, once; other warnings as Python shows them."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, MotionAwareWarning):
                say_error(f"note: {' '.join(str(message).split())}")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_note
        yield
