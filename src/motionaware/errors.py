"""Which errors are meant for the user, and their words on one line."""

import traceback

OWN_CODE_MARK = "__motionaware_own__"
"""A global of modules that a user named in a recipe, a grid or a call; see temporal/own.py."""


class MotionAwareWarning(UserWarning):
    """A fact that the user should know; the command line prints it as one line."""


def is_expected(error: Exception) -> bool:
    """Whether an error's words are meant for the user.

    They are where the machine refused something (OSError), and where a line of ours raised them. A
    ValueError from inside a library that we called is a fault of ours: its traceback is wanted.
    """
    if isinstance(error, OSError) or type(error).__module__.startswith("motionaware."):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    ours = frame.f_globals["__name__"].startswith("motionaware.")
    return ours and isinstance(error, (ValueError, ImportError))


def one_line(error: Exception) -> str:
    """An error on one line; of an error that crossed from a worker process, what it said there."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    words = str(error).strip() or type(error).__name__
    return words.splitlines()[-1] if "Original Traceback" in words else " ".join(words.split())


def place_in_own_code(error: Exception) -> str | None:
    """Give file and line of the innermost line of a user's temporal module that led to an error."""
    place = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if OWN_CODE_MARK in frame.f_globals:
            place = f"{frame.f_code.co_filename}, line {line}"
    return place
