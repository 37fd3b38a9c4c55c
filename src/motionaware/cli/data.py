"""The verbs prepare and doctor."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from motionaware.cli.say import prints_notes, say_error, show_progress
from motionaware.errors import UsageError
from motionaware.messages import count

if TYPE_CHECKING:
    from motionaware.data.annotations.split import Overlap

OF_MOTIONPAIRS = {"train": 1200, "val": 240, "test": 240, "frames": 8, "size": 64, "seed": 0}
_OF_DRAWING = {"out", *OF_MOTIONPAIRS}
_OF_SPLIT = {"root", "val_share", "test_share", "seed", "group"}
_OF_OTHERS = {"root", "frames_to", "short_side", "workers", "allow_broken", "shards", "shard_mib"}
_RECIPE = "recipes/folder.yaml"


def run_prepare(args: argparse.Namespace) -> int:
    """Check and index a data set, list what to train on, or write the embedded data set."""
    special = {"motionpairs": (_OF_DRAWING, _motionpairs), "split": (_OF_SPLIT, _split)}
    others = _OF_OTHERS, _sharded if "shards" in args else _indexed
    options, work = special.get(args.kind, others)
    other = (_OF_DRAWING | _OF_SPLIT | _OF_OTHERS) - options
    stray = sorted(f"--{key.replace('_', '-')}" for key in other & vars(args).keys())
    if stray:
        raise UsageError(f"prepare {args.kind} has no {', '.join(stray)}; see prepare --help")
    folder = "out" if options is _OF_DRAWING else "root"
    if folder not in args:
        raise UsageError(f"prepare {args.kind} needs its folder; give --{folder} DIR")
    return work(args)


def _motionpairs(args: argparse.Namespace) -> int:
    from motionaware.apps.prepare_motionpairs import prepare

    given = argparse.Namespace(**OF_MOTIONPAIRS | vars(args))
    written = prepare(
        given.out,
        num_clips={"train": given.train, "val": given.val, "test": given.test},
        num_frames=given.frames,
        image_size=given.size,
        seed=given.seed,
        progress=show_progress(),
    )
    print(f"{written} videos written below {given.out}")
    print(f"next: motionaware doctor {shlex.quote(given.out)}")
    return 0


def _split(args: argparse.Namespace) -> int:
    from motionaware.apps.prepare_split import prepare_split

    options = {key: value for key, value in vars(args).items() if key in _OF_SPLIT - {"root"}}
    listed = prepare_split(args.root, **options)
    for split, found in listed.counts.items():
        print(f"  {split:<12} {count(found.total(), 'video')} of {count(len(found), 'class')}")
    if listed.left_out:
        number = len(listed.left_out)
        say_error(f"no videos by their names, left out: {number}, first {listed.left_out[0]}")
    print(f"lists written to {args.root}")
    root = shlex.quote(args.root)
    print(f"next: motionaware doctor {root} --kind csv")
    print(f"then: motionaware train {_RECIPE} --data.kind csv --data.root {root}")
    if not Path(_RECIPE).is_file():
        print(f"      {_RECIPE} comes with the source; any recipe of yours will do in its place")
    return 0


def _indexed(args: argparse.Namespace) -> int:
    from motionaware.apps.prepare_index import prepare_data

    if "shard_mib" in args:
        raise UsageError("--shard-mib is of shards; give --shards DIR too")
    names = {"frames_to": "frames_to", "short_side": "short_side", "workers": "num_workers"}
    options = {name: getattr(args, key) for key, name in names.items() if key in args}
    found = prepare_data(args.kind, args.root, progress=show_progress(), **options)
    for split, counts in found.counts.items():
        print(f"  {split:<12} " + ", ".join(f"{number} {what}" for what, number in counts.items()))
    _tell_shared(found.shared)
    if found.unlisted:
        print(f"  no label     {len(found.unlisted)}, first {found.unlisted[0]}")
    if found.report is not None:
        say_error(f"absent or broken: {len(found.problems)}; {found.report} lists them")
    root = shlex.quote(str(found.root))
    print(f"{found.root} is indexed; next: --data.kind {args.kind} --data.root {root}")
    return 1 if found.problems and "allow_broken" not in args else 0


def _sharded(args: argparse.Namespace) -> int:
    from motionaware.apps.prepare_shards import prepare_shards

    if "frames_to" in args or "short_side" in args:
        raise UsageError(
            "--shards takes videos as they are; for shards of frames, prepare with --frames-to "
            "first, and give that folder as --root"
        )
    names = {"shard_mib": "shard_mib", "workers": "num_workers"}
    options = {name: getattr(args, key) for key, name in names.items() if key in args}
    found = prepare_shards(args.kind, args.root, args.shards, progress=show_progress(), **options)
    for split, counts in found.counts.items():
        left = f", {counts['left_out']} of them left out" if counts["left_out"] else ""
        videos, shards = count(counts["videos"], "video"), count(counts["shards"], "shard")
        print(f"  {split:<12} {videos}{left}, {shards}")
    _tell_shared(found.shared)
    left_out = sum(counts["left_out"] for counts in found.counts.values())
    if left_out:
        names = f"motionaware doctor {shlex.quote(args.root)} --kind {args.kind} names them"
        say_error(f"left out, absent or broken: {left_out}; {names}")
    root = shlex.quote(args.shards)
    print(f"{args.shards} is ready; next: --data.kind shards --data.root {root}")
    return 1 if left_out and "allow_broken" not in args else 0


def _tell_shared(shared: "Overlap") -> None:
    for (one, other), number in shared.items():
        print(f"  shared       {one} and {other} both list {count(number, 'video')}")


@prints_notes()
def run_doctor(args: argparse.Namespace) -> int:
    """Check the installation and a data set."""
    from motionaware.apps.doctor import doctor

    checkup = doctor(args.data, kind=args.kind, progress=show_progress())
    for about, fact in checkup.facts:
        print(f"  {about:<12} {fact}")
    for fault in checkup.faults:
        print(f"! {fault}")
    num_faults = len(checkup.faults)
    print(f"{num_faults or 'no'} {'fault' if num_faults < 2 else 'faults'} found")
    return 1 if checkup.faults else 0
