"""Compare: train what a grid names and is missing, evaluate everything, write a report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from motionaware.engine.grid import grid_recipes, read_grid
from motionaware.errors import DataError, NonFiniteScores, UsageError
from motionaware.explain.drawing import import_figure_class
from motionaware.explain.text_rendering import fonts_for
from motionaware.files import check_folder, lock_folder
from motionaware.messages import count
from motionaware.report.columns import Column, make_gains
from motionaware.report.costs import measure_costs
from motionaware.report.environment import commit_of, present_facts
from motionaware.report.finished_runs import (
    check_columns,
    check_comparable,
    columns_in_order,
    open_finished,
)
from motionaware.report.predictions import (
    EvaluatedRun,
    check_same_data,
    check_same_videos,
    evaluate_run,
)
from motionaware.report.sections import Findings
from motionaware.report.train_runs import (
    Run,
    check_runs,
    plan_runs,
    train_missing,
)
from motionaware.report.write import write_report

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared, and where the report is.

    Attributes:
        findings: Columns and gains.
        report: The folder that holds `report.html`.
        num_failed: Runs that failed.
        notes: What the user should know about the report, a sentence each.
    """

    findings: Findings
    report: Path
    num_failed: int
    notes: tuple[str, ...] = ()


def compare(
    grid: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    num_examples: int = 2,
    progress: bool = False,
    log: Tell = lambda line: None,
) -> Comparison:
    """Train what is missing of a grid, evaluate every run, write a report.

    Interrupted and called again, it goes on. A run that fails is reported, the others go on.

    Args:
        grid: YAML file; see `motionaware.engine.grid`.
        out: Folder of the report, and of the runs, below `runs`.
        jobs: Runs that are trained at a time; one a GPU if None, one without.
        num_examples: Clips drawn of each pair that is drawn, each way.
        progress: Show bars on the error stream.
        log: Is handed a line before anything trains, and when a run ends.

    Raises:
        RecipeError, ValueError, DataError: Something in the grid cannot be; before anything trains.
        BlockingIOError: Another process compares there, or trains one of the runs.
        TrainingInterrupted: Asked to stop; what was trained is saved.
        ImportError: matplotlib, which draws the pictures, is not installed.
    """
    import_figure_class()  # missed before hours of training, not after
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs = }; runs trained at a time start at 1")
    grid, out = Path(grid), Path(out)
    check_folder(out)
    config = read_grid(grid)
    recipes = grid_recipes(config, grid)
    runs = plan_runs(recipes, out)
    with _errors_named(grid):
        check_runs(runs, split=config.split, progress=progress)
        check_same_data(runs, split=config.split)
    with _alone(out):
        failures = train_missing(
            runs, jobs=jobs or max(1, torch.cuda.device_count()), progress=progress, log=log
        )
        whole = [run for run in runs if run.name not in failures]
        commit = commit_of(grid)
        where = f"{_as_seen(grid.parent / config.recipe)}, varied by {_as_seen(grid)}"
        where += f", at commit {commit}" if commit else ""
        return _report(
            whole,
            out,
            failures=[(run, failures[run.name]) for run in runs if run.name in failures],
            order=list(dict.fromkeys((run.backbone, run.temporal) for run in runs)),
            pairs=config.pairs,
            baseline=config.baseline,
            split=config.split,
            title=config.title or grid.stem,
            recipe=where,
            num_examples=num_examples,
            progress=progress,
        )


def compare_runs(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    split: str = "test",
    baseline: str = "none",
    pairs: Sequence[tuple[str, str]] = (),
    title: str = "",
    num_examples: int = 2,
    progress: bool = False,
    allow_code: bool = False,
) -> Comparison:
    """Write the same report for runs that are finished, grouped by backbone and temporal module.

    Args:
        folders: Of the runs.
        out: Folder of the report.
        split: On which runs are evaluated.
        baseline: The temporal module that gains are counted from.
        pairs: Two temporal modules each, to be compared besides.
        title: Of the report.
        num_examples: As for `compare`.
        progress: Show bars on the error stream.
        allow_code: Import the own modules that the runs name by file or dotted path.

    Raises:
        FileNotFoundError: A folder holds no run.
        ValueError: A run is not finished, is there twice, is of other data than another, or names
            code while `allow_code` is false.
        ImportError: matplotlib, which draws the pictures, is not installed.
    """
    import_figure_class()
    check_folder(Path(out))
    runs = [open_finished(Path(folder), Path(out), allow_code=allow_code) for folder in folders]
    check_same_data(runs, split=split)
    check_columns(runs)
    check_comparable(runs, pairs, baseline)
    runs.sort(key=lambda run: run.seed)
    with _alone(Path(out)):
        return _report(
            runs,
            Path(out),
            failures=[],
            order=columns_in_order(runs, baseline),
            pairs=tuple(pairs),
            baseline=baseline,
            split=split,
            title=title or f"{count(len(runs), 'run')} compared",
            recipe="the recipe.yaml in the folder of each run",
            num_examples=num_examples,
            progress=progress,
        )


def _alone(out: Path) -> AbstractContextManager[None]:
    words = f"another compare is at work in {out}; wait until it has ended, or take another --out"
    return lock_folder(out, busy_message=words)


@contextmanager
def _errors_named(grid: Path) -> Iterator[None]:
    """Let what is wrong with a model or with the data begin with the file that asks for them."""
    try:
        yield
    except ValueError as error:
        kind = DataError if isinstance(error, DataError) else ValueError
        raise kind(f"{grid}: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{grid}: {error}") from error


def _as_seen(path: Path) -> str:
    """A path from here on where it is below; else its name: a report says nothing of a home."""
    full = path.resolve()
    return full.relative_to(Path.cwd()).as_posix() if full.is_relative_to(Path.cwd()) else path.name


def _report(
    runs: Sequence[Run],
    out: Path,
    *,
    failures: Sequence[tuple[Run, str]],
    order: Sequence[tuple[str, str]],
    pairs: tuple[tuple[str, str], ...],
    baseline: str,
    split: str,
    title: str,
    recipe: str,
    num_examples: int,
    progress: bool,
) -> Comparison:
    evaluated, failures = [], list(failures)
    for run in runs:
        try:
            evaluated.append(evaluate_run(run, split=split, progress=progress))
        except NonFiniteScores as error:  # of one run; the others are reported all the same
            failures.append((run, str(error)))
    if evaluated:
        check_same_videos(evaluated)
    by_column: dict[tuple[str, str], list[EvaluatedRun]] = {}
    for one in evaluated:
        by_column.setdefault((one.run.backbone, one.run.temporal), []).append(one)
    present = {names: by_column[names][0].run for names in order if names in by_column}
    costs, cost_facts = {}, {}
    if evaluated:
        num_classes = len(evaluated[0].class_names)
        costs, cost_facts = measure_costs(present, out, num_classes=num_classes)
    columns = tuple(
        Column(
            backbone=names[0],
            temporal=names[1],
            runs=tuple(sorted(by_column.get(names, []), key=lambda one: one.run.seed)),
            failures=tuple(
                f"{run.name}: {words}"
                for run, words in failures
                if (run.backbone, run.temporal) == names
            ),
            cost=costs.get(names),
        )
        for names in order
    )
    found = Findings(
        title=title,
        columns=columns,
        gains=tuple(make_gains(columns, baseline=baseline, pairs=pairs)),
        pairs=pairs,
        baseline=baseline,
        split=split,
        recipe=recipe,
        facts=present_facts(),
        cost_facts=cost_facts,
    )
    with fonts_for(_texts(found)) as note:
        write_report(found, out, num_examples=num_examples)
    notes = (note,) if note else ()
    return Comparison(findings=found, report=out, num_failed=len(failures), notes=notes)


def _texts(found: Findings) -> Iterator[str]:
    """What the pictures of a report may name: columns, classes, videos."""
    for column in found.columns:
        yield column.name
        for one in column.runs[:1]:
            yield from one.class_names
            yield from one.names
