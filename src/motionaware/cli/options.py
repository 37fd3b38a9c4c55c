"""Arguments that several commands share."""

import argparse

Subparsers = argparse._SubParsersAction  # argparse has no public name for it


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument `checkpoint`."""
    parser.add_argument("checkpoint", help="file that training wrote, such as RUN/best.safetensors")


def add_allow_code(parser: argparse.ArgumentParser) -> None:
    """Add `--allow-code`."""
    parser.add_argument(
        "--allow-code",
        action="store_true",
        help="import the user's temporal module that a checkpoint or run refers to; use it only if "
        "you trust the author",
    )


def add_json(parser: argparse.ArgumentParser, *, each: str = "") -> None:
    """Add `--json`.

    Args:
        parser: The parser of the command.
        each: What each JSON object describes, for the help text; "" if there is only one object.
    """
    unit = f"one JSON object per {each}" if each else "one JSON object"
    parser.add_argument("--json", action="store_true", help=f"print {unit} instead of text")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes; 0 works in the main process (default: one per CPU)",
    )


def add_allow_broken(parser: argparse.ArgumentParser) -> None:
    """Add `--allow-broken`."""
    parser.add_argument(
        "--allow-broken",
        action="store_true",
        help="exit with code 0 even if videos are missing or unreadable",
    )
