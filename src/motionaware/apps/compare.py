"""Compare: train what a grid names and is missing, judge everything, write a report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from motionaware.apps.comparison.columns import Column, make_gains
from motionaware.apps.comparison.costs import measure_costs
from motionaware.apps.comparison.facts import commit_of, present_facts
from motionaware.apps.comparison.judging import (
    JudgedRun,
    check_same_data,
    check_same_videos,
    judge_run,
)
from motionaware.apps.comparison.numbers import counted
from motionaware.apps.comparison.report import write_report
from motionaware.apps.comparison.runs import (
    Run,
    check_runs,
    different_keys,
    plan_runs,
    train_missing,
    with_cache,
)
from motionaware.apps.comparison.sections import Findings
from motionaware.apps.visualize import figure_maker
from motionaware.data.split import DataError
from motionaware.engine.grid import grid_recipes, read_grid
from motionaware.engine.run_folder import RunFolder

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared, and where the report is.

    Attributes:
        findings: Columns and gains.
        report: The folder that holds `report.html`.
        num_failed: Runs that failed.
    """

    findings: Findings
    report: Path
    num_failed: int


def compare(
    grid: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    num_examples: int = 2,
    progress: bool = False,
    tell: Tell = lambda line: None,
) -> Comparison:
    """Train what is missing of a grid, judge every run, write a report.

    Interrupted and called again, it goes on. A run that fails is reported, the others go on.

    Args:
        grid: YAML file; see `motionaware.engine.grid`.
        out: Folder of the report, and of the runs, below `runs`.
        jobs: Runs that are trained at a time; one a GPU if None, one without.
        num_examples: Clips drawn of each pair that is drawn, each way.
        progress: Show bars on the error stream.
        tell: Is handed a line before anything trains, and when a run ends.

    Raises:
        RecipeError, ValueError, DataError: Something in the grid cannot be; before anything trains.
        TrainingInterrupted: Asked to stop; what was trained is saved.
        ImportError: matplotlib, which draws the pictures, is not installed.
    """
    figure_maker()  # missed before hours of training, not after
    if jobs is not None and jobs < 1:
        raise ValueError(f"{jobs = }; runs trained at a time start at 1")
    grid, out = Path(grid), Path(out)
    config = read_grid(grid)
    recipes = grid_recipes(config, grid)
    runs = plan_runs(recipes, out)
    with _errors_named(grid):
        check_runs(runs, split=config.split, progress=progress)
        check_same_data(runs, split=config.split)
    failures = train_missing(
        runs, jobs=jobs or max(1, torch.cuda.device_count()), progress=progress, tell=tell
    )
    whole = [run for run in runs if run.name not in failures]
    commit = commit_of(grid)
    where = f"{config.recipe}, varied by {_as_seen(grid)}"
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
) -> Comparison:
    """Write the same report for runs that are finished, grouped by backbone and temporal module.

    Args:
        folders: Of the runs.
        out: Folder of the report.
        split: On which runs are judged.
        baseline: The temporal module that gains are counted from.
        pairs: Two temporal modules each, to be compared besides.
        title: Of the report.
        num_examples: As for `compare`.
        progress: Show bars on the error stream.

    Raises:
        FileNotFoundError: A folder holds no run.
        ValueError: A run is not finished, is there twice, or is of other data than another.
        ImportError: matplotlib, which draws the pictures, is not installed.
    """
    figure_maker()
    runs = [_finished(Path(folder), Path(out)) for folder in folders]
    check_same_data(runs, split=split)
    _check_columns(runs)
    _check_pairs(runs, pairs)
    runs.sort(key=lambda run: run.seed)
    return _report(
        runs,
        Path(out),
        failures=[],
        order=_order(runs, baseline),
        pairs=tuple(pairs),
        baseline=baseline,
        split=split,
        title=title or f"{counted(len(runs), 'run')} compared",
        recipe="the recipe.yaml in the folder of each run",
        num_examples=num_examples,
        progress=progress,
    )


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


def _finished(folder: Path, out: Path) -> Run:
    files = RunFolder(folder)
    if not files.holds_run():
        raise FileNotFoundError(
            f"{folder} holds no run to compare: it has no recipe.yaml; give folders of finished "
            "runs, or a grid (.yaml)"
        )
    recipe = files.recipe()
    model = recipe.model
    run = Run(
        backbone=model.backbone,
        temporal=model.temporal,
        seed=recipe.train.seed,
        recipe=with_cache(recipe, out),
        folder=files,
    )
    if not run.is_finished():
        raise ValueError(
            f"{folder} has {run.epochs_done()} of {recipe.train.epochs} epochs; finish it by "
            f"motionaware train --resume {folder}"
        )
    return run


def _check_columns(runs: Sequence[Run]) -> None:
    """Refuse a run given twice, and runs of one column that differ by more than the seed."""
    first: dict[tuple[str, str], Run] = {}
    seen: dict[str, Run] = {}
    for run in runs:
        if run.name in seen:
            raise ValueError(
                f"{seen[run.name].folder.path} and {run.folder.path} are both {run.name}; give one"
            )
        seen[run.name] = run
        other = first.setdefault((run.backbone, run.temporal), run)
        differing = different_keys(other.recipe, run.recipe)
        differing.pop("train.seed", None)
        differing.pop("data.root", None)  # resolved, it is the same
        for key, (one, two) in differing.items():
            raise ValueError(
                f"{other.folder.path} and {run.folder.path} would be one column, but {key} is "
                f"{one!r} in the one, {two!r} in the other; compare them apart"
            )


def _check_pairs(runs: Sequence[Run], pairs: Sequence[tuple[str, str]]) -> None:
    columns = {(run.backbone, run.temporal) for run in runs}
    for one, other in pairs:
        if not any({(name, one), (name, other)} <= columns for name, _ in columns):
            known = ", ".join(sorted({temporal for _, temporal in columns}))
            raise ValueError(
                f"pair {one} {other}: no backbone has runs of both; there are runs of {known}"
            )


def _order(runs: Sequence[Run], baseline: str) -> list[tuple[str, str]]:
    """Columns as they were given, those of one backbone together, the baseline first."""
    names = list(dict.fromkeys((run.backbone, run.temporal) for run in runs))
    backbones = list(dict.fromkeys(backbone for backbone, _ in names))
    return sorted(names, key=lambda name: (backbones.index(name[0]), name[1] != baseline))


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
    judged = [judge_run(run, split=split, progress=progress) for run in runs]
    if judged:
        check_same_videos(judged)
    by_column: dict[tuple[str, str], list[JudgedRun]] = {}
    for one in judged:
        by_column.setdefault((one.run.backbone, one.run.temporal), []).append(one)
    present = {names: by_column[names][0].run for names in order if names in by_column}
    costs, cost_facts = measure_costs(present, out) if present else ({}, {})
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
    write_report(found, out, num_examples=num_examples)
    return Comparison(findings=found, report=out, num_failed=len(failures))
