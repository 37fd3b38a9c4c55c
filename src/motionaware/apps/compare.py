"""Compare: train the missing runs of a grid, evaluate all runs, write a report."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from motionaware.deprecation import renamed_keyword
from motionaware.engine.grid import grid_recipes, read_grid
from motionaware.errors import DataError, MissingPackage, NonFiniteScores, UsageError, VideoError
from motionaware.explain.text_rendering import fonts_for
from motionaware.files import check_folder, lock_folder
from motionaware.messages import count
from motionaware.report.cells import Cell
from motionaware.report.cost_cache import measure_costs
from motionaware.report.environment import describe_environment, git_commit
from motionaware.report.finished_runs import (
    check_cells,
    check_comparable,
    open_finished_run,
    sort_cells,
)
from motionaware.report.gains import compute_gains
from motionaware.report.predictions import (
    EvaluatedRun,
    check_same_data,
    check_same_videos,
    evaluate_run,
)
from motionaware.report.results import ComparisonResults
from motionaware.report.runs import Run, plan_runs
from motionaware.report.train_runs import check_runs, train_missing
from motionaware.report.write import write_report


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        results: Cells and gains.
        report: The folder that holds `report.html`.
        num_failed: Number of failed runs.
        notes: Sentences for the user about the report.
    """

    results: ComparisonResults
    report: Path
    num_failed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _ReportOptions:
    """Options of a report.

    Attributes:
        cells: Backbone and temporal module of each cell, in the order of the tables.
        pairs: Pairs of temporal modules that the user named.
        baseline: Temporal module of the baseline.
        split: Split on which runs are evaluated.
        title: Heading of the report.
        recipe: Where the recipe comes from.
        num_examples: Example clips per highlighted pair and direction.
        progress: Show progress bars on the error stream.
    """

    cells: Sequence[tuple[str, str]]
    pairs: tuple[tuple[str, str], ...]
    baseline: str
    split: str
    title: str
    recipe: str
    num_examples: int
    progress: bool


@renamed_keyword("tell", "log")
def compare(
    grid: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    num_examples: int = 2,
    progress: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Train the missing runs of a grid, evaluate every run, and write a report.

    After an interruption, the same call continues. A failed run is reported and stops no other.

    Args:
        grid: YAML file; see `motionaware.engine.grid`.
        out: Folder of the report; the runs are in its subfolder `runs`.
        jobs: Number of runs trained in parallel; None for one per GPU, or one without a GPU.
        num_examples: Example clips drawn per highlighted pair and direction.
        progress: Show progress bars on the error stream.
        log: Called with one line before training and one line per completed run.

    Raises:
        RecipeError, UsageError, DataError: The grid, a recipe, a name or a data set is wrong;
            raised before anything is trained.
        BlockingIOError: Another process compares in `out`, or trains one of the runs.
        TrainingInterrupted: A signal asked to stop; the runs saved their state.
        MissingPackage: matplotlib, jinja2 or scipy is not installed.
    """
    _check_packages()
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs = }; the number of runs trained in parallel starts at 1")
    grid, out = Path(grid), Path(out)
    check_folder(out)
    config = read_grid(grid)
    recipes = grid_recipes(config, grid)
    runs = plan_runs(recipes, out)
    with _add_grid_to_errors(grid):
        check_runs(runs, split=config.split, progress=progress)
        check_same_data(runs, split=config.split)
    options = _ReportOptions(
        cells=list(dict.fromkeys((run.backbone, run.temporal) for run in runs)),
        pairs=config.pairs,
        baseline=config.baseline,
        split=config.split,
        title=config.title or grid.stem,
        recipe=_recipe_source(grid.parent / config.recipe, grid),
        num_examples=num_examples,
        progress=progress,
    )
    with _lock(out):
        failures = train_missing(
            runs, jobs=jobs or max(1, torch.cuda.device_count()), progress=progress, log=log
        )
        trained = [run for run in runs if run.name not in failures]
        failed = [(run, failures[run.name]) for run in runs if run.name in failures]
        return _evaluate_and_report(trained, out, failed, options)


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
    """Write the same report for finished runs, grouped by backbone and temporal module.

    Args:
        folders: Folders of the runs.
        out: Folder of the report.
        split: Split on which the runs are evaluated.
        baseline: Temporal module that the others are compared with.
        pairs: Further pairs of temporal modules (module, reference) to compare.
        title: Heading of the report; "" for the number of runs.
        num_examples: Example clips drawn per highlighted pair and direction.
        progress: Show progress bars on the error stream.
        allow_code: Import user code that a run names by file or dotted path.

    Raises:
        FileNotFoundError: A folder holds no run.
        UsageError: A run is not finished, is given twice, has other data than the others, or names
            user code and `allow_code` is False.
        MissingPackage: matplotlib, jinja2 or scipy is not installed.
    """
    _check_packages()
    out = Path(out)
    check_folder(out)
    runs = [open_finished_run(Path(folder), out, allow_code=allow_code) for folder in folders]
    check_same_data(runs, split=split)
    check_cells(runs)
    check_comparable(runs, pairs, baseline)
    runs.sort(key=lambda run: run.seed)
    options = _ReportOptions(
        cells=sort_cells(runs, baseline),
        pairs=tuple(pairs),
        baseline=baseline,
        split=split,
        title=title or f"Comparison of {count(len(runs), 'run')}",
        recipe="recipe.yaml in the folder of each run",
        num_examples=num_examples,
        progress=progress,
    )
    with _lock(out):
        return _evaluate_and_report(runs, out, [], options)


def _check_packages() -> None:
    """Raise MissingPackage before hours of training instead of after them."""
    try:
        for package in ("jinja2", "matplotlib.figure", "scipy"):
            importlib.import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f"compare needs matplotlib, jinja2 and scipy ({error}); run: "
            "pip install 'motionaware[compare]'"
        ) from error


def _lock(out: Path) -> AbstractContextManager[None]:
    message = f"another comparison is running in {out}; wait until it ends, or choose another --out"
    return lock_folder(out, busy_message=message)


@contextmanager
def _add_grid_to_errors(grid: Path) -> Iterator[None]:
    """Prefix errors about models and data with the file of the grid."""
    try:
        yield
    except (UsageError, DataError, VideoError, FileNotFoundError) as error:
        raise type(error)(f"{grid}: {error}") from error


def _recipe_source(recipe: Path, grid: Path) -> str:
    commit = git_commit(grid)
    at_commit = f", at commit {commit}" if commit else ""
    return f"{_shareable_path(recipe)}, varied by {_shareable_path(grid)}{at_commit}"


def _shareable_path(path: Path) -> str:
    """Return a path relative to the working folder, or its name: a report shows no home folder."""
    full = path.resolve()
    return full.relative_to(Path.cwd()).as_posix() if full.is_relative_to(Path.cwd()) else path.name


def _evaluate_and_report(
    runs: Sequence[Run], out: Path, failed: Sequence[tuple[Run, str]], options: _ReportOptions
) -> Comparison:
    """Evaluate runs, measure the cost of each cell, compute gains and write the report.

    Args:
        runs: The finished runs.
        out: Folder of the report.
        failed: Runs that failed, with the reason.
        options: Options of the report.
    """
    evaluated, failed = [], list(failed)
    for run in runs:
        try:
            evaluated.append(evaluate_run(run, split=options.split, progress=options.progress))
        except NonFiniteScores as error:  # report this run as failed, and go on with the others
            failed.append((run, str(error)))
    if evaluated:
        check_same_videos(evaluated)
    cells, cost_environment = _make_cells(evaluated, out, failed, options.cells)
    results = ComparisonResults(
        title=options.title,
        cells=cells,
        gains=tuple(compute_gains(cells, baseline=options.baseline, pairs=options.pairs)),
        pairs=options.pairs,
        baseline=options.baseline,
        split=options.split,
        recipe=options.recipe,
        environment=describe_environment(),
        cost_environment=cost_environment,
    )
    with fonts_for(_figure_texts(results)) as note:
        write_report(results, out, num_examples=options.num_examples)
    notes = (note,) if note else ()
    return Comparison(results=results, report=out, num_failed=len(failed), notes=notes)


def _make_cells(
    evaluated: Sequence[EvaluatedRun],
    out: Path,
    failed: Sequence[tuple[Run, str]],
    order: Sequence[tuple[str, str]],
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """Group runs into cells in the given order; also return the environment of the costs."""
    by_cell: dict[tuple[str, str], list[EvaluatedRun]] = {}
    for one in evaluated:
        by_cell.setdefault((one.run.backbone, one.run.temporal), []).append(one)
    costs, cost_environment = {}, {}
    if evaluated:
        costs, cost_environment = measure_costs(
            {names: by_cell[names][0].run for names in order if names in by_cell},
            out,
            num_classes=len(evaluated[0].class_names),
        )
    cells = tuple(
        Cell(
            backbone=names[0],
            temporal=names[1],
            runs=tuple(sorted(by_cell.get(names, []), key=lambda one: one.run.seed)),
            failures=tuple(
                f"{run.name}: {reason}"
                for run, reason in failed
                if (run.backbone, run.temporal) == names
            ),
            cost=costs.get(names),
        )
        for names in order
    )
    return cells, cost_environment


def _figure_texts(results: ComparisonResults) -> Iterator[str]:
    """Yield the names that figures may show: cells, classes and videos."""
    for cell in results.cells:
        yield cell.name
        for evaluated in cell.runs[:1]:
            yield from evaluated.class_names
            yield from evaluated.video_names
