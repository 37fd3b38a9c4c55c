"""Pictures of a comparison, as PNG files."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from motionaware.engine.statistics import spread
from motionaware.explain.drawing import import_figure_class, save_figure
from motionaware.explain.text_rendering import shorten, text_width
from motionaware.report.columns import Column, Gain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#bbbbbb",
    "#222255",
    "#994455",
    "#005500",
    "#997700",
    "#004488",
    "#ee99aa",
    "#555555",
)  # fmt: skip - Paul Tol's bright, then dark: told apart by the colour-blind
_MARKERS = "osD^vP*X"
_MOST_BARS = 60  # classes that a drawing names
MOST_CONFUSED = 30  # classes that have room for their names in a picture of confusion
_SIDE = 2.5  # inches, of a square of few classes
_SIDE_COLUMNS = 40  # of text, that its title has room for
_LEGEND_WIDTH = 36  # columns of text
_LABEL_WIDTH = 44  # columns of text that the name of a class may take


class Look(NamedTuple):
    """How a temporal module is drawn."""

    colour: str
    line: str
    fill: str


def look_of(columns: Sequence[Column], temporal: str) -> Look:
    """One look a temporal module, the same in every picture.

    Where there are more modules than colours, they come again with broken lines and hollow marks.
    """
    place = list(dict.fromkeys(column.temporal for column in columns)).index(temporal)
    colour = _COLOURS[place % len(_COLOURS)]
    return Look(colour, "-", colour) if place < len(_COLOURS) else Look(colour, "--", "white")


def draw_curves(columns: Sequence[Column], backbone: str, path: Path) -> None:
    """Validation top-1 over the epochs: mean over the seeds as a line, their range as a band."""
    figure, axes = _axes(7.0, _height_of_legend(columns, 4.0))
    for column in columns:
        if column.backbone != backbone or not column.runs:
            continue
        curves = 100 * column.curves()
        epochs = np.arange(1, curves.shape[1] + 1)
        colour, line, _ = look_of(columns, column.temporal)
        mean, low, high = curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0)
        axes.plot(
            epochs,
            mean,
            line,
            color=colour,
            label=_wrapped(column.temporal, _LEGEND_WIDTH),
            marker=".",
        )
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15)
    axes.set(xlabel="epoch", ylabel="validation top-1, %", title=backbone)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # even of one epoch
    figure.legend(loc="outside right upper", fontsize=8)
    _save(figure, path)


def draw_costs(columns: Sequence[Column], path: Path) -> None:
    """Top-1 against multiply-adds and against latency; bars are one standard deviation."""
    height = _height_of_legend(columns, 4.4)
    figure = import_figure_class()(figsize=(10.0, height), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    backbones = list(dict.fromkeys(column.backbone for column in columns))
    markers = {name: _MARKERS[place % len(_MARKERS)] for place, name in enumerate(backbones)}
    for column in columns:
        if column.cost is None:
            continue
        values = column.top1()
        mean, error = 100 * float(np.mean(values)), 100 * (spread(values) or 0.0)
        costs = (column.cost.gmac, column.cost.latency_seconds * 1e3)
        look = look_of(columns, column.temporal)
        for axes, cost in zip(panels, costs, strict=True):
            axes.errorbar(
                cost,
                mean,
                yerr=error,
                color=look.colour,
                markerfacecolor=look.fill,
                marker=markers[column.backbone],
                linestyle="none",
                capsize=3,
            )
    panels[0].set(xlabel="GMAC a clip", ylabel="top-1, %")
    panels[1].set(xlabel="latency of a clip, ms")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=5)
    names = list(dict.fromkeys(column.temporal for column in columns))
    handles = [
        _sign(panels[0], "s", look_of(columns, name), _wrapped(name, _LEGEND_WIDTH))
        for name in names
    ]
    if len(backbones) > 1:
        black = Look("black", "-", "black")
        handles += [_sign(panels[0], mark, black, name) for name, mark in markers.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    _save(figure, path)


def _sign(axes: Any, marker: str, look: Look, label: str) -> Any:
    """A line of the legend: colours are temporal modules, marks are backbones."""
    colours = {"color": look.colour, "markerfacecolor": look.fill}
    (line,) = axes.plot([], [], marker=marker, linestyle="none", label=label, **colours)
    return line


def draw_confusion(columns: Sequence[Column], backbone: str, path: Path) -> str:
    """Draw which classes are taken for which, a square a column; say what is left out, if any.

    Of more than `MOST_CONFUSED` classes those are drawn that the columns confuse most: by the share
    of their videos taken for others, and of others' taken for them. The order of classes is kept.
    """
    shown = [column for column in columns if column.backbone == backbone and column.runs]
    names = shown[0].runs[0].class_names
    tables = [column.confusion() for column in shown]
    chosen = most_confused(tables)
    tables = [table[np.ix_(chosen, chosen)] for table in tables]
    labels = [shorten(names[place], _LABEL_WIDTH) for place in chosen]
    titles = [_wrapped(column.temporal, _SIDE_COLUMNS) for column in shown]
    left_out = ""
    if len(chosen) < len(names):
        left_out = f"the {len(chosen)} of {len(names)} classes that are confused most"

    # All lengths in inches: squares of one size, and room for names as long as they are.
    side = max(_SIDE, 0.15 * len(labels))
    wide = max(1, min(len(shown), round(12 / (side + 0.3))))
    high = -(-len(shown) // wide)
    for_labels = 0.25 + 0.06 * max(map(text_width, labels))
    above = 0.15 * max(title.count("\n") + 1 for title in titles) + 0.15
    for_title = 0.6 if left_out else 0.4
    width = for_labels + 0.25 + wide * (side + 0.3) + 0.9
    height = for_title + high * (side + above) + for_labels + 0.25
    figure = import_figure_class()(figsize=(width, height))
    heading = f"{backbone}\n{left_out}" if left_out else backbone
    figure.suptitle(heading, y=1 - 0.1 / height, fontsize=10, va="top")
    picture = None
    for place, (table, title) in enumerate(zip(tables, titles, strict=True)):
        row, column = divmod(place, wide)
        left = for_labels + 0.25 + column * (side + 0.3)
        bottom = height - for_title - (row + 1) * (side + above)
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        picture = axes.imshow(table, vmin=0, vmax=1, cmap="Blues")
        axes.set_title(title, fontsize=8, pad=4)
        axes.set(xticks=[], yticks=[])
        if column == 0:
            axes.set_yticks(range(len(labels)), labels, fontsize=7)
            axes.set_ylabel("right class", fontsize=8)
        if place + wide >= len(shown):
            axes.set_xticks(range(len(labels)), labels, fontsize=7, rotation=90)
            axes.set_xlabel("predicted class", fontsize=8)
    assert picture is not None
    bar_height = min(side, 2.5)
    bottom = height - for_title - above - (side + bar_height) / 2
    bar = (width - 0.75) / width, bottom / height, 0.15 / width, bar_height / height
    figure.colorbar(picture, cax=figure.add_axes(bar), label="share of the class")
    _save(figure, path)
    return left_out


def most_confused(tables: Sequence[Float[np.ndarray, "k k"]]) -> Int[np.ndarray, "n"]:
    """Places of the `MOST_CONFUSED` classes that tables of confusion confuse most, ascending."""
    total = np.sum(tables, axis=0)
    np.fill_diagonal(total, 0)
    confused = total.sum(axis=0) + total.sum(axis=1)
    return np.sort(np.argsort(-confused, kind="stable")[:MOST_CONFUSED])


def draw_classes(gain: Gain, path: Path) -> None:
    """Difference of each class's top-1 between two columns, sorted, as bars."""
    differences = 100 * gain.per_class()
    names = gain.one.runs[0].class_names
    order = [
        place
        for place in np.argsort(-differences, kind="stable")
        if not np.isnan(differences[place])
    ]
    if len(order) > _MOST_BARS:  # the ends are what one looks for
        order = order[: _MOST_BARS // 2] + order[-_MOST_BARS // 2 :]
    values = differences[order]
    figure, axes = _axes(7.0, 0.6 + 0.24 * len(order) + 0.5)
    colours = ["#228833" if value >= 0 else "#cc3311" for value in values]
    axes.barh(range(len(order)), values, color=colours)
    labels = [shorten(names[place], _LABEL_WIDTH) for place in order]
    axes.set_yticks(range(len(order)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:+.0f}",
            (value, place),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            fontsize=7,
        )
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    margin = 0.12 * max(high - low, 5.0)  # room for the numbers
    axes.set_xlim(low - (margin if low else 0.0), high + margin)
    axes.set(xlabel="points of top-1, mean over seeds")
    title = f"{gain.one.backbone}: {gain.one.temporal} less {gain.other.temporal}"
    axes.set_title(_wrapped(title, 80), fontsize=9)
    _save(figure, path)


def _height_of_legend(columns: Sequence[Column], least: float) -> float:
    """Inches that a legend of these columns needs, and no fewer than `least`."""
    names = {column.temporal for column in columns}
    lines = sum(_wrapped(name, _LEGEND_WIDTH).count("\n") + 1 for name in names)
    return max(least, 0.5 + 0.17 * (lines + len({column.backbone for column in columns})))


def _axes(width: float, height: float) -> "tuple[Figure, Any]":
    figure = import_figure_class()(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: "Figure", path: Path) -> None:
    save_figure(figure, path)


def _wrapped(name: str, width: int) -> str:
    """A name on at most four lines; one of commas and brackets without blanks is broken too."""
    return "\n".join(textwrap.wrap(name, width, max_lines=4, placeholder="…"))
