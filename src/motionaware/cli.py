"""Words -> the functions of apps and engine. The only file that prints."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from motionaware.engine.allocation import keep_freed_memory
from motionaware.errors import is_expected, one_line
from motionaware.verbs import make_parser

# Nothing heavy is imported here: `motionaware --help` answers at once. Each verb imports its own.

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; return the process's exit code."""
    # Two threads that spin on a busy machine can be slower than one; said before torch comes in.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    parser = make_parser()
    words, overrides = _part_overrides(sys.argv[1:] if words is None else words)
    args, rest = parser.parse_known_args(words)
    args.overrides = overrides + rest
    if args.overrides and args.verb != "train":
        parser.error(f"unrecognized arguments: {' '.join(args.overrides)}")
    try:
        return RUN[args.verb](args)
    except KeyboardInterrupt:
        _say_error("interrupted")
        return INTERRUPTED
    except Exception as error:
        if args.traceback or not is_expected(error):
            raise
        _say_error(one_line(error))
        return INTERRUPTED if type(error).__name__ == "TrainingInterrupted" else 1


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


def _say_error(words: str) -> None:
    print(f"motionaware: {words}", file=sys.stderr)


def _quickstart(args: argparse.Namespace) -> int:
    from motionaware.apps.quickstart import BASELINE, CHALLENGER, ORDER_BLIND_CEILING, quickstart

    found = quickstart(args.out, seed=args.seed, progress=_progress())
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


def _train(args: argparse.Namespace) -> int:
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

    from motionaware.engine.run_folder import RunFolder
    from motionaware.engine.train import train

    files = RunFolder(folder)
    report = train(
        recipe or files.recipe(),
        folder,
        resume=bool(args.resume),
        progress=_progress(),
        tell=lambda line: print(line, flush=True),
    )
    print(f"validation, last epoch: {report.summary()}")
    print(f"log: {folder / 'log.csv'}\nbest on validation: {files.best}")
    print(f"next: motionaware evaluate {files.best}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from motionaware.engine.config import recipe_from_dict
    from motionaware.engine.evaluate import evaluate, pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint).to(pick_device())
    trained = {key: value for key, value in model.recipe.items() if key != "trained"}
    recipe = recipe_from_dict(trained, source=args.checkpoint)
    if not trained and not args.root:
        raise ValueError(f"{args.checkpoint} does not say what data it was trained on; give --root")
    if args.root and not args.kind and recipe.data.kind == "motionpairs":
        raise ValueError(
            f"{args.checkpoint} was trained on motionpairs, which is drawn, not read; say of what "
            f"kind {args.root} is: --kind folder or --kind csv, for example"
        )
    data = replace(
        recipe.data, kind=args.kind or recipe.data.kind, root=args.root or recipe.data.root
    )
    views = recipe.eval.num_views if args.views is None else args.views
    crops = recipe.eval.num_crops if args.crops is None else args.crops
    report = evaluate(
        model,
        data,
        split=args.split,
        config=replace(recipe.eval, num_views=views, num_crops=crops),
        progress=_progress(),
    )
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print(f"{args.split}: {report.summary()}")
        for name, share in report.per_class.items():
            print(f"  {'  none ' if share is None else f'{share:7.1%}'}  {name}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from motionaware.apps.predict import predict
    from motionaware.data.video import VideoError
    from motionaware.engine.evaluate import pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint).to(pick_device())
    failed = 0
    for video in args.videos:
        try:
            prediction = predict(model, video, num_clips=args.clips, top_k=args.top)
        except VideoError as error:  # the other videos are still worth their answers
            _say_error(str(error))
            failed += 1
            continue
        print(json.dumps(asdict(prediction)) if args.json else prediction.table())
    if failed and len(args.videos) > 1:
        _say_error(f"{failed} of {len(args.videos)} videos could not be read")
    return 1 if failed else 0


def _stream(args: argparse.Namespace) -> int:
    from motionaware.apps.stream import stream
    from motionaware.engine.evaluate import pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint).to(pick_device())
    moments = stream(
        model, args.source, fps=args.fps, drop=args.drop, top_k=args.top, tell=_say_error
    )
    for moment in moments:
        if args.json:
            print(json.dumps(asdict(moment)), flush=True)
            continue
        when = f"frame {moment.frame}" if moment.seconds is None else f"{moment.seconds:.2f} s"
        classes = "   ".join(f"{share:6.1%}  {name}" for name, share in moment.classes)
        print(f"{when:>12}  {classes}", flush=True)
    return 0


def _profile(args: argparse.Namespace) -> int:
    from motionaware.apps.profile import profile, profile_table
    from motionaware.apps.profile_sites import profile_sites, sites_table
    from motionaware.clip import ClipSpec
    from motionaware.models.checkpoint import load
    from motionaware.models.recognizer import create_model

    if Path(args.model).is_file():
        model = load(args.model)
    else:
        clip = ClipSpec(num_frames=args.frames, image_size=args.size)
        model = create_model(
            args.model,
            temporal=args.temporal,
            num_classes=174,
            num_frames=args.frames,
            clip=clip,
            where=args.where,
            stages=args.stages,
            every=args.every,
        )
    if args.sites:
        sites = profile_sites(model)
        print(json.dumps([asdict(site) for site in sites]) if args.json else sites_table(sites))
        return 0
    found = profile(model, batch_size=args.batch, num_threads=args.threads)
    print(json.dumps(asdict(found)) if args.json else profile_table(found))
    return 0


_OF_MOTIONPAIRS = {"train": 1200, "val": 240, "test": 240, "frames": 8, "size": 64, "seed": 0}


def _prepare(args: argparse.Namespace) -> int:
    drawn = args.kind == "motionpairs"
    folder = "out" if drawn else "root"
    other = {"out", *_OF_MOTIONPAIRS}
    if drawn:
        other = {"root", "frames_to", "short_side", "workers", "allow_broken"}
    stray = sorted(f"--{key.replace('_', '-')}" for key in other & vars(args).keys())
    if stray:
        raise ValueError(f"prepare {args.kind} has no {', '.join(stray)}; see prepare --help")
    if folder not in args:
        raise ValueError(f"prepare {args.kind} needs its folder; give --{folder} DIR")
    return _prepare_motionpairs(args) if drawn else _prepare_data(args)


def _prepare_motionpairs(args: argparse.Namespace) -> int:
    from motionaware.apps.prepare import prepare

    given = argparse.Namespace(**_OF_MOTIONPAIRS | vars(args))
    written = prepare(
        given.out,
        num_clips={"train": given.train, "val": given.val, "test": given.test},
        num_frames=given.frames,
        image_size=given.size,
        seed=given.seed,
        progress=_progress(),
    )
    print(f"{written} videos written below {given.out}")
    print(f"next: motionaware doctor {given.out}")
    return 0


def _prepare_data(args: argparse.Namespace) -> int:
    from motionaware.apps.prepare_data import prepare_data

    names = {"frames_to": "frames_to", "short_side": "short_side", "workers": "num_workers"}
    options = {name: getattr(args, key) for key, name in names.items() if key in args}
    found = prepare_data(args.kind, args.root, progress=_progress(), **options)
    for split, counts in found.counts.items():
        print(f"  {split:<12} " + ", ".join(f"{number} {what}" for what, number in counts.items()))
    if found.unlisted:
        print(f"  no label     {len(found.unlisted)}, first {found.unlisted[0]}")
    if found.report is not None:
        _say_error(f"absent or broken: {len(found.problems)}; {found.report} lists them")
    print(f"{found.root} is indexed; next: set data.kind {args.kind}, data.root {found.root}")
    return 1 if found.problems and "allow_broken" not in args else 0


def _doctor(args: argparse.Namespace) -> int:
    from motionaware.apps.doctor import doctor

    checkup = doctor(args.data, kind=args.kind, progress=_progress())
    for about, fact in checkup.facts:
        print(f"  {about:<12} {fact}")
    for fault in checkup.faults:
        print(f"! {fault}")
    num_faults = len(checkup.faults)
    print(f"{num_faults or 'no'} {'fault' if num_faults < 2 else 'faults'} found")
    return 1 if checkup.faults else 0


def _progress() -> bool:
    """Bars are for people: show them where someone is watching."""
    return sys.stderr.isatty()


RUN = {
    "quickstart": _quickstart,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "stream": _stream,
    "profile": _profile,
    "prepare": _prepare,
    "doctor": _doctor,
}
