"""The verbs quickstart, train and evaluate."""

import argparse
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motionaware.cli.say import prints_notes, say_error, show_progress
from motionaware.errors import UsageError
from motionaware.messages import count

if TYPE_CHECKING:
    from motionaware.engine.config import Recipe
    from motionaware.engine.dataset_factory import SplitCheck
    from motionaware.engine.run_folder import RunFolder


def run_quickstart(args: argparse.Namespace) -> int:
    """Train frame averaging and M2A side by side."""
    from motionaware.apps.quickstart import BASELINE, CHALLENGER, ORDER_BLIND_CEILING, quickstart

    found = quickstart(args.out, seed=args.seed, progress=show_progress())
    print("MotionPairs, 12 classes in 6 pairs, each its partner played backwards; test top-1:\n")
    print(f"  {BASELINE:<20} {found.reports[BASELINE].top1:6.1%}   frames averaged (TSN)")
    print(f"  {'':<20} {ORDER_BLIND_CEILING:6.1%}   the most that whoever ignores order can reach")
    print(f"  {CHALLENGER:<20} {found.reports[CHALLENGER].top1:6.1%}   Motion Aware Attention\n")
    for temporal, prediction in found.predictions.items():
        name, probability = prediction.classes[0]
        print(f"  {found.video} shows {found.right_class}; {temporal}: {name} ({probability:.0%})")
    print(f"\nPicture: {found.picture}\nTook {found.seconds:.0f} s. Next, on your own videos:")
    print(f"  motionaware predict {found.checkpoints[CHALLENGER]} {found.video}")
    return 0


@prints_notes()
def run_train(args: argparse.Namespace) -> int:
    """Train a model from a recipe."""
    from motionaware.engine.config_io import describe_keys, read_recipe

    if args.keys:
        print(describe_keys())
        return 0
    if args.recipe is not None and args.resume is not None:
        raise UsageError(
            f"both the recipe {args.recipe} and --resume {args.resume} were given; a resumed run "
            "has its recipe in its folder: leave one of the two out"
        )
    if args.resume and args.run_folder:
        raise UsageError("a resumed run keeps its folder; give --resume RUN without --run")
    if args.resume is not None:
        folder, recipe = Path(args.resume), None
    elif args.recipe is None:
        raise UsageError("give a recipe to start a run from, or --resume RUN to continue a run")
    else:
        folder = Path(args.run_folder or Path("runs") / Path(args.recipe).stem)
        recipe = read_recipe(args.recipe, args.overrides)

    from motionaware.apps.curves import CurvesPicture
    from motionaware.engine.dataset_factory import check_splits, open_source
    from motionaware.engine.early_stopping import is_over, stopped_early
    from motionaware.engine.paths import with_absolute_paths
    from motionaware.engine.run_folder import RunFolder
    from motionaware.engine.train import train
    from motionaware.errors import VideoError

    files = RunFolder(folder)
    recipe = recipe or files.recipe(args.overrides)
    curves = CurvesPicture(files)
    source = open_source(with_absolute_paths(recipe).data)
    test = check_splits(source)
    history = files.history() if args.resume else []
    if args.resume and recipe == files.recipe() and is_over(history, recipe.train):
        reason = stopped_early(history, recipe.train)
        print(f"{folder} is finished: {reason}" if reason else _finished(files, recipe))
        curves.update(last=True)
        return _say_next(files, test)
    _note_shared_videos(test, files)

    def log(line: str) -> None:
        print(line, flush=True)
        curves.update()

    try:
        report = train(
            recipe,
            files,
            resume=bool(args.resume),
            progress=show_progress(),
            log=log,
            source=source,
        )
    except VideoError as error:
        raise VideoError(
            f"{error}. What was trained is saved: mend that video and go on with motionaware train "
            f"--resume {folder}; a run begun with --data.on_error skip leaves it out"
        ) from error
    finally:  # for a run that was stopped, too
        curves.update(last=True)
    print(f"validation, last epoch: {report.summary()}")
    num_skipped = files.count_skipped()
    if num_skipped:
        print(f"skipped: {count(num_skipped, 'video')}, listed in {files.skipped}")
    print(f"log: {folder / 'log.csv'}")
    print(f"note: {curves.problem}" if curves.problem else f"curves: {curves.path}")
    return _say_next(files, test)


def _note_shared_videos(test: "SplitCheck", files: "RunFolder") -> None:
    for split, number in test.num_in_train.items():
        print(
            f"note: train and {split} share {count(number, 'video')}: they are learnt by heart, so "
            f"accuracy on {split} is flattered; take them out of one of the two"
        )
    if test.num_val_in_test:
        print(
            f"note: validation and test share {count(test.num_val_in_test, 'video')}: "
            f"{files.best.name} is chosen on the test, so judge {files.last.name}"
        )


def _finished(files: "RunFolder", recipe: "Recipe") -> str:
    """Say that a run is finished, and how to train more epochs."""
    from motionaware.engine.resuming import can_be_extended, new_run_command

    epochs = recipe.train.epochs
    more = (
        f"motionaware train --resume {files.path} --train.epochs {epochs + 1}, or more"
        if can_be_extended(recipe.optim)
        else f"its learning rate has come to its end ({recipe.optim.schedule}); start a new run "
        f"from its weights: {new_run_command(files)}"
    )
    return f"{files.path} is finished, after {count(epochs, 'epoch')}; for more: {more}"


def _say_next(files: "RunFolder", test: "SplitCheck") -> int:
    print(f"best on validation: {files.best}")
    if test.num_val_in_test:
        print(f"of the last epoch, for the test: {files.last}")
    evaluated = files.last if test.num_val_in_test else files.best
    words = [
        "motionaware",
        "evaluate",
        str(evaluated),
        *([] if test.has_test else ["--split", "val"]),
    ]
    if ":" in files.recipe().model.temporal:
        words.append("--allow-code")
    print(f"next: {shlex.join(words)}")
    return 0


@prints_notes()
def run_evaluate(args: argparse.Namespace) -> int:
    """Judge a checkpoint on a data set."""
    from motionaware.engine.evaluate import evaluate, pick_device
    from motionaware.engine.metrics import note_lines
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code="allow_code" in args).to(pick_device())
    recipe = recipe_on_data(model.recipe, args.checkpoint, kind=args.kind, root=args.root)
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
        print(json.dumps(report.to_dict()))
    else:
        print(f"{args.split}: {report.summary()}")
        for line in note_lines(report.notes):
            print(line)
        for name, share in report.per_class.items():
            print(f"  {'  none ' if share is None else f'{share:7.1%}'}  {name}")
    return 0


def recipe_on_data(
    recipe: Mapping[str, Any], checkpoint: str, *, kind: str | None, root: str | None
) -> "Recipe":
    """The recipe that a checkpoint carries, on its own data or on those asked for.

    Raises:
        ValueError: It does not follow which data are meant, or where they are.
    """
    from motionaware.engine.config_io import recipe_from_dict
    from motionaware.engine.paths import locate_data

    trained = {key: value for key, value in recipe.items() if key != "trained"}
    found = recipe_from_dict(trained, source=checkpoint)
    if not trained and not root:
        raise UsageError(f"{checkpoint} does not say what data it was trained on; give --root")
    if root and not kind and found.data.kind == "motionpairs":
        raise UsageError(
            f"{checkpoint} was trained on motionpairs, which is drawn, not read; say of what "
            f"kind {root} is: --kind folder or --kind csv, for example"
        )
    data = replace(found.data, kind=kind or found.data.kind, root=root or found.data.root)
    if root is None:
        data = locate_data(data, checkpoint=checkpoint, trained=recipe.get("trained", {}))
        if data.root != found.data.root:
            say_error(
                f"note: data.root {found.data.root} is not there; {data.root} is taken, which is "
                "at the same place relative to the run folder"
            )
    return replace(found, data=data)
