"""All errors and warnings that are meant for users.

    MotionAwareError                        base; says what was found, expected, and what to do
    ├── UsageError (ValueError)             an argument, option, name or file cannot be used
    │   └── RecipeError                     a key or value of a recipe or grid
    ├── DataError (ValueError)              a data set does not have the layout of its kind
    │   └── SplitAbsent                     it has no such split
    ├── VideoError (ValueError)             one video cannot be read or written
    ├── SiteError (RuntimeError)            a temporal module of a network no longer runs
    ├── OwnCodeError (RuntimeError)         a user's own temporal module raised an error
    ├── MissingPackage (ImportError)        an optional package is not installed
    ├── NonFiniteScores (ValueError)        a model's scores are infinite or NaN
    ├── TrainingDiverged (RuntimeError)     the loss became infinite or NaN
    ├── TrainingInterrupted (RuntimeError)  a signal stopped training; its state was saved
    └── WorkerCrashed (RuntimeError)        a process that motionaware started crashed

Each class also derives from the built-in class in brackets: code that catches ValueError works.
OSError, an error of the operating system, is for users too. Any other exception is a bug in
motionaware: the command line shows its traceback.
"""

import signal


class MotionAwareError(Exception):
    """Base of all errors that are meant for users."""


class UsageError(MotionAwareError, ValueError):
    """An argument, an option, a name or a file cannot be used as given."""


class RecipeError(UsageError):
    """A key or a value of a recipe or grid is wrong; the message names the key."""


class DataError(MotionAwareError, ValueError):
    """A data set does not have the layout of its kind; the message names the place."""


class SplitAbsent(DataError):
    """A data set has no such split."""


class VideoError(MotionAwareError, ValueError):
    """One video cannot be read or written; the message names the video."""


class SiteError(MotionAwareError, RuntimeError):
    """A temporal module of a network no longer runs; the message names its site."""


class OwnCodeError(MotionAwareError, RuntimeError):
    """A user's own temporal module raised an error; the message names file and line."""


class MissingPackage(MotionAwareError, ImportError):
    """An optional package is not installed; the message gives the command that installs it."""


class NonFiniteScores(MotionAwareError, ValueError):
    """A model gave infinite or NaN scores; the message names the videos and the cause."""


class TrainingDiverged(MotionAwareError, RuntimeError):
    """The loss or the scores are infinite or NaN; the checkpoints of earlier epochs are kept."""


class TrainingInterrupted(MotionAwareError, RuntimeError):
    """A signal asked to stop the run, and its state was saved.

    Attributes:
        signal_number: The signal; a command line exits with 128 plus this number.
    """

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class WorkerCrashed(MotionAwareError, RuntimeError):
    """A process that motionaware started crashed or was killed."""


class MotionAwareWarning(UserWarning):
    """A fact that the user should know; the command line prints it as one line.

    It is for facts about a call: a checkpoint, a model or a cache file. A fact about one video goes
    to `Video.notes` and to the logger `motionaware.data.video` instead: it comes up while workers
    decode, its line is collected in batches and reports, and it must not become an error where
    warnings are errors.
    """


def is_expected(error: Exception) -> bool:
    """Return True if an error is meant for users: a MotionAwareError or an OSError."""
    return isinstance(error, (MotionAwareError, OSError))


def one_line(error: Exception) -> str:
    """Return the message of an error on one line."""
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
