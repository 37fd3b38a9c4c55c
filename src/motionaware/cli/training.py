"""The verbs quickstart, train and evaluate."""

import argparse
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motionaware.apps.words import count
from motionaware.cli.say import say_error, show_progress

if TYPE_CHECKING:
    from motionaware.engine.config import Recipe
    from motionaware.engine.opening import HeldOut
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


def run_train(args: argparse.Namespace) -> int:
    """Train a model from a recipe."""
    from motionaware.engine.config import describe_keys, read_recipe

    if args.keys:
        print(describe_keys())
        return 0
    if (args.recipe is None) == (args.resume is None):
        raise ValueError("give either a recipe to start from, or --resume RUN to go on with a run")
    if args.resume and (args.overrides or args.run_folder):
        raise ValueError("a resumed run keeps its recipe and its folder; give --resume RUN alone")
    if args.resume:
        folder, recipe = Path(args.resume), None
    else:
        folder = Path(args.run_folder or Path("runs") / Path(args.recipe).stem)
        recipe = read_recipe(args.recipe, args.overrides)

    from motionaware.data.video import VideoError
    from motionaware.engine.opening import look_for_test
    from motionaware.engine.run_folder import RunFolder
    from motionaware.engine.train import train

    files = RunFolder(folder)
    recipe = recipe or files.recipe()
    test = look_for_test(recipe.data)
    if args.resume and files.num_epochs() == recipe.train.epochs:
        print(
            f"{folder} is finished, after {count(recipe.train.epochs, 'epoch')}; for more, begin a "
            "new run with a higher train.epochs"
        )
        return _say_next(files, test)
    for split, number in test.num_learnt.items():
        print(
            f"note: train and {split} share {count(number, 'video')}: they are learnt by heart, so "
            f"accuracy on {split} is flattered; take them out of one of the two"
        )
    if test.num_shared:
        print(
            f"note: validation and test share {count(test.num_shared, 'video')}: "
            f"{files.best.name} is chosen on the test, so judge {files.last.name}"
        )
    try:
        report = train(
            recipe,
            folder,
            resume=bool(args.resume),
            progress=show_progress(),
            tell=lambda line: print(line, flush=True),
        )
    except VideoError as error:
        raise VideoError(
            f"{error}. What was trained is saved: mend that video and go on with motionaware train "
            f"--resume {folder}; a run begun with --data.on_error skip leaves it out"
        ) from error
    print(f"validation, last epoch: {report.summary()}")
    num_skipped = files.count_skipped()
    if num_skipped:
        print(f"skipped: {count(num_skipped, 'video')}, listed in {files.skipped}")
    print(f"log: {folder / 'log.csv'}")
    return _say_next(files, test)


def _say_next(files: "RunFolder", test: "HeldOut") -> int:
    print(f"best on validation: {files.best}")
    if test.num_shared:
        print(f"of the last epoch, for the test: {files.last}")
    judged = files.last if test.num_shared else files.best
    words = ["motionaware", "evaluate", str(judged), *([] if test.exists else ["--split", "val"])]
    print(f"next: {shlex.join(words)}")
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Judge a checkpoint on a data set."""
    from motionaware.engine.evaluate import evaluate, pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint).to(pick_device())
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
    from motionaware.engine.config import recipe_from_dict
    from motionaware.engine.paths import locate_data

    trained = {key: value for key, value in recipe.items() if key != "trained"}
    found = recipe_from_dict(trained, source=checkpoint)
    if not trained and not root:
        raise ValueError(f"{checkpoint} does not say what data it was trained on; give --root")
    if root and not kind and found.data.kind == "motionpairs":
        raise ValueError(
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
