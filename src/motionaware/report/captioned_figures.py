"""Draw all figures of a report below `figures/`, and give each a caption."""

from dataclasses import dataclass
from pathlib import Path

from motionaware.report.examples import choose_examples, draw_example
from motionaware.report.figures import (
    draw_class_gains,
    draw_confusion,
    draw_costs,
    draw_curves,
)
from motionaware.report.gains import extreme_classes
from motionaware.report.results import ComparisonResults
from motionaware.report.runs import safe_name
from motionaware.report.tables import points


@dataclass(frozen=True)
class CaptionedFigure:
    """A PNG file with its caption.

    Attributes:
        path: The file.
        caption: Text below the figure.
        is_narrow: Two narrow figures fit next to each other on a wide screen.
    """

    path: Path
    caption: str
    is_narrow: bool = False


def draw_cost_figures(results: ComparisonResults, out: Path) -> list[CaptionedFigure]:
    """Draw accuracy over cost."""
    path = _figure_path(out, "cost")
    draw_costs(results.finished_cells(), path)
    caption = "Top-1 over multiply-adds and latency; error bars: ± one standard deviation."
    return [CaptionedFigure(path, caption)]


def draw_curve_figures(results: ComparisonResults, out: Path) -> list[CaptionedFigure]:
    """Draw the learning curves of each backbone."""
    figures = []
    for backbone in _finished_backbones(results):
        path = _figure_path(out, "curves", backbone)
        draw_curves(results.cells, backbone, path)
        caption = f"{backbone}: top-1 on the validation split, mean and range over seeds."
        figures.append(CaptionedFigure(path, caption, is_narrow=True))
    return figures


def draw_confusion_figures(results: ComparisonResults, out: Path) -> list[CaptionedFigure]:
    """Draw the confusion matrices of each backbone."""
    figures = []
    for backbone in _finished_backbones(results):
        path = _figure_path(out, "confusion", backbone)
        selection = draw_confusion(results.cells, backbone, path)
        caption = (
            f"{backbone}: share of each true class (row) that is predicted as each class "
            "(column), mean over seeds."
        )
        if selection:
            caption += f" Shown are {selection}, so a row may sum to less than 1."
        figures.append(CaptionedFigure(path, caption))
    return figures


def draw_class_figures(results: ComparisonResults, out: Path) -> list[CaptionedFigure]:
    """Draw the per-class differences of the highlighted gains."""
    figures = []
    for gain in results.highlighted_gains():
        backbone, temporal = gain.cell.backbone, gain.cell.temporal
        reference = gain.reference.temporal
        path = _figure_path(out, "classes", backbone, temporal, "over", reference)
        draw_class_gains(gain, path)
        largest, smallest = extreme_classes(gain)
        caption = f"{backbone}: per-class difference of top-1, `{temporal}` minus `{reference}`."
        if largest.difference == smallest.difference:
            caption += f" All classes: {points(largest.difference)} points."
        else:
            caption += (
                f" Largest: {largest.label()}, {points(largest.difference)} points; smallest: "
                f"{smallest.label()}, {points(smallest.difference)} points."
            )
        figures.append(CaptionedFigure(path, caption, is_narrow=True))
    return figures


def draw_example_figures(
    results: ComparisonResults, out: Path, *, num: int
) -> list[CaptionedFigure]:
    """Draw up to `num` example clips in each direction for each highlighted gain."""
    figures = []
    for gain in results.highlighted_gains():
        for index, example in enumerate(choose_examples(gain, num=num)):
            backbone = gain.cell.backbone
            correct, wrong = example.correct.temporal, example.wrong.temporal
            path = _figure_path(out, "example", backbone, correct, "not", wrong, str(index))
            num_maps = draw_example(example, path, split=results.split)
            caption = (
                f"{backbone}, {example.video_name}: `{correct}` is correct with every seed, "
                f"`{wrong}` with none; shown for seed {example.seed}."
            )
            if num_maps:
                caption += (
                    " Matrices: attention weight from each frame (row) to each frame (column); "
                    "dark is 0, bright is 1."
                )
            figures.append(CaptionedFigure(path, caption))
    return figures


def remove_figures(out: Path) -> None:
    """Delete the figures of an earlier report, which may show other pairs and clips."""
    for kind in ("classes-*", "confusion-*", "cost", "curves-*", "example-*"):
        for path in (out / "figures").glob(f"{kind}.png"):
            path.unlink()


def _figure_path(out: Path, *names: str) -> Path:
    return out / "figures" / f"{'-'.join(map(safe_name, names))}.png"


def _finished_backbones(results: ComparisonResults) -> list[str]:
    return list(dict.fromkeys(cell.backbone for cell in results.finished_cells()))
