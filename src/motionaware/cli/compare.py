"""The verb compare."""

import argparse
from pathlib import Path

from motionaware.cli.say import say_error, show_progress
from motionaware.errors import UsageError


def run_compare(args: argparse.Namespace) -> int:
    """Compare the runs of a grid, or runs that are finished."""
    from motionaware.report.tables import mean_and_sd

    what = [Path(one) for one in args.what]
    are_grids = [one.suffix in (".yaml", ".yml") for one in what]
    if any(are_grids) and len(what) > 1:
        raise UsageError("give one grid, or folders of finished runs, not both")
    found = _grid(args, what[0]) if are_grids[0] else _runs(args, what)
    for cell in found.results.cells:
        top1 = f"{mean_and_sd(cell.top1_by_seed())} %" if cell.runs else "failed"
        print(f"  {cell.name:<40} top-1 {top1}")
    print(f"report: {found.report / 'report.html'}")
    for note in found.notes:
        print(f"note: {note}")
    if found.num_failed:
        say_error(f"runs that failed: {found.num_failed}; the report says why")
    return 1 if found.num_failed else 0


def _grid(args: argparse.Namespace, grid: Path):
    from motionaware.apps.compare import compare

    stray = [f"--{name}" for name in ("split", "pair", "title", "baseline") if getattr(args, name)]
    if stray:
        raise UsageError(f"{', '.join(stray)} is written in the grid; see docs/comparing.md")
    return compare(
        grid,
        args.out or Path("runs") / grid.stem,
        jobs=args.jobs,
        num_examples=args.examples,
        progress=show_progress(),
        log=lambda line: print(line, flush=True),
    )


def _runs(args: argparse.Namespace, folders: list[Path]):
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
        allow_code="allow_code" in args,
    )
