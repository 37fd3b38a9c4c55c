"""The verbs predict, visualize, stream and profile."""

import argparse
import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from motionaware.cli.say import prints_notes, say_error, show_progress
from motionaware.cli.training import recipe_on_data
from motionaware.errors import UsageError

_OF_VIDEO = ("sites", "shown_class", "clip", "layer", "fps")
_OF_DATA = ("split", "kind", "root")


@prints_notes()
def run_predict(args: argparse.Namespace) -> int:
    """Name what happens in videos."""
    from motionaware.apps.predict import predict
    from motionaware.engine.evaluate import pick_device
    from motionaware.errors import NonFiniteScores, VideoError
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code="allow_code" in args).to(pick_device())
    failed = 0
    for video in args.videos:
        try:
            prediction = predict(model, video, num_clips=args.clips, top_k=args.top)
        except (VideoError, NonFiniteScores) as error:  # the other videos may have answers
            say_error(str(error))
            failed += 1
            continue
        print(json.dumps(asdict(prediction)) if args.json else prediction.table())
    if failed and len(args.videos) > 1:
        say_error(f"{failed} of {len(args.videos)} videos have no prediction")
    return 1 if failed else 0


def run_visualize(args: argparse.Namespace) -> int:
    """Draw what a model looks at in a video, or measure its attention over a data set."""
    of_data = "saturation" in args
    stray = [key for key in (_OF_VIDEO if of_data else _OF_DATA) if key in args]
    if not of_data and "video" not in args:
        raise UsageError(
            "there is nothing to look at: give a VIDEO, or --saturation to measure a data set"
        )
    if stray or (of_data and "video" in args):
        options = ", ".join(f"--{key.replace('shown_', '')}" for key in stray)
        raise UsageError(
            f"{options or args.video} does not fit: give either a VIDEO, with --sites, --class, "
            "--clip, --layer, --fps, or --saturation, with --split, --kind, --root"
        )
    return _saturation(args) if of_data else _visualize(args)


@prints_notes()
def _visualize(args: argparse.Namespace) -> int:
    from motionaware.apps.visualize import visualize
    from motionaware.engine.evaluate import pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code="allow_code" in args).to(pick_device())
    options = {key: getattr(args, key) for key in ("out", *_OF_VIDEO) if key in args}
    drawn = visualize(model, args.video, **options)
    print(json.dumps(asdict(drawn)) if "json" in args else drawn.table())
    return 0


def _saturation(args: argparse.Namespace) -> int:
    from motionaware.engine.evaluate import pick_device
    from motionaware.explain.saturation import check_image_path, draw_saturation, saturation
    from motionaware.models.checkpoint import load

    if "out" in args:
        check_image_path(args.out)
    model = load(args.checkpoint, allow_code="allow_code" in args).to(pick_device())
    data = {key: getattr(args, key, None) for key in ("kind", "root")}
    recipe = recipe_on_data(model.recipe, args.checkpoint, **data)
    split = {"split": args.split} if "split" in args else {}
    found = saturation(model, recipe.data, config=recipe.eval, progress=show_progress(), **split)
    print(json.dumps(asdict(found)) if "json" in args else found.table())
    if "out" in args:
        draw_saturation(found, args.out)
    return 0


def run_stream(args: argparse.Namespace) -> int:
    """Name what happens in a video while it comes."""
    from motionaware.apps.stream import stream
    from motionaware.engine.evaluate import pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code="allow_code" in args).to(pick_device())
    moments = stream(
        model, args.source, fps=args.fps, drop=args.drop, top_k=args.top, log=say_error
    )
    with closing(moments):  # so that it sums up before we say what ended it
        for moment in moments:
            if args.json:
                print(json.dumps(asdict(moment)), flush=True)
                continue
            when = f"frame {moment.frame}" if moment.seconds is None else f"{moment.seconds:.2f} s"
            classes = "   ".join(f"{share:6.1%}  {name}" for name, share in moment.classes)
            print(f"{when:>12}  {classes}", flush=True)
    return 0


def run_profile(args: argparse.Namespace) -> int:
    """Say what a model costs, or where its modules are."""
    from motionaware.apps.profile import profile, profile_table
    from motionaware.apps.profile_sites import profile_sites, sites_table
    from motionaware.clip import ClipSpec
    from motionaware.models.checkpoint import load
    from motionaware.models.recognizer import create_model

    path = Path(args.model)
    if path.is_file() or (path.is_dir() and any(path.glob("*.safetensors"))):  # a run: load says
        model = load(args.model, allow_code="allow_code" in args)
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
