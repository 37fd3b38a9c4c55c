"""The commands quickstart, train and evaluate."""

import argparse
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motionaware.cli.options import Subparsers, add_allow_code, add_checkpoint, add_json
from motionaware.cli.output import mute_video_log, print_error, print_line, show_progress
from motionaware.errors import UsageError
from motionaware.messages import count

if TYPE_CHECKING:
    from motionaware.data.source import VideoSource
    from motionaware.engine.config import Recipe
    from motionaware.engine.dataset_factory import SplitCheck
    from motionaware.engine.run_folder import RunFolder
    from motionaware.report.run_curves import CurvesPicture


# -------------------------------------------------------------------------------------- quickstart


def add_quickstart_parser(commands: Subparsers) -> None:
    """Add `motionaware quickstart`."""
    parser = commands.add_parser(
        "quickstart",
        help="train a baseline and M2A side by side, in minutes",
        description="Train a small network on the synthetic data set MotionPairs twice, with frame "
        "averaging and with M2A; evaluate both on the test clips; draw the attention of M2A.",
    )
    parser.set_defaults(function=run_quickstart)
    parser.add_argument(
        "--out",
        default="quickstart",
        metavar="DIR",
        help="folder to write to (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of weights, order and dropout (default: %(default)s)",
    )


def run_quickstart(args: argparse.Namespace) -> int:
    """Train frame averaging and M2A side by side."""
    from motionaware.apps.quickstart import BASELINE, CHALLENGER, ORDER_BLIND_CEILING, quickstart

    result = quickstart(
        args.out,
        seed=args.seed,
        progress=show_progress(),
        log=None if show_progress() else print_line,
    )
    rows = (
        (BASELINE, result.reports[BASELINE].top1, "frame averaging (TSN)"),
        ("", ORDER_BLIND_CEILING, "upper bound for a model that ignores frame order"),
        (CHALLENGER, result.reports[CHALLENGER].top1, "Motion Aware Attention"),
    )
    print_line("MotionPairs: 12 classes in 6 pairs, each the other played backwards; test top-1:\n")
    for temporal, top1, meaning in rows:
        print_line(f"  {temporal:<20} {top1:6.1%}   {meaning}")
    print_line()
    for temporal, prediction in result.predictions.items():
        name, probability = prediction.classes[0]
        predicted = f"{temporal}: {name} ({probability:.0%})"
        print_line(f"  {result.video} shows {result.true_class}; {predicted}")
    print_line(
        f"\nPicture: {result.picture}\nTook {result.seconds:.0f} s. Next, on your own videos:"
    )
    print_line(f"  motionaware predict {result.checkpoints[CHALLENGER]} {result.video}")
    return 0


# ------------------------------------------------------------------------------------------- train


def add_train_parser(commands: Subparsers) -> None:
    """Add `motionaware train`."""
    parser = commands.add_parser(
        "train",
        help="train a model from a recipe",
        description="Train a model from a recipe. Any key of the recipe can be overridden by its "
        "dotted name, for example --train.epochs 5 --model.temporal m2a,tsm.",
    )
    parser.set_defaults(function=run_train)
    parser.add_argument("recipe", nargs="?", help="YAML file; see recipes/")
    parser.add_argument(
        "--run", dest="run_folder", metavar="DIR", help="folder of the run (default: runs/RECIPE)"
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="continue the run in this folder; with --train.epochs N, extend it to N epochs",
    )
    parser.add_argument("--keys", action="store_true", help="explain all keys of a recipe and exit")


@mute_video_log()
def run_train(args: argparse.Namespace) -> int:
    """Train a model from a recipe, or resume a run."""
    from motionaware.engine.config_io import describe_keys, read_recipe

    if args.keys:
        print_line(describe_keys())
        return 0
    _check_train_arguments(args)
    if args.resume is None:
        folder = Path(args.run_folder or Path("runs") / Path(args.recipe).stem)
        recipe = read_recipe(args.recipe, args.overrides)
    else:
        folder, recipe = Path(args.resume), None

    from motionaware.engine.dataset_factory import check_splits, open_source
    from motionaware.engine.early_stopping import is_over, stopped_early
    from motionaware.engine.paths import with_absolute_paths
    from motionaware.engine.run_folder import RunFolder
    from motionaware.report.run_curves import CurvesPicture

    run = RunFolder(folder)
    recipe = recipe or run.recipe(args.overrides)
    curves = CurvesPicture(run)
    source = open_source(with_absolute_paths(recipe).data)
    splits = check_splits(source)
    history = run.history() if args.resume else []
    if args.resume and recipe == run.recipe() and is_over(history, recipe.train):
        reason = stopped_early(history, recipe.train)
        print_line(f"{folder} is finished: {reason}" if reason else _finished(run, recipe))
        curves.update(last=True)
    else:
        _print_shared_videos(splits, run)
        _train(recipe, run, curves, source, resume=bool(args.resume))
    _print_next(run, splits)
    return 0


def _check_train_arguments(args: argparse.Namespace) -> None:
    if args.recipe is not None and args.resume is not None:
        raise UsageError(
            f"both the recipe {args.recipe} and --resume {args.resume} were given; a resumed run "
            "has its recipe in its folder: leave one of the two out"
        )
    if args.resume and args.run_folder:
        raise UsageError("a resumed run keeps its folder; give --resume RUN without --run")
    if args.recipe is None and args.resume is None:
        raise UsageError("give a recipe to start a run from, or --resume RUN to continue a run")


def _print_shared_videos(splits: "SplitCheck", run: "RunFolder") -> None:
    for split, number in splits.num_in_train.items():
        print_line(
            f"note: train and {split} share {count(number, 'video')}, so accuracy on {split} is "
            "too high; remove them from one of the two"
        )
    if splits.num_val_in_test:
        print_line(
            f"note: validation and test share {count(splits.num_val_in_test, 'video')}: "
            f"{run.best.name} is selected on test videos, so evaluate {run.last.name}"
        )


def _train(
    recipe: "Recipe",
    run: "RunFolder",
    curves: "CurvesPicture",
    source: "VideoSource",
    *,
    resume: bool,
) -> None:
    from motionaware.engine.train import train
    from motionaware.errors import VideoError

    def log(line: str) -> None:
        print_line(line)
        curves.update()

    try:
        report = train(recipe, run, resume=resume, progress=show_progress(), log=log, source=source)
    except VideoError as error:
        raise VideoError(
            f"{error}. The run is saved: repair the video and continue with motionaware train "
            f"--resume {run.path}, or add --data.on_error skip to leave it out"
        ) from error
    finally:  # also for a run that was stopped
        curves.update(last=True)
    print_line(f"validation, last epoch: {report.summary()}")
    num_skipped = run.count_skipped()
    if num_skipped:
        print_line(f"skipped: {count(num_skipped, 'video')}, listed in {run.skipped}")
    print_line(f"log: {run.path / 'log.csv'}")
    print_line(f"note: {curves.problem}" if curves.problem else f"curves: {curves.path}")


def _finished(run: "RunFolder", recipe: "Recipe") -> str:
    """Return a sentence that a run is finished, and how to train for more epochs."""
    from motionaware.engine.resume_check import can_be_extended, new_run_command

    epochs = recipe.train.epochs
    more = (
        f"motionaware train --resume {run.path} --train.epochs {epochs + 1}, or more"
        if can_be_extended(recipe.optim)
        else f"its learning rate schedule has ended ({recipe.optim.schedule}); start a new run "
        f"from its weights: {new_run_command(run)}"
    )
    return f"{run.path} is finished, after {count(epochs, 'epoch')}; for more: {more}"


def _print_next(run: "RunFolder", splits: "SplitCheck") -> None:
    print_line(f"best on validation: {run.best}")
    if splits.num_val_in_test:
        print_line(f"last epoch, for the test: {run.last}")
    checkpoint = run.last if splits.num_val_in_test else run.best
    split = [] if splits.has_test else ["--split", "val"]
    code = ["--allow-code"] if ":" in run.recipe().model.temporal else []
    print_line(f"next: {shlex.join(['motionaware', 'evaluate', str(checkpoint), *split, *code])}")


# ---------------------------------------------------------------------------------------- evaluate


def add_evaluate_parser(commands: Subparsers) -> None:
    """Add `motionaware evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a checkpoint on a data set",
        description="Print top-1, top-5 and the top-1 of each class on a split of the data set of "
        "training, or of another data set.",
    )
    parser.set_defaults(function=run_evaluate)
    add_checkpoint(parser)
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "val", "test"),
        help="split of the data set (default: %(default)s)",
    )
    parser.add_argument("--kind", help="kind of the data set (default: that of training)")
    parser.add_argument(
        "--root", metavar="DIR", help="folder of the data set (default: that of training)"
    )
    parser.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="clips per video (default: eval.num_views of the recipe)",
    )
    parser.add_argument(
        "--crops",
        type=int,
        metavar="N",
        help="crops per clip, 1 or 3 (default: eval.num_crops of the recipe)",
    )
    add_allow_code(parser)
    add_json(parser)


@mute_video_log()
def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate a checkpoint on a data set."""
    from motionaware.engine.evaluate import evaluate, pick_device
    from motionaware.engine.metrics import note_lines
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code=args.allow_code).to(pick_device())
    recipe = recipe_for_data(model.recipe, args.checkpoint, kind=args.kind, root=args.root)
    views = recipe.eval.num_views if args.views is None else args.views
    crops = recipe.eval.num_crops if args.crops is None else args.crops
    report = evaluate(
        model,
        recipe.data,
        split=args.split,
        config=replace(recipe.eval, num_views=views, num_crops=crops),
        progress=show_progress(),
    )
    if args.json:
        print_line(json.dumps(report.to_dict()))
        return 0
    print_line(f"{args.split}: {report.summary()}")
    for line in note_lines(report.notes):
        print_line(line)
    for name, share in report.per_class.items():
        print_line(f"  {'  none ' if share is None else f'{share:7.1%}'}  {name}")
    return 0


def recipe_for_data(
    recipe: Mapping[str, Any], checkpoint: str, *, kind: str | None, root: str | None
) -> "Recipe":
    """Return the recipe of a checkpoint, with another data set if `kind` or `root` is given.

    Args:
        recipe: The recipe that the checkpoint stores.
        checkpoint: Path of the checkpoint.
        kind: Kind of the data set; None keeps that of training.
        root: Folder of the data set; None keeps that of training.

    Raises:
        UsageError: The kind or the folder of the data set is unknown.
    """
    from motionaware.engine.config_io import recipe_from_dict
    from motionaware.engine.dataset_factory import open_source
    from motionaware.engine.paths import locate_data

    keys = {key: value for key, value in recipe.items() if key != "trained"}
    stored = recipe_from_dict(keys, source=checkpoint)
    if not keys and not root:
        raise UsageError(f"{checkpoint} does not say what data it was trained on; give --root")
    if root and not kind and open_source(stored.data).is_generated:
        raise UsageError(
            f"{checkpoint} was trained on motionpairs, which is synthesized, not read; give the "
            f"kind of {root}, for example --kind folder or --kind csv"
        )
    data = replace(stored.data, kind=kind or stored.data.kind, root=root or stored.data.root)
    if root is None:
        data = locate_data(data, checkpoint=checkpoint, trained=recipe.get("trained", {}))
        if data.root != stored.data.root:
            print_error(
                f"note: data.root {stored.data.root} does not exist; using {data.root}, which has "
                "the same path relative to the run folder"
            )
    return replace(stored, data=data)
