"""The sections of a report that draw pictures, and the one that says where all comes from."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import recipe_to_yaml
from motionaware.messages import count
from motionaware.report import blocks as b
from motionaware.report import csv_export as rows
from motionaware.report import tables as numbers
from motionaware.report.columns import Column, Gain
from motionaware.report.examples import choose_examples, draw_example
from motionaware.report.figures import (
    draw_classes,
    draw_confusion,
    draw_costs,
    draw_curves,
)
from motionaware.report.train_runs import different_keys, safe_name
from motionaware.temporal.own import short_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that a report tells.

    Attributes:
        title: Its heading.
        columns: In the order of the tables.
        gains: All pairs of columns that were compared.
        pairs: Those pairs of temporal modules that were asked for by name.
        baseline: The temporal module that gains are counted from.
        split: On which runs were evaluated.
        recipe: Where the recipe came from.
        facts: When, where and at which commit the report was made.
        cost_facts: Likewise the costs.
    """

    title: str
    columns: tuple[Column, ...]
    gains: tuple[Gain, ...]
    pairs: tuple[tuple[str, str], ...]
    baseline: str
    split: str
    recipe: str
    facts: dict[str, str]
    cost_facts: dict[str, str] = field(default_factory=dict)


def classes_section(found: Findings, out: Path) -> list[b.Block]:
    """What each class gains: a chooser of two columns, and pictures of the pairs that matter."""
    whole = [column for column in found.columns if column.runs]
    _, classes = rows.class_rows(found.columns)
    counts = [row[1] for row in classes]
    data = {
        "classes": [row[0] for row in classes],
        "counts": counts,
        "columns": [
            {
                "name": column.name,
                "seeds": column.seeds,
                "shares": [rows.as_numbers(column.per_class([one])) for one in column.seeds],
            }
            for column in whole
        ],
        "start": [0, min(1, len(whole) - 1)],
    }
    shown = _shown_gains(found)
    if shown:
        data["start"] = [whole.index(shown[0].one), whole.index(shown[0].other)]
    made: list[b.Block] = [
        b.Heading("Class by class"),
        b.Words(
            f"A class has {numbers.range_words([count for count in counts if count])}: the "
            "difference of a single class is described, not tested, and the largest of many is "
            "large by chance as well."
        ),
        b.Chooser(
            json.dumps(data),
            "report.html draws this for any two columns; classes.csv has all numbers.",
        ),
    ]
    for gain in shown:
        path = _figure(
            out, "classes", gain.one.backbone, gain.one.temporal, "over", gain.other.temporal
        )
        draw_classes(gain, path)
        most, least = numbers.extreme_classes(gain)
        words = f"{gain.one.backbone}, {gain.one.temporal} less {gain.other.temporal}, class by "
        if most.gain != least.gain:
            words += (
                f"class. Most: {most.words()}, {numbers.points(most.gain)} points; least: "
                f"{least.words()}, {numbers.points(least.gain)} points."
            )
        else:
            words += f"class: all the same, {numbers.points(most.gain)} points."
        made.append(b.Picture(path, words, half=True))
    return made


def _shown_gains(found: Findings) -> list[Gain]:
    """Of each backbone the largest gain over the baseline, and the pairs that were asked for."""
    shown = []
    for backbone in dict.fromkeys(column.backbone for column in found.columns):
        own = [gain for gain in found.gains if gain.one.backbone == backbone]
        over = [gain for gain in own if gain.other.temporal == found.baseline]
        shown += sorted(over, key=lambda gain: -gain.difference)[:1]
        named = [g for g in own if (g.one.temporal, g.other.temporal) in found.pairs]
        shown += [gain for gain in named if gain not in shown]
    return shown


def pictures_section(found: Findings, out: Path) -> list[b.Block]:
    """Accuracy against cost, learning curves, confusion."""
    whole = [column for column in found.columns if column.runs]
    backbones = list(dict.fromkeys(column.backbone for column in whole))
    path = out / "figures" / "cost.png"
    draw_costs(whole, path)
    made: list[b.Block] = [
        b.Heading("Accuracy against cost"),
        b.Picture(path, "Top-1 against multiply-adds and latency; bars: ± one standard deviation."),
        b.Heading("Learning curves"),
    ]
    for backbone in backbones:
        path = _figure(out, "curves", backbone)
        draw_curves(found.columns, backbone, path)
        words = f"{backbone}: top-1 on validation, mean and range over seeds."
        made.append(b.Picture(path, words, half=True))
    made.append(b.Heading("Confusion"))
    for backbone in backbones:
        path = _figure(out, "confusion", backbone)
        left_out = draw_confusion(found.columns, backbone, path)
        words = f"{backbone}: share of each class's videos taken for each class, mean over seeds."
        if left_out:
            words += f" Drawn are {left_out}; a row does not add up to 1 where others are left out."
        made.append(b.Picture(path, words))
    return made


def examples_section(found: Findings, out: Path, *, num: int) -> list[b.Block]:
    """Clips that one column has right and the other wrong."""
    made: list[b.Block] = []
    for gain in _shown_gains(found):
        for number, example in enumerate(choose_examples(gain, num=num)):
            right, wrong = example.right.temporal, example.wrong.temporal
            path = _figure(out, "example", gain.one.backbone, right, "not", wrong, str(number))
            num_maps = draw_example(example, path, split=found.split)
            words = (
                f"{gain.one.backbone}, {example.video}: `{right}` is right with every seed, "
                f"`{wrong}` with none; drawn for seed {example.seed}."
            )
            if num_maps:
                words += (
                    " Squares: attention of each frame (row) to each (column), 0 dark, 1 bright."
                )
            made.append(b.Picture(path, words))
    words = (
        "Chosen, not typical: where the probabilities of the right class are furthest apart, no "
        "class twice."
    )
    heading = b.Heading("Clips that one has right and the other wrong")
    return [heading, b.Words(words), *made] if made else []


def provenance_section(found: Findings) -> list[b.Block]:
    """Recipe, commits, machines, dates, versions, and in what the runs differ."""
    lines = [f"recipe: {found.recipe}"]
    lines += [f"{key}: {value}" for key, value in found.facts.items()]
    if found.cost_facts:
        facts = found.cost_facts
        lines.append(
            f"costs: measured {facts['date']} at commit {facts['commit']} on {facts['machine']}; "
            f"device {facts['device']}, "
            f"{count(int(facts['threads']), 'thread')}, median of "
            f"{count(int(facts['repeats']), 'round')}; delete costs.json "
            "to measure again"
        )
    runs = [one.run for column in found.columns for one in column.runs]
    for key in ("commit", "machine"):
        said = sorted({run.provenance().get(key, "not recorded") for run in runs})
        lines.append(f"{key} of the trainings: {'; '.join(said)}")
    dates = sorted(date for run in runs if (date := run.provenance().get("date")))
    if dates:
        lines.append(f"trainings ended: {dates[0]} to {dates[-1]}")
    varied = {"model.backbone", "model.temporal", "train.seed"}
    if runs:
        keys = {key for run in runs for key in different_keys(runs[0].recipe, run.recipe)} - varied
        for key in sorted(keys):
            group, _, name = key.partition(".")
            values = sorted(
                {
                    f"{run.backbone} {run.temporal}: {getattr(getattr(run.recipe, group), name)}"
                    for run in runs
                }
            )
            lines.append(f"not the same for all, {key}: {'; '.join(values)}")
    lines.append("runs.csv names every run, its folder and its numbers")
    made: list[b.Block] = [b.Heading("Where this comes from"), b.Bullets(tuple(lines))]
    if runs:
        made.append(b.Folded(f"The recipe of {runs[0].name}", _shown_recipe(runs[0].recipe)))
    return made


def _shown_recipe(recipe: Recipe) -> str:
    """As YAML; of folders named from the root on, only the last part: a report may travel."""
    data = recipe.data
    short = {
        key: Path(path).name
        for key in ("root", "cache_dir")
        if (path := getattr(data, key)) and Path(path).is_absolute()
    }
    model = replace(recipe.model, temporal=short_name(recipe.model.temporal))
    return recipe_to_yaml(replace(recipe, model=model, data=replace(data, **short)))


def _figure(out: Path, *names: str) -> Path:
    return out / "figures" / f"{'-'.join(map(safe_name, names))}.png"


def remove_figures(out: Path) -> None:
    """Take away the pictures of an earlier report: of other pairs, perhaps, and other clips."""
    for kind in ("classes-*", "confusion-*", "cost", "curves-*", "example-*"):
        for path in (out / "figures").glob(f"{kind}.png"):
            path.unlink()
