"""Print results, errors and warnings of the command line."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from motionaware.errors import MotionAwareWarning


class OutputClosed(Exception):
    """The program that reads our output, such as `head`, has closed it."""


def print_line(text: str = "") -> None:
    """Print a line to standard output and flush it.

    Raises:
        OutputClosed: The reader of standard output has closed it.
    """
    _print(text, to_stderr=False)


def print_error(message: str) -> None:
    """Print `motionaware: MESSAGE` to standard error.

    Raises:
        OutputClosed: The reader of standard error has closed it.
    """
    _print(f"motionaware: {message}", to_stderr=True)


def _print(text: str, *, to_stderr: bool) -> None:
    try:
        print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)
    except BrokenPipeError:
        raise OutputClosed from None


def discard_output() -> None:
    """Send the rest of standard output to the null device, so that flushing it at exit succeeds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_progress() -> bool:
    """Return True if progress bars are shown, which is where standard error is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def mute_video_log() -> Iterator[None]:
    """Mute the log of `motionaware.data.video`, for a command that prints its messages itself."""
    log = logging.getLogger("motionaware.data.video")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def one_line_warnings(*, show_library_warnings: bool) -> Iterator[None]:
    """Print each of our warnings as one line. Filters that turn warnings into errors still apply.

    Args:
        show_library_warnings: Show the warnings of other libraries too. They are hidden by default,
            since they refer to code that the user did not write.
    """
    default_showwarning = warnings.showwarning
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
            print_error(f"note: {message}")
        elif show_library_warnings:
            default_showwarning(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        if not show_library_warnings:
            matplotlib.setLevel(logging.ERROR)  # matplotlib logs its search for fonts
        try:
            yield
        finally:
            matplotlib.setLevel(level)
