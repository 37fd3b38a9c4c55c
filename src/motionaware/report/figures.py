"""The figures of a report, drawn with matplotlib and written as PNG files."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from motionaware.engine.statistics import sample_sd
from motionaware.explain.drawing import import_figure_class, save_figure
from motionaware.explain.text_rendering import shorten, text_width
from motionaware.report.cells import Cell
from motionaware.report.gains import Gain

_COLOURS = (  # Paul Tol's bright and dark schemes, which colour-blind readers can distinguish
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb",
    "#222255", "#994455", "#005500", "#997700", "#004488", "#ee99aa", "#555555",
)  # fmt: skip
_MARKERS = "osD^vP*X"
_MAX_BARS = 60  # classes in a bar chart
MAX_CONFUSION_CLASSES = 30  # classes in a confusion matrix
_MATRIX_INCHES = 2.5  # side of a confusion matrix with few classes
_MATRIX_TITLE_WIDTH = 40  # characters per line
_LEGEND_WIDTH = 36  # characters per line
_LABEL_WIDTH = 44  # characters of a class name


class Style(NamedTuple):
    """Line colour, line style and marker fill of a temporal module."""

    colour: str
    line: str
    fill: str


def style_of(cells: Sequence[Cell], temporal: str) -> Style:
    """Return the style of a temporal module, the same in every figure of a report.

    Modules beyond the number of colours reuse them with dashed lines and hollow markers.
    """
    index = list(dict.fromkeys(cell.temporal for cell in cells)).index(temporal)
    colour = _COLOURS[index % len(_COLOURS)]
    return Style(colour, "-", colour) if index < len(_COLOURS) else Style(colour, "--", "white")


def draw_curves(cells: Sequence[Cell], backbone: str, path: Path) -> None:
    """Draw validation top-1 per epoch: the mean over seeds as a line, the range as a band."""
    figure = import_figure_class()(
        figsize=(7.0, _height_of_legend(cells, 4.0)), layout="constrained"
    )
    axes: Any = figure.subplots()
    axes.grid(alpha=0.3)
    for cell in cells:
        if cell.backbone != backbone or not cell.runs:
            continue
        curves = 100 * cell.validation_curves()
        epochs = np.arange(1, curves.shape[1] + 1)
        colour, line, _ = style_of(cells, cell.temporal)
        label = _wrap(cell.temporal, _LEGEND_WIDTH)
        axes.plot(epochs, curves.mean(axis=0), line, color=colour, label=label, marker=".")
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15)
    axes.set(xlabel="epoch", ylabel="validation top-1, %", title=backbone)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # ticks at whole epochs
    figure.legend(loc="outside right upper", fontsize=8)
    save_figure(figure, path)


def draw_costs(cells: Sequence[Cell], path: Path) -> None:
    """Draw top-1 over multiply-adds and over latency; error bars are one standard deviation."""
    height = _height_of_legend(cells, 4.4)
    figure = import_figure_class()(figsize=(10.0, height), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    backbones = list(dict.fromkeys(cell.backbone for cell in cells))
    markers = {name: _MARKERS[index % len(_MARKERS)] for index, name in enumerate(backbones)}
    for cell in cells:
        if cell.cost is None:
            continue
        top1 = cell.top1_by_seed()
        mean, error = 100 * float(np.mean(top1)), 100 * (sample_sd(top1) or 0.0)
        costs = (cell.cost.gmac, cell.cost.latency_seconds * 1e3)
        style = style_of(cells, cell.temporal)
        for axes, cost in zip(panels, costs, strict=True):
            axes.errorbar(
                cost,
                mean,
                yerr=error,
                color=style.colour,
                markerfacecolor=style.fill,
                marker=markers[cell.backbone],
                linestyle="none",
                capsize=3,
            )
    panels[0].set(xlabel="GMAC per clip", ylabel="top-1, %")
    panels[1].set(xlabel="latency per clip, ms")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=5)
    modules = list(dict.fromkeys(cell.temporal for cell in cells))
    handles = [
        _legend_marker(panels[0], "s", style_of(cells, name), _wrap(name, _LEGEND_WIDTH))
        for name in modules
    ]
    if len(backbones) > 1:
        black = Style("black", "-", "black")
        handles += [_legend_marker(panels[0], mark, black, name) for name, mark in markers.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    save_figure(figure, path)


def _legend_marker(axes: Any, marker: str, style: Style, label: str) -> Any:
    """Return a legend entry: colours are temporal modules, markers are backbones."""
    colours = {"color": style.colour, "markerfacecolor": style.fill}
    (line,) = axes.plot([], [], marker=marker, linestyle="none", label=label, **colours)
    return line


def draw_confusion(cells: Sequence[Cell], backbone: str, path: Path) -> str:
    """Draw the confusion matrices of a backbone's cells next to each other.

    With more than `MAX_CONFUSION_CLASSES` classes, only the most confused ones are drawn, in
    their usual order.

    Returns:
        Which classes are drawn; "" if all are.
    """
    drawn = [cell for cell in cells if cell.backbone == backbone and cell.runs]
    class_names = drawn[0].runs[0].class_names
    matrices = [cell.confusion_matrix() for cell in drawn]
    chosen = most_confused_classes(matrices)
    matrices = [matrix[np.ix_(chosen, chosen)] for matrix in matrices]
    labels = [shorten(class_names[index], _LABEL_WIDTH) for index in chosen]
    titles = [_wrap(cell.temporal, _MATRIX_TITLE_WIDTH) for cell in drawn]
    selection = ""
    if len(chosen) < len(class_names):
        selection = f"the {len(chosen)} most confused of {len(class_names)} classes"

    # Lengths in inches: matrices have one size, and labels get the space that they need.
    side = max(_MATRIX_INCHES, 0.15 * len(labels))
    num_columns = max(1, min(len(drawn), round(12 / (side + 0.3))))
    num_rows = -(-len(drawn) // num_columns)
    label_space = 0.25 + 0.06 * max(map(text_width, labels))
    title_space = 0.15 * max(title.count("\n") + 1 for title in titles) + 0.15
    heading_space = 0.6 if selection else 0.4
    width = label_space + 0.25 + num_columns * (side + 0.3) + 0.9
    height = heading_space + num_rows * (side + title_space) + label_space + 0.25
    figure = import_figure_class()(figsize=(width, height))
    heading = f"{backbone}\n{selection}" if selection else backbone
    figure.suptitle(heading, y=1 - 0.1 / height, fontsize=10, va="top")
    image = None
    for index, (matrix, title) in enumerate(zip(matrices, titles, strict=True)):
        row, column = divmod(index, num_columns)
        left = label_space + 0.25 + column * (side + 0.3)
        bottom = height - heading_space - (row + 1) * (side + title_space)
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        image = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
        axes.set_title(title, fontsize=8, pad=4)
        axes.set(xticks=[], yticks=[])
        if column == 0:
            axes.set_yticks(range(len(labels)), labels, fontsize=7)
            axes.set_ylabel("true class", fontsize=8)
        if index + num_columns >= len(drawn):
            axes.set_xticks(range(len(labels)), labels, fontsize=7, rotation=90)
            axes.set_xlabel("predicted class", fontsize=8)
    assert image is not None
    bar_height = min(side, 2.5)
    bottom = height - heading_space - title_space - (side + bar_height) / 2
    bar = (width - 0.75) / width, bottom / height, 0.15 / width, bar_height / height
    figure.colorbar(image, cax=figure.add_axes(bar), label="share of the true class")
    save_figure(figure, path)
    return selection


def most_confused_classes(matrices: Sequence[Float[np.ndarray, "k k"]]) -> Int[np.ndarray, "n"]:
    """Return the indices of the `MAX_CONFUSION_CLASSES` most confused classes, ascending.

    A class is confused by the share of its videos predicted as other classes plus the shares of
    other classes predicted as it, summed over all matrices.
    """
    total = np.sum(matrices, axis=0)
    np.fill_diagonal(total, 0)
    confusion = total.sum(axis=0) + total.sum(axis=1)
    return np.sort(np.argsort(-confusion, kind="stable")[:MAX_CONFUSION_CLASSES])


def draw_class_gains(gain: Gain, path: Path) -> None:
    """Draw the difference of each class's top-1 between two cells as bars, sorted.

    With more than `_MAX_BARS` classes, only the largest and the smallest differences are drawn.
    """
    differences = 100 * gain.per_class()
    class_names = gain.cell.runs[0].class_names
    order = [
        index
        for index in np.argsort(-differences, kind="stable")
        if not np.isnan(differences[index])
    ]
    if len(order) > _MAX_BARS:
        order = order[: _MAX_BARS // 2] + order[-_MAX_BARS // 2 :]
    values = differences[order]
    figure = import_figure_class()(figsize=(7.0, 1.1 + 0.24 * len(order)), layout="constrained")
    axes: Any = figure.subplots()
    colours = ["#228833" if value >= 0 else "#cc3311" for value in values]
    axes.barh(range(len(order)), values, color=colours)
    labels = [shorten(class_names[index], _LABEL_WIDTH) for index in order]
    axes.set_yticks(range(len(order)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(alpha=0.3)
    for position, value in enumerate(values):
        axes.annotate(
            f"{value:+.0f}",
            (value, position),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            fontsize=7,
        )
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    margin = 0.12 * max(high - low, 5.0)  # space for the numbers
    axes.set_xlim(low - (margin if low else 0.0), high + margin)
    axes.set(xlabel="difference of top-1 in percentage points, mean over seeds")
    title = f"{gain.cell.backbone}: {gain.cell.temporal} minus {gain.reference.temporal}"
    axes.set_title(_wrap(title, 80), fontsize=9)
    save_figure(figure, path)


def _height_of_legend(cells: Sequence[Cell], minimum: float) -> float:
    """Return the height in inches that the legend of these cells needs, at least `minimum`."""
    modules = {cell.temporal for cell in cells}
    num_lines = sum(_wrap(name, _LEGEND_WIDTH).count("\n") + 1 for name in modules)
    return max(minimum, 0.5 + 0.17 * (num_lines + len({cell.backbone for cell in cells})))


def _wrap(name: str, width: int) -> str:
    """Wrap a name to at most four lines; long words are broken, and an ellipsis marks a cut."""
    return "\n".join(textwrap.wrap(name, width, max_lines=4, placeholder="…"))
