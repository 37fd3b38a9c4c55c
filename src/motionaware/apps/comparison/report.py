"""Columns and gains -> report.html, report.md, tables.tex, CSV files and pictures."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from motionaware.apps.comparison import blocks as b
from motionaware.apps.comparison import numbers
from motionaware.apps.comparison.columns import Column, Gain
from motionaware.apps.comparison.examples import choose_examples, draw_example
from motionaware.apps.comparison.figures import (
    draw_classes,
    draw_confusion,
    draw_costs,
    draw_curves,
)
from motionaware.apps.comparison.runs import different_keys
from motionaware.files import write_atomically


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that a report tells.

    Attributes:
        title: Its heading.
        columns: In the order of the tables.
        gains: All pairs of columns that were compared.
        pairs: Those pairs of temporal modules that were asked for by name.
        baseline: The temporal module that gains are counted from.
        split: On which runs were judged.
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


def write_report(found: Findings, out: Path, *, num_examples: int) -> None:
    """Write all files of a report; pictures go to `figures` below `out`.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    whole = [column for column in found.columns if column.runs]
    accuracy, gains = numbers.accuracy_table(found.columns), numbers.gains_table(found.gains)
    mcnemar = numbers.mcnemar_table(found.gains)
    blocks: list[b.Block] = [
        *_summary(found),
        b.Heading("Accuracy and cost"),
        accuracy,
        *_failures(found),
    ]
    if found.gains:
        blocks += [b.Heading("Gains"), gains, *_reading(found), mcnemar]
    if whole:
        blocks += [*_classes(found, out), *_pictures(found, out)]
        blocks += _examples(found, out, num=num_examples)
    blocks += _provenance(found)
    files_to_write = {
        "report.md": b.to_markdown(found.title, blocks, folder=out),
        "report.html": _page(found.title, b.to_html_body(blocks)),
        "tables.tex": b.to_latex([accuracy, gains, mcnemar] if found.gains else [accuracy]),
        "results.csv": b.to_csv(
            numbers.RESULTS_HEADER,
            numbers.results_rows(found.columns, found.gains, found.baseline),
        ),
        "runs.csv": b.to_csv(numbers.RUNS_HEADER, numbers.runs_rows(found.columns)),
    }
    if whole:
        files_to_write["classes.csv"] = b.to_csv(*numbers.class_rows(found.columns))
    for name, text in files_to_write.items():
        write_atomically(out / name, text.encode())


def _summary(found: Findings) -> list[b.Block]:
    whole = [column for column in found.columns if column.runs]
    if not whole:
        return [b.Words("No run finished.")]
    first = whole[0].runs[0]
    seeds = sorted({seed for column in whole for seed in column.seeds})
    lines = [
        f"{len(found.columns)} columns, seeds {', '.join(map(str, seeds))}; judged on the "
        f"{len(first.labels)} videos of the {found.split} split, {len(first.class_names)} classes.",
    ]
    for backbone in dict.fromkeys(column.backbone for column in whole):
        own = [column for column in whole if column.backbone == backbone]
        best = max(own, key=lambda column: float(np.mean(column.top1())))
        line = f"{backbone}: the highest is `{best.temporal}`, "
        line += f"{numbers.mean_and_spread(best.top1())} % top-1"
        for gain in found.gains:
            if gain.one is best and gain.other.temporal == found.baseline:
                line += f"; over `{found.baseline}` {_gain_words(gain)}"
        lines.append(line + ".")
    for gain in found.gains:
        if (gain.one.temporal, gain.other.temporal) in found.pairs:
            lines.append(
                f"{gain.one.backbone}: `{gain.one.temporal}` over `{gain.other.temporal}` "
                f"{_gain_words(gain)}."
            )
    return [b.Bullets(tuple(lines))]


def _gain_words(gain: Gain) -> str:
    low, high = numbers.points(gain.interval.low), numbers.points(gain.interval.high)
    verdict = "told from zero" if gain.stands else "not told from zero"
    return (
        f"{numbers.points(gain.difference)} points, 95 % interval [{low}, {high}], {verdict} "
        f"(p {numbers.p_words(gain.p_holm)}, corrected)"
    )


def _failures(found: Findings) -> list[b.Block]:
    lines = tuple(f"failed: {words}" for column in found.columns for words in column.failures)
    return [b.Bullets(lines)] if lines else []


def _reading(found: Findings) -> list[b.Block]:
    num_runs = sum(len(gain.runs) for gain in found.gains)
    words = (
        "How to read this. An interval is a paired percentile bootstrap: 10,000 times, seeds and "
        "videos are drawn with replacement, the same for both columns, and the gain is taken again. "
        "A p is that of zero gain: of columns by the same bootstrap, of two runs by the exact "
        "McNemar test, which knows of videos alone. Who looks at many pairs finds some by chance: "
        f"so p is corrected by Holm's method, over all {len(found.gains)} pairs of columns and over "
        f"all {num_runs} pairs of runs. Below 0.05 a gain is told from zero."
    )
    fewest = min(len(gain.seeds) for gain in found.gains)
    if fewest == 1:
        words += (
            " Some pairs share one seed only: their intervals speak of other videos, not of other "
            "seeds."
        )
    elif fewest < 5:
        words += (
            f" With {fewest} seeds the bootstrap has few to draw from, and shows rather too little "
            "of the spread between seeds: look at ± as well."
        )
    return [b.Words(words)]


def _classes(found: Findings, out: Path) -> list[b.Block]:
    whole = [column for column in found.columns if column.runs]
    _, rows = numbers.class_rows(found.columns)
    data = {
        "classes": [row[0] for row in rows],
        "counts": [row[1] for row in rows],
        "columns": [
            {"name": column.name, "shares": [row[place] for row in rows]}
            for place, column in enumerate(whole, start=2)
        ],
        "start": [0, min(1, len(whole) - 1)],
    }
    shown = _shown_gains(found)
    if shown:
        data["start"] = [whole.index(shown[0].one), whole.index(shown[0].other)]
    made: list[b.Block] = [
        b.Heading("Class by class"),
        b.Chooser(
            json.dumps(data),
            "report.html draws this for any two columns; classes.csv has all numbers.",
        ),
    ]
    for gain in shown:
        name = f"{gain.one.temporal}-over-{gain.other.temporal}"
        path = _figure(out, "classes", gain.one.backbone, name)
        draw_classes(gain, path)
        most, least = numbers.extreme_classes(gain)
        made.append(
            b.Picture(
                path,
                f"{gain.one.backbone}, {gain.one.temporal} less {gain.other.temporal}, class by "
                f"class. Most: {most[0]}, {numbers.points(most[1])} points; least: {least[0]}, "
                f"{numbers.points(least[1])} points.",
            )
        )
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


def _pictures(found: Findings, out: Path) -> list[b.Block]:
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
        made.append(b.Picture(path, words))
    made.append(b.Heading("Confusion"))
    for backbone in backbones:
        path = _figure(out, "confusion", backbone)
        draw_confusion(found.columns, backbone, path)
        words = f"{backbone}: share of each class's videos taken for each class, mean over seeds."
        made.append(b.Picture(path, words))
    return made


def _examples(found: Findings, out: Path, *, num: int) -> list[b.Block]:
    made: list[b.Block] = []
    for gain in _shown_gains(found):
        for number, example in enumerate(choose_examples(gain, num=num)):
            right, wrong = example.right.temporal, example.wrong.temporal
            path = _figure(out, "example", gain.one.backbone, f"{right}-not-{wrong}-{number}")
            draw_example(example, path, split=found.split)
            words = (
                f"{gain.one.backbone}, {example.video}: `{right}` is right with every seed, "
                f"`{wrong}` with none; drawn for seed {example.seed}. Squares: attention of each "
                "frame (row) to each (column), 0 dark, 1 bright."
            )
            made.append(b.Picture(path, words))
    return [b.Heading("Clips that one has right and the other wrong"), *made] if made else []


def _provenance(found: Findings) -> list[b.Block]:
    lines = [f"recipe: {found.recipe}"]
    lines += [f"{key}: {value}" for key, value in found.facts.items()]
    if found.cost_facts:
        facts = found.cost_facts
        lines.append(
            f"costs: measured {facts['date']} on {facts['machine']}; device {facts['device']}, "
            f"{facts['threads']} threads, median of {facts['repeats']} rounds; delete costs.json to "
            "measure again"
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
    return [b.Heading("Where this comes from"), b.Bullets(tuple(lines))]


def _figure(out: Path, *names: str) -> Path:
    safe = "-".join(re.sub(r"[^\w+.-]+", "_", name).strip("_") for name in names)
    return out / "figures" / f"{safe}.png"


def _page(title: str, body: str) -> str:
    parts = {
        name: files(__package__).joinpath(f"page.{name}").read_text(encoding="utf-8")
        for name in ("css", "js", "html")
    }
    page = parts["html"]
    for mark, text in (
        ("{{title}}", escape(title)),
        ("{{css}}", parts["css"]),
        ("{{js}}", parts["js"]),
        ("{{body}}", body),  # last: what it holds is not looked through
    ):
        page = page.replace(mark, text)
    return page
