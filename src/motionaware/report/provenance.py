"""The provenance of a report: recipe, environment, training runs and their differences."""

from dataclasses import replace
from pathlib import Path

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import recipe_to_yaml
from motionaware.messages import count
from motionaware.report.results import ComparisonResults
from motionaware.report.runs import Run, recipe_differences
from motionaware.temporal.own import short_name

_VARIED_KEYS = frozenset({"model.backbone", "model.temporal", "train.seed"})


def provenance_lines(results: ComparisonResults) -> list[str]:
    """Return recipe, environments, training dates and differing keys, one line each."""
    lines = [f"recipe: {results.recipe}"]
    lines += [f"{key}: {value}" for key, value in results.environment.items()]
    costs = results.cost_environment
    if costs:
        lines.append(
            f"costs: measured {costs['date']} at commit {costs['commit']} on {costs['machine']}; "
            f"device {costs['device']}, {count(int(costs['threads']), 'thread')}, median of "
            f"{count(int(costs['repeats']), 'repetition')}; delete costs.json to measure again"
        )
    runs = [evaluated.run for cell in results.cells for evaluated in cell.runs]
    for key in ("commit", "machine"):
        recorded = sorted({run.provenance().get(key, "not recorded") for run in runs})
        lines.append(f"{key} of the training runs: {'; '.join(recorded)}")
    dates = sorted(date for run in runs if (date := run.provenance().get("date")))
    if dates:
        lines.append(f"training runs finished: {dates[0]} to {dates[-1]}")
    lines += _differing_keys(runs)
    lines.append("runs.csv lists every run with its folder, accuracy and time")
    return lines


def _differing_keys(runs: list[Run]) -> list[str]:
    """Return one line per recipe key in which the runs differ, with the values."""
    keys = {key for run in runs for key in recipe_differences(runs[0].recipe, run.recipe)}
    lines = []
    for key in sorted(keys - _VARIED_KEYS):
        group, _, name = key.partition(".")
        values = {
            f"{run.backbone} {run.temporal}: {getattr(getattr(run.recipe, group), name)}"
            for run in runs
        }
        lines.append(f"{key} differs between runs: {'; '.join(sorted(values))}")
    return lines


def shareable_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML, with absolute folders cut to their last part.

    A report may be shared, so it does not show the folders of a machine.
    """
    data = recipe.data
    folder_names = {
        key: Path(path).name
        for key in ("root", "cache_dir")
        if (path := getattr(data, key)) and Path(path).is_absolute()
    }
    model = replace(recipe.model, temporal=short_name(recipe.model.temporal))
    return recipe_to_yaml(replace(recipe, model=model, data=replace(data, **folder_names)))
