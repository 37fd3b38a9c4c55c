"""What all verbs say alike."""

import sys


def say_error(words: str) -> None:
    """Tell the person at the terminal, on the error stream."""
    print(f"motionaware: {words}", file=sys.stderr)


def show_progress() -> bool:
    """Bars are for people: show them where someone is watching."""
    return sys.stderr.isatty()
