"""The verbs of the command line and their options. What they do is in the files beside."""

import argparse
from importlib.metadata import version

from motionaware.cli.data import OF_MOTIONPAIRS


def make_parser() -> argparse.ArgumentParser:
    """The parser of `motionaware VERB ...`; what it reads has the verb's name in `verb`."""
    parser = argparse.ArgumentParser(
        prog="motionaware",
        description="Make any image or video network motion-aware; train, evaluate, predict.",
        epilog="motionaware VERB --help explains a verb.",
    )
    parser.add_argument(
        "--version", action="version", version=version("motionaware"), help="show it and end"
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        help="show where an error came from, and warnings of libraries",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    checkpoint = "file that training wrote, such as RUN/best.safetensors"
    code = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    code.add_argument(
        "--allow-code",
        action="store_true",
        help="import the temporal module that a checkpoint or finished run names by file or dotted "
        "path; only if you trust its author",
    )

    verb = verbs.add_parser(
        "quickstart",
        help="train frame averaging and M2A side by side",
        description="Draw MotionPairs, train a small network on it twice, with its frames averaged "
        "and with M2A, evaluate both on the test clips, and draw what M2A looks at. Takes minutes.",
    )
    verb.add_argument(
        "--out", default="quickstart", help="folder for what it writes; %(default)s by default"
    )
    verb.add_argument(
        "--seed", type=int, default=0, help="of weights, order and dropout; %(default)s by default"
    )

    verb = verbs.add_parser(
        "train",
        help="train a model from a recipe",
        description="Train a model from a recipe. Any key may be overridden by its dotted name, "
        "for example --train.epochs 5 --model.temporal m2a,tsm.",
    )
    verb.add_argument("recipe", nargs="?", help="YAML file; see recipes/")
    verb.add_argument("--run", dest="run_folder", help="folder of the run; runs/RECIPE by default")
    verb.add_argument(
        "--resume",
        metavar="RUN",
        help="continue the run in this folder; with --train.epochs N it is extended",
    )
    verb.add_argument("--keys", action="store_true", help="explain every key of a recipe and end")

    verb = verbs.add_parser(
        "evaluate",
        parents=[code],
        help="judge a checkpoint on a data set",
        description="Judge a checkpoint on a split of the data it was trained on, or of others: "
        "top-1 and top-5, and top-1 of each class.",
    )
    verb.add_argument("checkpoint", help=checkpoint)
    verb.add_argument(
        "--split",
        default="test",
        choices=("train", "val", "test"),
        help="of the data; %(default)s by default",
    )
    verb.add_argument("--kind", help="kind of the data; by default what it was trained on")
    verb.add_argument("--root", help="folder of the data; by default what it was trained on")
    verb.add_argument("--views", type=int, help="clips a video; eval.num_views of its recipe")
    verb.add_argument(
        "--crops", type=int, help="boxes cut from each clip, 1 or 3; eval.num_crops of its recipe"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object")

    verb = verbs.add_parser(
        "compare",
        parents=[code],
        help="compare backbones and temporal modules: train, evaluate, report",
        description="Train the missing runs of a grid, evaluate all, write a report; or report "
        "on runs that are finished. See docs/comparing.md.",
    )
    verb.add_argument("what", nargs="+", metavar="GRID.yaml|RUN", help="a grid, or folders of runs")
    verb.add_argument("--out", help="folder of the report; runs/GRID, or comparison, by default")
    verb.add_argument("--jobs", type=int, help="runs trained at a time; one a GPU by default")
    verb.add_argument(
        "--examples",
        type=int,
        default=2,
        help="clips drawn of a pair, each way; %(default)s by default",
    )
    group = verb.add_argument_group("finished runs (a grid says these itself)")
    group.add_argument("--split", choices=("val", "test"), help="of the data; test by default")
    group.add_argument(
        "--baseline", help="temporal module that gains are counted from; none by default"
    )
    group.add_argument(
        "--pair", nargs=2, action="append", metavar="TEMPORAL", help="two more to be compared"
    )
    group.add_argument("--title", help="of the report; none by default")

    verb = verbs.add_parser(
        "predict",
        parents=[code],
        help="name what happens in videos",
        description="Name the likeliest classes of each video. A long one is cut into equal parts, "
        "each a clip of its own, and their probabilities are averaged.",
    )
    verb.add_argument("checkpoint", help=checkpoint)
    verb.add_argument("videos", nargs="+", metavar="VIDEO", help="a file, or a folder of frames")
    verb.add_argument("--clips", type=int, help="clips a video; one for every 10 s by default")
    verb.add_argument("--top", type=int, default=5, help="classes to name; %(default)s by default")
    verb.add_argument("--json", action="store_true", help="print one JSON object a video")

    verb = verbs.add_parser(
        "visualize",
        parents=[code],
        help="draw what a model looks at in a video",
        description="Draw the frames of a clip with the motion, the gate and the attention at some "
        "sites, and Grad-CAM of a class; or, with --saturation, measure how far the attention is "
        "from the identity over a data set. See docs/looking.md.",
        argument_default=argparse.SUPPRESS,  # of two sets of options one is out of place
    )
    verb.add_argument("checkpoint", help=checkpoint)
    verb.add_argument(
        "--out",
        help="the picture: .png a sheet, .gif or .mp4 a movie; visualize.png by default, with "
        "--saturation none",
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    group = verb.add_argument_group("a video")
    group.add_argument("video", nargs="?", metavar="VIDEO", help="a file, or a folder of frames")
    group.add_argument(
        "--sites",
        nargs="+",
        help="their names, or first, last, all; the first, middle and last by default",
    )
    group.add_argument(
        "--class",
        dest="shown_class",
        help="name or number, from 0, for Grad-CAM; the likeliest by default",
    )
    group.add_argument("--clip", type=int, help="which part of a long video; 1 by default")
    group.add_argument(
        "--layer", help="whose map Grad-CAM takes; the last of more than a pixel by default"
    )
    group.add_argument("--fps", type=float, help="frames a second of a movie; 2 by default")
    group = verb.add_argument_group("a data set")
    group.add_argument("--saturation", action="store_true", help="measure the attention there")
    group.add_argument(
        "--split", choices=("train", "val", "test"), help="of the data; val by default"
    )
    group.add_argument("--kind", help="kind of the data; by default what it was trained on")
    group.add_argument("--root", help="folder of the data; by default what it was trained on")

    verb = verbs.add_parser(
        "stream",
        parents=[code],
        help="name what happens in a video while it comes",
        description="Feed a causal model frame by frame and name the likeliest class after each. "
        "See docs/streaming.md.",
    )
    verb.add_argument("checkpoint", help="of a model trained with model.causal: true")
    verb.add_argument(
        "source", metavar="VIDEO|CAMERA|-", help="a file, 0 or /dev/video0, the standard input"
    )
    verb.add_argument("--fps", type=float, help="frames a second to look at; all by default")
    verb.add_argument("--drop", action="store_true", help="leave out frames that come late")
    verb.add_argument("--top", type=int, default=1, help="classes to name; %(default)s by default")
    verb.add_argument("--json", action="store_true", help="print one JSON object a line")

    verb = verbs.add_parser(
        "profile",
        parents=[code],
        help="say what a model costs, and where its modules are",
        description="Measure parameters, multiply-adds, latency and memory of a model, beside the "
        "same one without temporal modules; or, with --sites, list where these are. Options other "
        "than --batch, --threads, --sites and --json are of a backbone: a checkpoint says its own.",
    )
    verb.add_argument("model", metavar="MODEL", help="a checkpoint, or the name of a backbone")
    verb.add_argument(
        "--temporal", default="m2a", help="module to put into a backbone; %(default)s by default"
    )
    verb.add_argument(
        "--frames",
        type=int,
        default=8,
        help="frames a clip, of a backbone; %(default)s by default",
    )
    verb.add_argument(
        "--size",
        type=int,
        default=224,
        help="pixels each way, of a backbone; %(default)s by default",
    )
    verb.add_argument("--batch", type=int, default=1, help="clips a batch; %(default)s by default")
    verb.add_argument("--threads", type=int, help="threads of the CPU; torch's choice by default")
    verb.add_argument(
        "--where",
        nargs="+",
        help="names of layers before which modules go; chosen by a rule by default",
    )
    verb.add_argument(
        "--stages", type=int, nargs="+", help="stages that get modules, from 1; all by default"
    )
    verb.add_argument(
        "--every", type=int, help="step from block to block; that of the rule by default"
    )
    verb.add_argument("--sites", action="store_true", help="list the sites instead")
    verb.add_argument("--json", action="store_true", help="print one JSON object")

    verb = verbs.add_parser(
        "prepare",
        help="check and index a data set, split one, or write the embedded one as video files",
        description="Open every video of a data set and index what is there, also as folders of "
        "frames or as tar files; as kind split, list the videos of class folders as training, "
        "validation and test; as kind motionpairs, draw the embedded data set and write it as "
        "video files. See docs/data.md.",
        argument_default=argparse.SUPPRESS,  # of two sets of options one is out of place
    )
    verb.add_argument("kind", help="motionpairs, split, or a kind of data set; see docs/data.md")
    group = verb.add_argument_group("motionpairs")
    group.add_argument("--out", help="folder to write to")
    for name, what in (
        ("train", "clips of the training split"),
        ("val", "clips of the validation split"),
        ("test", "clips of the test split"),
        ("frames", "frames a clip"),
        ("size", "height and width in pixels"),
        ("seed", "of what is drawn; of a split too"),
    ):
        help_text = f"{what}; {OF_MOTIONPAIRS[name]} by default"
        group.add_argument(f"--{name}", type=int, help=help_text)
    group = verb.add_argument_group("split")
    group.add_argument("--val-share", type=float, help="part for validation; 0.1 by default")
    group.add_argument("--test-share", type=float, help="part for the test; 0.1 by default")
    group.add_argument(
        "--group",
        metavar="REGEX",
        help="finds a video's source in CLASS/VIDEO; those of one source come into one split",
    )
    group = verb.add_argument_group("split and all other kinds")
    group.add_argument("--root", help="folder of the data set")
    group.add_argument("--frames-to", help="write every video as a folder of frames below this one")
    group.add_argument(
        "--short-side", type=int, help="pixels of a frame's shorter side; as it is by default"
    )
    group.add_argument("--shards", help="write all videos as tar files to this folder")
    group.add_argument(
        "--shard-mib", type=float, help="size of each of these, in MiB; 64 by default"
    )
    group.add_argument("--workers", type=int, help="processes; one a CPU by default")
    group.add_argument(
        "--allow-broken", action="store_true", help="exit with 0 if videos are absent or broken"
    )

    verb = verbs.add_parser(
        "doctor",
        help="check the installation and a data set",
        description="Say what is installed and, given a data set, read each of its videos and say "
        "what is wrong. Exit code 1 if anything is.",
    )
    verb.add_argument("data", nargs="?", help="folder of a data set; none by default")
    verb.add_argument(
        "--kind", help="of data set, see docs/data.md; by default what the names in it show"
    )
    return parser
