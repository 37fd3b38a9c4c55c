"""The command doctor."""

import argparse

from motionaware.cli.options import Subparsers
from motionaware.cli.output import mute_video_log, print_line, show_progress
from motionaware.messages import count


def add_doctor_parser(commands: Subparsers) -> None:
    """Add `motionaware doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="check the installation and a data set",
        description="List the installed packages. If DATA is given, decode every video of that "
        "data set and list all problems. The exit code is 1 if there is any problem.",
    )
    parser.set_defaults(function=run_doctor)
    parser.add_argument("data", nargs="?", help="folder of a data set (default: none)")
    parser.add_argument(
        "--kind", help="kind of the data set, see docs/data.md (default: detected from file names)"
    )


@mute_video_log()
def run_doctor(args: argparse.Namespace) -> int:
    """Check the installation and a data set."""
    from motionaware.apps.doctor import doctor

    report = doctor(args.data, kind=args.kind, progress=show_progress())
    for subject, fact in report.facts:
        print_line(f"  {subject:<12} {fact}")
    for problem in report.problems:
        print_line(f"! {problem}")
    num_problems = len(report.problems)
    print_line(f"{count(num_problems, 'problem') if num_problems else 'no problems'} found")
    return 1 if report.problems else 0
