"""The command compare."""

import argparse
from pathlib import Path

from motionaware.cli.options import Subparsers, add_allow_code
from motionaware.cli.output import print_error, print_line, show_progress
from motionaware.errors import UsageError


def add_compare_parser(commands: Subparsers) -> None:
    """Add `motionaware compare`."""
    parser = commands.add_parser(
        "compare",
        help="compare backbones and temporal modules",
        description="Train the missing runs of a grid, evaluate all of them and write a report; or "
        "write the report for finished runs. See docs/comparing.md.",
    )
    parser.set_defaults(function=run_compare)
    parser.add_argument(
        "inputs", nargs="+", metavar="GRID.yaml|RUN", help="one grid, or the folders of runs"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the report (default: runs/GRID, or comparison for finished runs)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="runs trained at the same time (default: one per GPU, or 1 without a GPU)",
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=2,
        metavar="N",
        help="example clips per pair and direction (default: %(default)s)",
    )
    add_allow_code(parser)
    group = parser.add_argument_group("options for finished runs (a grid sets them itself)")
    group.add_argument("--split", choices=("val", "test"), help="split to evaluate (default: test)")
    group.add_argument(
        "--baseline",
        metavar="TEMPORAL",
        help="temporal module that gains are computed against (default: none)",
    )
    group.add_argument(
        "--pair",
        nargs=2,
        action="append",
        metavar="TEMPORAL",
        help="compare two more temporal modules with each other; may be repeated",
    )
    group.add_argument("--title", help="title of the report (default: the number of runs)")


def run_compare(args: argparse.Namespace) -> int:
    """Compare the runs of a grid, or finished runs."""
    from motionaware.report.tables import mean_and_sd

    inputs = [Path(path) for path in args.inputs]
    are_grids = [path.suffix in (".yaml", ".yml") for path in inputs]
    if any(are_grids) and len(inputs) > 1:
        raise UsageError("give one grid, or folders of finished runs, not both")
    comparison = _compare_grid(args, inputs[0]) if are_grids[0] else _compare_runs(args, inputs)
    for cell in comparison.results.cells:
        top1 = f"{mean_and_sd(cell.top1_by_seed())} %" if cell.runs else "failed"
        print_line(f"  {cell.name:<40} top-1 {top1}")
    print_line(f"report: {comparison.report / 'report.html'}")
    for note in comparison.notes:
        print_line(f"note: {note}")
    if comparison.num_failed:
        print_error(f"failed runs: {comparison.num_failed}; the report gives the reasons")
    return 1 if comparison.num_failed else 0


def _compare_grid(args: argparse.Namespace, grid: Path):
    from motionaware.apps.compare import compare

    names = ("split", "pair", "title", "baseline")
    misplaced = [f"--{name}" for name in names if getattr(args, name)]
    if misplaced:
        raise UsageError(f"{', '.join(misplaced)} is written in the grid; see docs/comparing.md")
    return compare(
        grid,
        args.out or Path("runs") / grid.stem,
        jobs=args.jobs,
        num_examples=args.examples,
        progress=show_progress(),
        log=print_line,
    )


def _compare_runs(args: argparse.Namespace, folders: list[Path]):
    from motionaware.apps.compare import compare_runs

    if args.jobs is not None:
        raise UsageError("--jobs is for a grid: finished runs are not trained")
    return compare_runs(
        folders,
        args.out or "comparison",
        split=args.split or "test",
        baseline=args.baseline or "none",
        pairs=[tuple(pair) for pair in args.pair or ()],
        title=args.title or "",
        num_examples=args.examples,
        progress=show_progress(),
        allow_code=args.allow_code,
    )
