"""The commands `prepare motionpairs`, `prepare split`, `prepare index` and `prepare shards`."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from motionaware.cli.options import Subparsers, add_allow_broken, add_workers
from motionaware.cli.output import print_error, print_line, show_progress
from motionaware.messages import count, did_you_mean

if TYPE_CHECKING:
    from motionaware.data.annotations.split import Overlap

_RECIPE = "recipes/folder.yaml"
_SUBCOMMANDS = ("motionpairs", "split", "index", "shards")


def add_prepare_parser(commands: Subparsers) -> None:
    """Add `motionaware prepare` and its sub-commands."""
    parser = commands.add_parser(
        "prepare",
        help="prepare a data set: synthesize, split, index, write shards",
        description="Prepare a data set for training. See docs/data.md.",
        epilog="Run motionaware prepare COMMAND --help for the options of a command.",
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for add_parser in (_add_motionpairs, _add_split, _add_index, _add_shards):
        add_parser(subcommands)


def wrong_subcommand(arguments: Sequence[str]) -> str | None:
    """Return the error for `prepare KIND ...`, the former spelling, or an unknown one; else None.

    >>> wrong_subcommand(["prepare", "csv", "--root", "data", "--shards=out"])
    '`prepare KIND` has been replaced; run: motionaware prepare shards csv --root data --out=out'
    >>> wrong_subcommand(["prepare", "indx"])
    "command 'prepare indx' is unknown; did you mean 'index'? See motionaware prepare --help"
    >>> wrong_subcommand(["prepare", "index", "csv", "--root", "data"])
    """
    command, *rest = [argument for argument in arguments if argument != "--traceback"] or [""]
    if command != "prepare" or not rest or rest[0] in _SUBCOMMANDS:
        return None
    from motionaware.data.annotations.table import KINDS

    candidates = rest if rest[0].startswith("-") else rest[:1]  # options may precede the kind
    if not any(argument in KINDS for argument in candidates):
        if rest[0] in ("-h", "--help"):
            return None
        name = "" if rest[0].startswith("-") else rest[0]
        problem = f"command 'prepare {name}' is unknown" if name else "prepare needs a sub-command"
        hint = did_you_mean(
            name, [*_SUBCOMMANDS, *KINDS] if name else [], then="see motionaware prepare --help"
        )
        return f"{problem}; {hint}"
    renamed = [
        f"--out{argument.removeprefix('--shards')}"
        if argument.partition("=")[0] == "--shards"
        else argument
        for argument in rest
    ]
    subcommand = "index" if renamed == rest else "shards"
    new = shlex.join(["motionaware", "prepare", subcommand, *renamed])
    return f"`prepare KIND` has been replaced; run: {new}"


# ------------------------------------------------------------------------------------- motionpairs


def _add_motionpairs(subcommands: Subparsers) -> None:
    parser = subcommands.add_parser(
        "motionpairs",
        help="write the synthetic data set MotionPairs as video files",
        description="Synthesize MotionPairs and write it as OUT/SPLIT/CLASS/NUMBER.mp4, which "
        "data.kind folder reads. Files that exist are kept.",
    )
    parser.set_defaults(function=run_prepare_motionpairs)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    for name, default, meaning in (
        ("train", 1200, "training clips"),
        ("val", 240, "validation clips"),
        ("test", 240, "test clips"),
        ("frames", 8, "frames per clip"),
        ("size", 64, "height and width in pixels"),
        ("seed", 0, "seed of the random draws"),
    ):
        parser.add_argument(
            f"--{name}",
            type=int,
            default=default,
            metavar="N",
            help=f"{meaning} (default: %(default)s)",
        )


def run_prepare_motionpairs(args: argparse.Namespace) -> int:
    """Write MotionPairs as video files."""
    from motionaware.apps.prepare_motionpairs import prepare_motionpairs

    num_written = prepare_motionpairs(
        args.out,
        num_clips={"train": args.train, "val": args.val, "test": args.test},
        num_frames=args.frames,
        image_size=args.size,
        seed=args.seed,
        progress=show_progress(),
    )
    print_line(f"{count(num_written, 'video')} written to {args.out}")
    print_line(f"next: motionaware doctor {shlex.quote(args.out)}")
    return 0


# ------------------------------------------------------------------------------------------- split


def _add_split(subcommands: Subparsers) -> None:
    parser = subcommands.add_parser(
        "split",
        help="split the videos of class folders into training, validation and test",
        description="List the videos ROOT/CLASS/VIDEO in train.csv, val.csv and test.csv, which "
        "data.kind csv reads. The split is random and stratified by class. No video is moved.",
    )
    parser.set_defaults(function=run_prepare_split)
    parser.add_argument("--root", required=True, metavar="DIR", help="folder of the class folders")
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the videos for validation (default: %(default)s)",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the videos for the test; 0 writes no test.csv (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the random split (default: %(default)s)",
    )
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help="regular expression that matches the source of a video, such as a person, in "
        "CLASS/VIDEO; all videos of one source come into the same split (default: none)",
    )


def run_prepare_split(args: argparse.Namespace) -> int:
    """Split the videos of class folders."""
    from motionaware.apps.prepare_split import prepare_split

    prepared = prepare_split(
        args.root,
        val_share=args.val_share,
        test_share=args.test_share,
        seed=args.seed,
        group=args.group,
    )
    for split, counts in prepared.counts.items():
        videos, classes = count(counts.total(), "video"), count(len(counts), "class")
        print_line(f"  {split:<12} {videos} of {classes}")
    if prepared.ignored:
        number, first = count(len(prepared.ignored), "file"), prepared.ignored[0]
        print_error(f"ignored {number} without the name of a video, first {first}")
    print_line(f"lists written to {args.root}")
    root = shlex.quote(args.root)
    print_line(f"next: motionaware doctor {root} --kind csv")
    print_line(f"then: motionaware train {_RECIPE} --data.kind csv --data.root {root}")
    if not Path(_RECIPE).is_file():
        print_line(f"      {_RECIPE} is in the source repository; any other recipe works too")
    return 0


# ------------------------------------------------------------------------------------------- index


def _add_index(subcommands: Subparsers) -> None:
    parser = subcommands.add_parser(
        "index",
        help="check every video of a data set and write an index",
        description="Open every video of a data set, list those that are missing or unreadable, "
        "and write an index, from which a run starts quickly. With --frames-to, also decode all "
        "videos to JPEG files once. The exit code is 1 if any video is missing or unreadable.",
    )
    parser.set_defaults(function=run_prepare_index)
    _add_kind_and_root(parser)
    parser.add_argument(
        "--frames-to",
        metavar="DIR",
        help="write the frames of every video as JPEG files below this folder, and index that "
        "(default: write no frames)",
    )
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="with --frames-to, scale frames down to this short side (default: original size)",
    )
    add_workers(parser)
    add_allow_broken(parser)


def _add_kind_and_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", metavar="KIND", help="kind of the data set, such as folder or csv; see docs/data.md"
    )
    parser.add_argument("--root", required=True, metavar="DIR", help="folder of the data set")


def run_prepare_index(args: argparse.Namespace) -> int:
    """Check and index a data set, and write its frames if asked to."""
    from motionaware.apps.prepare_index import prepare_index

    prepared = prepare_index(
        args.kind,
        args.root,
        frames_to=args.frames_to,
        short_side=args.short_side,
        num_workers=args.workers,
        progress=show_progress(),
    )
    for split, counts in prepared.counts.items():
        print_line(f"  {split:<12} " + ", ".join(f"{n} {noun}" for noun, n in counts.items()))
    _print_shared(prepared.shared)
    if prepared.unlisted:
        print_line(f"  no label     {len(prepared.unlisted)}, first {prepared.unlisted[0]}")
    if prepared.report is not None:
        print_error(f"missing or unreadable: {len(prepared.problems)}, listed in {prepared.report}")
    root = shlex.quote(str(prepared.root))
    print_line(f"{prepared.root} is indexed; next: --data.kind {args.kind} --data.root {root}")
    return 1 if prepared.problems and not args.allow_broken else 0


# ------------------------------------------------------------------------------------------ shards


def _add_shards(subcommands: Subparsers) -> None:
    parser = subcommands.add_parser(
        "shards",
        help="write a data set as tar files (WebDataset layout)",
        description="Write all videos of a data set to tar files, which data.kind shards reads. A "
        "data set without a fresh index is checked and indexed first; missing and unreadable "
        "videos are left out. The exit code is 1 if any video is left out. Shards of frames: run "
        "prepare index --frames-to first and give that folder as --root.",
    )
    parser.set_defaults(function=run_prepare_shards)
    _add_kind_and_root(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--shard-mib",
        type=float,
        default=64,
        metavar="MIB",
        help="size of a shard in MiB (default: %(default)s)",
    )
    add_workers(parser)
    add_allow_broken(parser)


def run_prepare_shards(args: argparse.Namespace) -> int:
    """Write a data set as shards."""
    from motionaware.apps.prepare_shards import prepare_shards

    prepared = prepare_shards(
        args.kind,
        args.root,
        args.out,
        shard_mib=args.shard_mib,
        num_workers=args.workers,
        progress=show_progress(),
    )
    for split, counts in prepared.counts.items():
        left_out = f", {counts['left_out']} of them left out" if counts["left_out"] else ""
        videos, shards = count(counts["videos"], "video"), count(counts["shards"], "shard")
        print_line(f"  {split:<12} {videos}{left_out}, {shards}")
    _print_shared(prepared.shared)
    num_left_out = sum(counts["left_out"] for counts in prepared.counts.values())
    if num_left_out:
        command = f"motionaware doctor {shlex.quote(args.root)} --kind {args.kind}"
        print_error(f"missing or unreadable, left out: {num_left_out}; for the names run {command}")
    print_line(f"{args.out} is ready; next: --data.kind shards --data.root {shlex.quote(args.out)}")
    return 1 if num_left_out and not args.allow_broken else 0


def _print_shared(shared: "Overlap") -> None:
    for (first, second), number in shared.items():
        print_line(f"  shared       {first} and {second} both list {count(number, 'video')}")
