"""The main findings of a comparison in sentences, and what could not be compared."""

from collections.abc import Sequence

import numpy as np

from motionaware.messages import count
from motionaware.report.cells import Cell
from motionaware.report.gains import Gain
from motionaware.report.results import ComparisonResults
from motionaware.report.tables import interval_in_points, mean_and_sd, p_value, points


def summary_lines(results: ComparisonResults) -> list[str]:
    """Return the sentences at the top of a report: data, best model and gain per backbone."""
    finished = results.finished_cells()
    if not finished:
        return ["No run finished.", source_line(results)]
    lines = [_data_line(results, finished), *_skipped_in_training(finished)]
    num_failed = sum(len(cell.failures) for cell in results.cells)
    if num_failed:
        lines.append(f"Left out of all results: {count(num_failed, 'failed run')} (see below).")
    lines += [_best_model_line(results, backbone) for backbone in _backbones(finished)]
    for gain in results.gains:
        if (gain.cell.temporal, gain.reference.temporal) in results.pairs:
            lines.append(
                f"{gain.cell.backbone}: gain of `{gain.cell.temporal}` over "
                f"`{gain.reference.temporal}`: {_gain_text(gain)}."
            )
    return [*lines, source_line(results)]


def source_line(results: ComparisonResults) -> str:
    """Return recipe, seeds, date, commit and machine in one line."""
    seeds = results.seeds()
    trained = f" {_seed_list(seeds).capitalize()}." if seeds else ""
    environment = results.environment
    return (
        f"Recipe: {results.recipe}.{trained} Report of {environment['date']}, "
        f"commit {environment['commit']}, on {environment['machine']}."
    )


def _data_line(results: ComparisonResults, finished: Sequence[Cell]) -> str:
    first = finished[0].runs[0]
    num_videos = len(first.labels)
    # All runs have the same videos, but some may have been evaluated when more were missing.
    num_skipped = max(run.num_skipped for cell in finished for run in cell.runs)
    videos = f"the {count(num_videos, 'video')} of the {results.split} split"
    if num_skipped:
        videos = (
            f"{num_videos} of {num_videos + num_skipped} videos of the {results.split} split "
            f"({num_skipped} skipped)"
        )
    return (
        f"{count(len(results.cells), 'model')}, {_seed_list(results.seeds())}; evaluated on "
        f"{videos}, {count(len(first.class_names), 'class')}."
    )


def _skipped_in_training(cells: Sequence[Cell]) -> list[str]:
    """Return a sentence about videos that were skipped in training, if there are any."""
    runs = [evaluated.run for cell in cells for evaluated in cell.runs]
    counts = [run.folder.count_skipped() for run in runs]
    if not any(counts):
        return []
    return [
        f"Skipped in training and validation: up to {count(max(counts), 'video')} per run, in "
        f"{sum(map(bool, counts))} of {len(runs)} runs; skipped.csv of each run lists them."
    ]


def _best_model_line(results: ComparisonResults, backbone: str) -> str:
    """Return the temporal module with the highest top-1, and its gain over the baseline."""
    cells = [cell for cell in results.finished_cells() if cell.backbone == backbone]
    best = max(cells, key=_mean_top1)
    tied = [f"`{cell.temporal}`" for cell in cells if _mean_top1(cell) == _mean_top1(best)]
    if len(tied) > 1:
        top1 = f"{100 * _mean_top1(best):.1f} %"
        return f"{backbone}: equal highest top-1 of {' and '.join(tied)}, {top1}."
    label = "highest top-1" if len(cells) > 1 else "top-1"
    line = f"{backbone}: {label} of `{best.temporal}`, {mean_and_sd(best.top1_by_seed())} %"
    for gain in results.gains:
        if gain.cell is best and gain.reference.temporal == results.baseline:
            line += f"; gain over the baseline `{results.baseline}`: {_gain_text(gain)}"
    return f"{line}."


def _gain_text(gain: Gain) -> str:
    interval = interval_in_points(gain.bootstrap.low, gain.bootstrap.high)
    significance = "significant" if gain.is_significant else "not significant"
    p = p_value(gain.p_holm)
    text = (
        f"{points(gain.difference)} points, 95 % CI {interval}, {significance} at the 5 % level "
        f"(Holm-corrected p {p if p.startswith('<') else f'= {p}'}"
    )
    if gain.t_interval is not None and gain.t_includes_zero:
        text += f"; 95 % CI by Student's t over {count(len(gain.seeds), 'seed')} "
        text += interval_in_points(*gain.t_interval)
    return f"{text})"


def missing_gains(results: ComparisonResults) -> list[str]:
    """Return one sentence per gain that could not be computed, with the reason."""
    computed = {(gain.cell.name, gain.reference.name) for gain in results.gains}
    lines = []
    for backbone in results.backbones():
        cells = {cell.temporal: cell for cell in results.cells if cell.backbone == backbone}
        baseline = cells.get(results.baseline)
        others = [temporal for temporal in cells if temporal != results.baseline]
        expected = [pair for pair in results.pairs if set(pair) <= set(cells)]
        if baseline is not None and baseline.runs:
            expected = [*((temporal, results.baseline) for temporal in others), *expected]
        elif others:
            reason = "it is not in this report" if baseline is None else "none of its runs finished"
            lines.append(f"{backbone}: no gains over the baseline `{results.baseline}`: {reason}.")
        for temporal, reference in dict.fromkeys(expected):
            if (cells[temporal].name, cells[reference].name) not in computed:
                failed = [f"`{name}`" for name in (temporal, reference) if not cells[name].runs]
                reason = (
                    f"no run of {' and '.join(failed)} finished" if failed else "no common seed"
                )
                lines.append(f"{backbone}: no gain of `{temporal}` over `{reference}`: {reason}.")
    return lines


def _seed_list(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _mean_top1(cell: Cell) -> float:
    return float(np.mean(cell.top1_by_seed()))


def _backbones(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.backbone for cell in cells))
