"""The commands predict, visualize, stream and profile."""

import argparse
import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from motionaware.cli.options import Subparsers, add_allow_code, add_checkpoint, add_json
from motionaware.cli.output import mute_video_log, print_error, print_line, show_progress
from motionaware.cli.training import recipe_for_data
from motionaware.errors import UsageError

# ----------------------------------------------------------------------------------------- predict


def add_predict_parser(commands: Subparsers) -> None:
    """Add `motionaware predict`."""
    parser = commands.add_parser(
        "predict",
        help="predict the classes of videos",
        description="Print the most probable classes of each video. A long video is cut into equal "
        "parts, one clip each, and their probabilities are averaged.",
    )
    parser.set_defaults(function=run_predict)
    add_checkpoint(parser)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video file or folder of frames")
    parser.add_argument(
        "--clips", type=int, metavar="N", help="clips per video (default: one per 10 s)"
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="classes to print (default: %(default)s)"
    )
    add_allow_code(parser)
    add_json(parser, each="video")


@mute_video_log()
def run_predict(args: argparse.Namespace) -> int:
    """Predict the classes of videos."""
    from motionaware.apps.predict import predict
    from motionaware.engine.evaluate import pick_device
    from motionaware.errors import NonFiniteScores, VideoError
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code=args.allow_code).to(pick_device())
    num_failed = 0
    for video in args.videos:
        try:
            prediction = predict(model, video, num_clips=args.clips, top_k=args.top)
        except (VideoError, NonFiniteScores) as error:  # continue with the other videos
            print_error(str(error))
            num_failed += 1
            continue
        print_line(json.dumps(asdict(prediction)) if args.json else prediction.table())
    if num_failed and len(args.videos) > 1:
        print_error(f"{num_failed} of {len(args.videos)} videos have no prediction")
    return 1 if num_failed else 0


# --------------------------------------------------------------------------------------- visualize

_VIDEO_OPTIONS = ("sites", "shown_class", "clip", "layer", "fps")
_DATA_OPTIONS = ("split", "kind", "root")


def add_visualize_parser(commands: Subparsers) -> None:
    """Add `motionaware visualize`."""
    parser = commands.add_parser(
        "visualize",
        help="draw what a model attends to in a video",
        description="Draw the frames of a clip with motion, gate and attention at some sites, and "
        "Grad-CAM of a class; or, with --saturation, measure over a data set how far the attention "
        "is from the identity. See docs/looking.md.",
    )
    parser.set_defaults(function=run_visualize)
    add_checkpoint(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="picture (.png) or movie (.gif, .mp4) to write (default: visualize.png; with "
        "--saturation: none)",
    )
    add_allow_code(parser)
    add_json(parser)
    group = parser.add_argument_group("for a video")
    group.add_argument("video", nargs="?", metavar="VIDEO", help="video file or folder of frames")
    group.add_argument(
        "--sites",
        nargs="+",
        metavar="SITE",
        help="names of sites, or first, last or all (default: the first, middle and last)",
    )
    group.add_argument(
        "--class",
        dest="shown_class",
        metavar="CLASS",
        help="class of Grad-CAM, a name or a number from 0 (default: the most probable)",
    )
    group.add_argument(
        "--clip", type=int, metavar="N", help="part of a long video, from 1 (default: 1)"
    )
    group.add_argument(
        "--layer", help="layer of Grad-CAM (default: the last with more than one pixel)"
    )
    group.add_argument("--fps", type=float, help="frames per second of a movie (default: 2)")
    group = parser.add_argument_group("for a data set")
    group.add_argument(
        "--saturation", action="store_true", help="measure the attention over a data set"
    )
    group.add_argument(
        "--split", choices=("train", "val", "test"), help="split of the data set (default: val)"
    )
    group.add_argument("--kind", help="kind of the data set (default: that of training)")
    group.add_argument(
        "--root", metavar="DIR", help="folder of the data set (default: that of training)"
    )


def run_visualize(args: argparse.Namespace) -> int:
    """Draw what a model attends to in a video, or measure its attention over a data set."""
    excluded = _VIDEO_OPTIONS if args.saturation else _DATA_OPTIONS
    misplaced = [f"--{name.removeprefix('shown_')}" for name in _given(args, excluded)]
    if not args.saturation and args.video is None:
        raise UsageError(
            "nothing to visualize: give a VIDEO, or --saturation to measure a data set"
        )
    if args.saturation and args.video is not None:
        misplaced = misplaced or [args.video]
    if misplaced:
        raise UsageError(
            f"{', '.join(misplaced)} does not fit: give either a VIDEO, with --sites, --class, "
            "--clip, --layer, --fps, or --saturation, with --split, --kind, --root"
        )
    return _measure_saturation(args) if args.saturation else _draw_video(args)


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


@mute_video_log()
def _draw_video(args: argparse.Namespace) -> int:
    from motionaware.apps.visualize import visualize
    from motionaware.engine.evaluate import pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code=args.allow_code).to(pick_device())
    drawn = visualize(model, args.video, **_given(args, ("out", *_VIDEO_OPTIONS)))
    print_line(json.dumps(asdict(drawn)) if args.json else drawn.table())
    return 0


def _measure_saturation(args: argparse.Namespace) -> int:
    from motionaware.engine.evaluate import pick_device
    from motionaware.explain.saturation import check_image_path, draw_saturation, saturation
    from motionaware.models.checkpoint import load

    if args.out is not None:
        check_image_path(args.out)
    model = load(args.checkpoint, allow_code=args.allow_code).to(pick_device())
    recipe = recipe_for_data(model.recipe, args.checkpoint, kind=args.kind, root=args.root)
    split = _given(args, ("split",))
    found = saturation(model, recipe.data, config=recipe.eval, progress=show_progress(), **split)
    print_line(json.dumps(asdict(found)) if args.json else found.table())
    if args.out is not None:
        draw_saturation(found, args.out)
    return 0


# ------------------------------------------------------------------------------------------ stream


def add_stream_parser(commands: Subparsers) -> None:
    """Add `motionaware stream`."""
    parser = commands.add_parser(
        "stream",
        help="predict the classes of a live video, frame by frame",
        description="Feed a causal model frame by frame and print the most probable class after "
        "each frame. See docs/streaming.md.",
    )
    parser.set_defaults(function=run_stream)
    parser.add_argument(
        "checkpoint", help="checkpoint of a model that was trained with model.causal: true"
    )
    parser.add_argument(
        "source",
        metavar="VIDEO|CAMERA|-",
        help="video file, camera such as 0 or /dev/video0, or - for standard input",
    )
    parser.add_argument(
        "--fps", type=float, help="frames per second to process (default: all frames)"
    )
    parser.add_argument(
        "--drop", action="store_true", help="drop frames when more than 1 s behind real time"
    )
    parser.add_argument(
        "--top", type=int, default=1, metavar="N", help="classes to print (default: %(default)s)"
    )
    add_allow_code(parser)
    add_json(parser, each="frame")


def run_stream(args: argparse.Namespace) -> int:
    """Predict the classes of a live video, frame by frame."""
    from motionaware.apps.stream import stream
    from motionaware.engine.evaluate import pick_device
    from motionaware.models.checkpoint import load

    model = load(args.checkpoint, allow_code=args.allow_code).to(pick_device())
    moments = stream(
        model, args.source, fps=args.fps, drop=args.drop, top_k=args.top, log=print_error
    )
    with closing(moments):  # prints its summary before the error that ended it
        for moment in moments:
            if args.json:
                print_line(json.dumps(asdict(moment)))
                continue
            when = f"frame {moment.frame}" if moment.seconds is None else f"{moment.seconds:.2f} s"
            classes = "   ".join(f"{share:6.1%}  {name}" for name, share in moment.classes)
            print_line(f"{when:>12}  {classes}")
    return 0


# ----------------------------------------------------------------------------------------- profile


def add_profile_parser(commands: Subparsers) -> None:
    """Add `motionaware profile`."""
    parser = commands.add_parser(
        "profile",
        help="measure the cost of a model, or list its temporal modules",
        description="Measure parameters, multiply-adds, latency and memory of a model, with and "
        "without its temporal modules; or, with --sites, list where they are.",
    )
    parser.set_defaults(function=run_profile)
    parser.add_argument("model", metavar="MODEL", help="checkpoint, or name of a backbone")
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="clips per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: chosen by torch)"
    )
    parser.add_argument("--sites", action="store_true", help="list the sites instead of the cost")
    add_allow_code(parser)
    add_json(parser)
    group = parser.add_argument_group("only if MODEL is a backbone (a checkpoint stores these)")
    group.add_argument("--temporal", help="temporal module to insert (default: m2a)")
    group.add_argument("--frames", type=int, metavar="N", help="frames per clip (default: 8)")
    group.add_argument(
        "--size", type=int, metavar="PIXELS", help="height and width of a frame (default: 224)"
    )
    group.add_argument(
        "--where",
        nargs="+",
        metavar="LAYER",
        help="layers before which modules are inserted (default: chosen by a rule)",
    )
    group.add_argument(
        "--stages",
        type=int,
        nargs="+",
        metavar="N",
        help="stages that get modules, from 1 (default: all)",
    )
    group.add_argument(
        "--every",
        type=int,
        metavar="N",
        help="insert a module in every N-th block (default: chosen by a rule)",
    )


_BACKBONE_OPTIONS = ("temporal", "frames", "size", "where", "stages", "every")


def _check_options_fit_a_checkpoint(args: argparse.Namespace) -> None:
    """Refuse options of a backbone beside a checkpoint.

    Raises:
        UsageError: The message names the options.
    """
    given = [f"--{name}" for name in _BACKBONE_OPTIONS if getattr(args, name) is not None]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot be used with a checkpoint: {args.model} stores its "
            "temporal modules and clip size. Leave it out, or give the name of a backbone"
        )


def run_profile(args: argparse.Namespace) -> int:
    """Measure the cost of a model, or list its temporal modules."""
    from motionaware.apps.profile import profile
    from motionaware.apps.profile_sites import profile_sites, sites_table
    from motionaware.clip import ClipSpec
    from motionaware.models.checkpoint import load
    from motionaware.models.recognizer import create_model

    path = Path(args.model)
    if path.is_file() or (path.is_dir() and any(path.glob("*.safetensors"))):
        _check_options_fit_a_checkpoint(args)
        model = load(args.model, allow_code=args.allow_code)  # refuses a folder: names its files
    else:
        num_frames = 8 if args.frames is None else args.frames
        image_size = 224 if args.size is None else args.size
        clip = ClipSpec(num_frames=num_frames, image_size=image_size)
        model = create_model(
            args.model,
            temporal=args.temporal or "m2a",
            num_classes=174,
            num_frames=num_frames,
            clip=clip,
            where=args.where,
            stages=args.stages,
            every=args.every,
        )
    if args.sites:
        sites = profile_sites(model)
        text = json.dumps([asdict(site) for site in sites]) if args.json else sites_table(sites)
    else:
        cost = profile(model, batch_size=args.batch, num_threads=args.threads)
        text = json.dumps(asdict(cost)) if args.json else cost.table()
    print_line(text)
    return 0
