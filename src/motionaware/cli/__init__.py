"""Words -> the functions of apps and engine. Only this package prints."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import islice

from motionaware.cli.compare import run_compare
from motionaware.cli.data import run_doctor, run_prepare
from motionaware.cli.models import run_predict, run_profile, run_stream, run_visualize
from motionaware.cli.say import plain_warnings, say_error
from motionaware.cli.training import run_evaluate, run_quickstart, run_train
from motionaware.cli.verbs import make_parser
from motionaware.errors import TrainingInterrupted, UsageError, is_expected, one_line

# Nothing heavy is imported here: `motionaware --help` answers at once. Each verb imports its own.

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended
NO_READER = 141  # and of one whose reader went away, as `head` does

RUN = {
    "quickstart": run_quickstart,
    "train": run_train,
    "evaluate": run_evaluate,
    "compare": run_compare,
    "predict": run_predict,
    "visualize": run_visualize,
    "stream": run_stream,
    "profile": run_profile,
    "prepare": run_prepare,
    "doctor": run_doctor,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; return the process's exit code."""
    # Two threads that spin on a busy machine can be slower than one; said before torch comes in.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = make_parser()
    words, overrides = _part_overrides(sys.argv[1:] if words is None else words)
    args, rest = parser.parse_known_args(words)
    args.overrides = overrides + rest
    if args.overrides and args.verb != "train":
        parser.error(f"unrecognized arguments: {' '.join(args.overrides)}")
    try:
        _check_nothing_is_empty(args)
        with plain_warnings(of_libraries=args.traceback):
            code = RUN[args.verb](args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say_error("interrupted")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _printed(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
            return NO_READER
        if args.traceback or not is_expected(error):
            raise
        say_error(one_line(error))
        return 128 + error.signal_number if isinstance(error, TrainingInterrupted) else 1


def _check_nothing_is_empty(args: argparse.Namespace) -> None:
    """Refuse an empty argument: as a path it would be the current folder.

    Raises:
        ValueError: It names the argument.
    """
    for name, value in vars(args).items():
        if name != "title" and (value == "" or (isinstance(value, list) and "" in value)):
            raise UsageError(
                f"argument {name.upper()} is empty; is a variable of the shell not set? Give a "
                "value, or leave the argument out"
            )


def _printed(error: BrokenPipeError) -> bool:
    """Whether it was our own printing that found nobody to read it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("motionaware.cli")


def _part_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take out `--group.key=value` and `--group.key value`, wherever they stand.

    >>> _part_overrides(["train", "--train.epochs", "5", "recipe.yaml", "--data.root=x"])
    (['train', 'recipe.yaml'], ['--train.epochs', '5', '--data.root=x'])
    """
    others, overrides = [], []
    remaining = iter(words)
    for word in remaining:
        key, equals, _ = word.partition("=")
        if not (key.startswith("--") and "." in key):
            others.append(word)
        elif equals:
            overrides.append(word)
        else:
            overrides += [word, *islice(remaining, 1)]
    return others, overrides
