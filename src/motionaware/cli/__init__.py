"""The command line: parses arguments and calls apps and engine. Only this package prints.

Nothing heavy is imported here, so that `motionaware --help` is fast. Each command imports what it
needs when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice, pairwise
from typing import NoReturn

from motionaware.cli.compare import add_compare_parser
from motionaware.cli.doctor import add_doctor_parser
from motionaware.cli.models import (
    add_predict_parser,
    add_profile_parser,
    add_stream_parser,
    add_visualize_parser,
)
from motionaware.cli.output import OutputClosed, discard_output, one_line_warnings, print_error
from motionaware.cli.prepare import add_prepare_parser, wrong_subcommand
from motionaware.cli.training import (
    add_evaluate_parser,
    add_quickstart_parser,
    add_train_parser,
    run_train,
)
from motionaware.errors import (
    TrainingInterrupted,
    UsageError,
    is_expected,
    one_line,
)
from motionaware.messages import did_you_mean

COMMANDS = {
    "quickstart": add_quickstart_parser,
    "train": add_train_parser,
    "evaluate": add_evaluate_parser,
    "compare": add_compare_parser,
    "predict": add_predict_parser,
    "visualize": add_visualize_parser,
    "stream": add_stream_parser,
    "profile": add_profile_parser,
    "prepare": add_prepare_parser,
    "doctor": add_doctor_parser,
}

WRONG_ARGUMENTS = 2  # exit code of argparse
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
OUTPUT_CLOSED = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process.

    Args:
        arguments: The command line without the name of the program; None takes `sys.argv`.
    """
    # OpenMP threads that spin while they wait slow down a busy machine. Set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given, overrides = _split_overrides(sys.argv[1:] if arguments is None else arguments)
    if (message := _unknown_command(given) or wrong_subcommand(given)) is not None:
        print_error(message)
        return WRONG_ARGUMENTS
    parser = make_parser()
    args, unknown = parser.parse_known_args(given)
    args.overrides = overrides + unknown
    if args.overrides and args.function is not run_train:
        print_error(
            f"unrecognized arguments: {' '.join(args.overrides)}; "
            f"see motionaware {args.command} --help"
        )
        raise SystemExit(WRONG_ARGUMENTS)
    try:
        _check_no_argument_is_empty([*given, *overrides])
        with one_line_warnings(show_library_warnings=args.traceback):
            return args.function(args)
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    except OutputClosed:
        discard_output()
        return OUTPUT_CLOSED
    except Exception as error:
        if args.traceback or not is_expected(error):
            raise
        print_error(one_line(error))
        return 128 + error.signal_number if isinstance(error, TrainingInterrupted) else 1


class _Parser(argparse.ArgumentParser):
    """A parser that prints an error as one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit."""
        print_error(f"{message}; see {self.prog} --help")
        raise SystemExit(WRONG_ARGUMENTS)


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of `motionaware COMMAND ...`; it sets `function`, which runs the command."""
    parser = _Parser(
        prog="motionaware",
        description="Make any image or video network motion-aware: train, evaluate, predict.",
        epilog="Run motionaware COMMAND --help for the options of a command.",
    )
    parser.add_argument(
        "--version", action="version", version=version("motionaware"), help="print it and exit"
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        help="show tracebacks of errors, and warnings of other libraries",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_parser in COMMANDS.values():
        add_parser(commands)
    return parser


def _unknown_command(arguments: Sequence[str]) -> str | None:
    """Return the error for a command that does not exist, or None.

    >>> _unknown_command(["--traceback", "trian", "recipe.yaml"])
    "command 'trian' is unknown; did you mean 'train'? See motionaware --help"
    """
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name is None or name in COMMANDS:
        return None
    hint = did_you_mean(name, COMMANDS, then="see motionaware --help")
    return f"command {name!r} is unknown; {hint}"


def _check_no_argument_is_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument: as a path it would mean the current folder.

    Raises:
        UsageError: The message names the option.
    """
    for previous, argument in pairwise(["", *arguments]):
        if argument == "":
            name = previous if previous.startswith("--") else "an argument"
        elif argument.startswith("--") and argument.endswith("=") and "." not in argument:
            name = argument.removesuffix("=")  # a recipe checks its own keys
        else:
            continue
        if name != "--title":
            raise UsageError(f"{name} is empty; maybe a shell variable is not set. Give a value")


def _split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate overrides, `--group.key=value` or `--group.key value`, from the other arguments.

    >>> _split_overrides(["train", "--train.epochs", "5", "recipe.yaml", "--data.root=x"])
    (['train', 'recipe.yaml'], ['--train.epochs', '5', '--data.root=x'])
    """
    others, overrides = [], []
    remaining = iter(arguments)
    for argument in remaining:
        key, equals, _ = argument.partition("=")
        if not (key.startswith("--") and "." in key):
            others.append(argument)
        elif equals:
            overrides.append(argument)
        else:
            overrides += [argument, *islice(remaining, 1)]
    return others, overrides
