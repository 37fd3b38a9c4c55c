"""Columns and gains -> report.html, report.md, tables.tex, CSV files and pictures."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from motionaware import report
from motionaware.files import write_atomically
from motionaware.messages import count
from motionaware.report import blocks as b
from motionaware.report import csv_export as rows
from motionaware.report import tables as numbers
from motionaware.report.columns import Column, Gain
from motionaware.report.sections import (
    Findings,
    classes_section,
    examples_section,
    pictures_section,
    provenance_section,
    remove_figures,
)


def write_report(found: Findings, out: Path, *, num_examples: int) -> None:
    """Write all files of a report; pictures go to `figures` below `out`.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    remove_figures(out)
    whole = [column for column in found.columns if column.runs]
    accuracy, gains = numbers.accuracy_table(found.columns), numbers.gains_table(found.gains)
    mcnemar = numbers.mcnemar_table(found.gains)
    blocks: list[b.Block] = [
        *_summary(found),
        b.Heading("Accuracy and cost"),
        accuracy,
        *_failures(found),
        *_not_compared(found),
    ]
    if found.gains:
        blocks += [b.Heading("Gains"), gains, *_reading(found), mcnemar]
    if whole:
        blocks += [*classes_section(found, out), *pictures_section(found, out)]
        blocks += examples_section(found, out, num=num_examples)
    blocks += provenance_section(found)
    files_to_write = {
        "report.md": b.to_markdown(found.title, blocks, folder=out),
        "report.html": _page(found.title, b.to_html_body(blocks)),
        "tables.tex": f"% {_source(found)}\n"
        + b.to_latex([accuracy, gains, mcnemar] if found.gains else [accuracy]),
        "results.csv": b.to_csv(
            rows.RESULTS_HEADER,
            rows.results_rows(found.columns, found.gains, found.baseline),
        ),
        "gains.csv": b.to_csv(rows.GAINS_HEADER, rows.gains_rows(found.gains)),
        "runs.csv": b.to_csv(rows.RUNS_HEADER, rows.runs_rows(found.columns, out)),
    }
    if whole:
        files_to_write["classes.csv"] = b.to_csv(*rows.class_rows(found.columns))
    for name, text in files_to_write.items():
        write_atomically(out / name, text.encode())


def _summary(found: Findings) -> list[b.Block]:
    whole = [column for column in found.columns if column.runs]
    if not whole:
        return [b.Words("No run finished."), b.Words(_source(found))]
    first = whole[0].runs[0]
    seeds = sorted({seed for column in whole for seed in column.seeds})
    # All were judged on the same videos; what was skipped may have been counted at other times.
    num_skipped = max(run.num_skipped for column in whole for run in column.runs)
    videos = f"the {count(len(first.labels), 'video')} of the {found.split} split"
    if num_skipped:
        total = len(first.labels) + num_skipped
        videos = f"{len(first.labels)} of {total} videos of the {found.split} split, "
        videos += f"{num_skipped} skipped"
    lines = [
        f"{count(len(found.columns), 'column')}, {_seed_words(seeds)}; judged on "
        f"{videos}, {count(len(first.class_names), 'class')}.",
        *_left_out(whole),
    ]
    num_failed = sum(len(column.failures) for column in found.columns)
    if num_failed:
        lines.append(f"{count(num_failed, 'run')} failed, see below: numbers are without.")
    for backbone in dict.fromkeys(column.backbone for column in whole):
        own = [column for column in whole if column.backbone == backbone]
        best = max(own, key=_mean_top1)
        ties = [f"`{one.temporal}`" for one in own if _mean_top1(one) == _mean_top1(best)]
        if len(ties) > 1:
            shared = f"{100 * _mean_top1(best):.1f} % top-1"
            lines.append(f"{backbone}: {' and '.join(ties)} are equal, with {shared}.")
            continue
        line = f"{backbone}: the highest is " if len(own) > 1 else f"{backbone}: "
        line += f"`{best.temporal}`, {numbers.mean_and_spread(best.top1())} % top-1"
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
    lines.append(_source(found))
    return [b.Bullets(tuple(lines))]


def _left_out(columns: list[Column]) -> list[str]:
    """What the runs skipped while they trained, in a line; none where there is nothing to say."""
    runs = [evaluated.run for column in columns for evaluated in column.runs]
    counts = [run.folder.count_skipped() for run in runs]
    if not any(counts):
        return []
    return [
        f"Skipped in training and validation: up to {max(counts)} videos a run, in "
        f"{sum(map(bool, counts))} of {len(runs)} runs; each lists its own in skipped.csv."
    ]


def _source(found: Findings) -> str:
    """On one line: recipe, commit, seeds, machine, date."""
    seeds = sorted({seed for column in found.columns for seed in column.seeds})
    trained = f" {_seed_words(seeds).capitalize()}." if seeds else ""
    return (
        f"Recipe: {found.recipe}.{trained} Report of {found.facts['date']}, "
        f"commit {found.facts['commit']}, on {found.facts['machine']}."
    )


def _seed_words(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _mean_top1(column: Column) -> float:
    return float(np.mean(column.top1()))


def _gain_words(gain: Gain) -> str:
    interval = numbers.range_of(gain.interval.low, gain.interval.high)
    verdict = "significant" if gain.is_significant else "not significant"
    unsteady = ""
    if gain.t_interval is not None and not gain.steady:
        unsteady = f"; by t, over {len(gain.seeds)} seeds, {numbers.range_of(*gain.t_interval)}"
    return (
        f"{numbers.points(gain.difference)} points, 95 % interval {interval}, {verdict} "
        f"at 5 % (p {numbers.p_words(gain.p_holm)}, corrected{unsteady})"
    )


def _failures(found: Findings) -> list[b.Block]:
    lines = tuple(f"failed: {words}" for column in found.columns for words in column.failures)
    return [b.Bullets(lines)] if lines else []


def _not_compared(found: Findings) -> list[b.Block]:
    """The pairs that a reader would look for in vain, and why."""
    made = {(gain.one.name, gain.other.name) for gain in found.gains}
    lines = []
    for backbone in dict.fromkeys(column.backbone for column in found.columns):
        own = {one.temporal: one for one in found.columns if one.backbone == backbone}
        base, others = own.get(found.baseline), [one for one in own if one != found.baseline]
        wanted = [pair for pair in found.pairs if set(pair) <= set(own)]
        if base is not None and base.runs:
            wanted = [*((one, found.baseline) for one in others), *wanted]
        elif others:
            why = "there is no such column" if base is None else "no run of it finished"
            lines.append(f"{backbone}: no gains over `{found.baseline}`: {why}.")
        for one, other in dict.fromkeys(wanted):
            if (own[one].name, own[other].name) not in made:
                lost = [f"`{name}`" for name in (one, other) if not own[name].runs]
                why = f"no run of {' and '.join(lost)} finished" if lost else "no seed in common"
                lines.append(f"{backbone}: `{one}` over `{other}` cannot be said: {why}.")
    return [b.Bullets(tuple(lines))] if lines else []


def _all_pairs(num: int) -> str:
    return "the one pair" if num == 1 else f"all {num} pairs"


def _reading(found: Findings) -> list[b.Block]:
    num_runs = sum(len(gain.runs) for gain in found.gains)
    words = (
        "How to read this. An interval is a paired percentile bootstrap: 10,000 times, seeds and "
        "videos are drawn with replacement, the same for both columns, and the gain is taken "
        "again. A p is that of no gain: of columns by the same bootstrap, of two runs by the exact "
        "McNemar test, which knows of videos alone. Who looks at many pairs finds some by chance: "
        "so p is corrected by Holm's method, over "
        f"{_all_pairs(len(found.gains))} of columns and over {_all_pairs(num_runs)} of runs. "
        "The interval by Student's t takes the spread between seeds for what so few can tell of "
        "it. Significant means a corrected p below 0.05, and no zero in the interval by t."
    )
    fewest = min(len(gain.seeds) for gain in found.gains)
    if fewest == 1:
        some, their = ("The pair shares", "its interval speaks")
        if len(found.gains) > 1:
            some, their = ("Some pairs share", "their intervals speak")
        words += f" {some} one seed only: {their} of other videos, not of other seeds."
    elif fewest < 5:
        words += (
            f" With {fewest} seeds the bootstrap has few to draw from: where ± is several points "
            "its intervals are too narrow and its p too small, and those by t are to be trusted."
        )
    return [b.Words(words)]


def _page(title: str, body: str) -> str:
    parts = {
        name: files(report).joinpath(f"page.{name}").read_text(encoding="utf-8")
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
