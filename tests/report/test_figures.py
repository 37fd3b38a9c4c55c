from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motionaware.explain.text_rendering import fonts_for
from motionaware.report import figures
from motionaware.report.cells import Cell

pytest.importorskip("matplotlib")

LONG_NAME = "Pretending to put something with $x_1$ behind something without letting it drop "


@pytest.fixture
def saved_figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that would be written to files."""
    saved = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: saved.append(figure))
    return saved


@pytest.fixture(scope="session")
def make_confused_cells(make_cell) -> Callable[..., list[Cell]]:
    """Builds cells that confuse each class with the next one, class 1 most."""

    def make(num_classes: int, num_cells: int, *, name: str, temporal: str) -> list[Cell]:
        labels = np.repeat(np.arange(num_classes), 4)
        predicted = labels.copy()
        predicted[::4] = (predicted[::4] + 1) % num_classes
        predicted[4:8] = 0
        class_names = tuple(f"{name}{number}" for number in range(num_classes))
        return [
            make_cell(
                f"{temporal}{number}",
                {0: predicted.tolist()},
                labels=labels,
                class_names=class_names,
            )
            for number in range(num_cells)
        ]

    return make


def test_the_epoch_axis_has_ticks_at_whole_epochs_only(none, saved_figures, monkeypatch):
    for curve in ([[0.5]], [[0.5, 0.6]]):
        monkeypatch.setattr(Cell, "validation_curves", lambda self, curve=curve: np.array(curve))
        figures.draw_curves([none], "b", Path("curves.png"))
        ticks = saved_figures[-1].axes[0].get_xticks()
        assert all(tick == round(tick) for tick in ticks)
        assert 1 in ticks


@pytest.mark.parametrize(
    ("num_classes", "num_cells", "name", "temporal"),
    [
        (12, 4, "class ", "m2a(reduction=4)"),
        (2, 17, LONG_NAME, "m2a(reduction=4,start=identity),tsm,mix.py:" + "Name" * 20),
        (174, 2, LONG_NAME, "tsm"),
        (31, 3, "c", "m"),
        (1, 1, "c", "m"),
    ],
)
def test_the_confusion_figure_has_white_margins_and_names_its_selection(
    tmp_path: Path,
    make_confused_cells,
    num_classes: int,
    num_cells: int,
    name: str,
    temporal: str,
):
    cells = make_confused_cells(num_classes, num_cells, name=name, temporal=temporal)
    path = tmp_path / "confusion.png"
    with fonts_for([]):
        selection = figures.draw_confusion(cells, "b", path)
    pixels = np.asarray(Image.open(path).convert("L"))
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    assert min(edge.min() for edge in edges) > 200
    wanted = f"the 30 most confused of {num_classes} classes" if num_classes > 30 else ""
    assert selection == wanted


def test_titles_and_labels_of_the_confusion_figure_do_not_overlap(
    saved_figures, make_confused_cells
):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    temporal = "m2a(reduction=4,start=identity),tsm,mix.py:Mix "
    cells = make_confused_cells(12, 5, name=LONG_NAME, temporal=temporal)
    figures.draw_confusion(cells, "b", Path("confusion.png"))
    (figure,) = saved_figures
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axes.get_window_extent(renderer) for axes in figure.axes]
    boxes += [axes.title.get_window_extent(renderer) for axes in figure.axes if axes.get_title()]
    for index, box in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert not box.overlaps(other)


def test_the_most_confused_classes_keep_their_order(monkeypatch):
    monkeypatch.setattr(figures, "MAX_CONFUSION_CLASSES", 2)
    matrix = np.array([[0.9, 0, 0.1], [0, 1.0, 0], [0.4, 0, 0.6]])
    assert figures.most_confused_classes([matrix, matrix]).tolist() == [0, 2]


def test_twenty_temporal_modules_have_twenty_styles(make_cell):
    cells = [make_cell(f"m{number}", {0: [0] * 6}) for number in range(20)]
    assert len({figures.style_of(cells, cell.temporal) for cell in cells}) == 20


def test_with_many_classes_only_the_largest_and_smallest_gains_are_drawn(
    saved_figures, make_confused_cells, make_cell
):
    from motionaware.report.gains import compute_gains

    (cell,) = make_confused_cells(70, 1, name="c", temporal="m2a")
    labels = cell.runs[0].labels
    reference = make_cell(
        "none", {0: [0] * len(labels)}, labels=labels, class_names=cell.runs[0].class_names
    )
    (gain,) = compute_gains([reference, cell], baseline="none", pairs=[])
    figures.draw_class_gains(gain, Path("classes.png"))
    assert len(saved_figures[0].axes[0].get_yticklabels()) == 60
