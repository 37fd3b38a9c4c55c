import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from motionaware.engine.run_folder import RunFolder
from motionaware.report import run_curves
from motionaware.report.run_curves import CurvesPicture, draw_run


def row(epoch: int, **values: float) -> dict[str, int | float]:
    defaults = {
        "epoch": epoch,
        "learning_rate": 0.01 / epoch,
        "train_loss": 2 / epoch,
        "train_top1": 1 - 1 / epoch,
        "val_loss": 2.2 / epoch,
        "val_top1": 0.9 - 0.8 / epoch,
        "val_mean_class": 0.5,
        "seconds": 1.0,
    }
    return defaults | values


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run_$x$").mkdir()
    return RunFolder(tmp_path / "run_$x$")


def draw_panels(rows, path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return the three panels of a picture."""
    figures = []
    monkeypatch.setattr(run_curves, "save_figure", lambda figure, path: figures.append(figure))
    draw_run([{key: str(value) for key, value in one.items()} for one in rows], path, title="t")
    return figures[0].axes


def test_the_panels_show_loss_accuracy_and_learning_rate_by_epoch(tmp_path, monkeypatch):
    loss, top1, rate = draw_panels([row(1), row(2), row(3)], tmp_path / "c.png", monkeypatch)
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert np.allclose(loss.lines[0].get_xydata(), [[1, 2], [2, 1], [3, 2 / 3]])
    assert np.allclose(top1.lines[1].get_ydata(), [10, 50, 100 * (0.9 - 0.8 / 3)])
    assert top1.lines[2].get_label() == "best: 63.3 %, epoch 3"
    assert np.allclose(rate.lines[0].get_ydata(), [0.01, 0.005, 0.01 / 3])


def test_the_first_of_equal_epochs_is_marked_as_best(tmp_path, monkeypatch):
    rows = [row(1, val_top1=0.5), row(2, val_top1=0.7), row(3, val_top1=0.7)]
    _, top1, _ = draw_panels(rows, tmp_path / "c.png", monkeypatch)
    assert top1.lines[2].get_label() == "best: 70.0 %, epoch 2"


def test_the_picture_of_one_or_many_epochs_has_an_empty_border(tmp_path: Path):
    for num in (1, 200):
        rows = [{key: str(value) for key, value in row(n).items()} for n in range(1, num + 1)]
        path = tmp_path / f"{num}.png"
        draw_run(rows, path, title="a run " * 40)
        pixels = np.asarray(Image.open(path).convert("L"))
        border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert min(one.min() for one in border) > 200
        assert pixels.min() < 100


def test_before_the_first_epoch_there_is_no_picture_and_no_problem(folder: RunFolder):
    picture = CurvesPicture(folder)
    picture.update(last=True)
    assert not picture.path.exists()
    assert picture.problem is None


def test_the_picture_is_drawn_for_new_epochs_with_pauses(folder: RunFolder, monkeypatch):
    calls = []
    monkeypatch.setattr(run_curves, "draw_run", lambda rows, path, title: calls.append(len(rows)))
    now = [0.0]
    monkeypatch.setattr(run_curves.time, "monotonic", lambda: now[0])
    picture = CurvesPicture(folder)
    for epoch in range(1, 4):
        folder.write_log([row(n) for n in range(1, epoch + 1)])
        now[0] += 1
        monkeypatch.setattr(run_curves, "_MAX_TIME_SHARE", 1e-9)
        picture.update()
        picture._next_seconds = 2.5  # as if drawing had taken long
    assert calls == [1, 3]
    picture.update(last=True)
    assert calls == [1, 3]  # no new epochs
    folder.write_log([row(n) for n in range(1, 5)])
    picture.update(last=True)
    assert calls == [1, 3, 4]


def test_a_picture_that_cannot_be_written_is_a_problem_not_an_error(folder: RunFolder):
    folder.write_log([row(1)])
    (folder.path / "curves.png").mkdir()
    picture = CurvesPicture(folder)
    picture.update(last=True)
    assert picture.problem is not None and picture.problem.startswith("curves.png is not drawn")


def test_without_matplotlib_the_problem_names_the_package_to_install(
    folder: RunFolder, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    folder.write_log([row(1)])
    picture = CurvesPicture(folder)
    picture.update(last=True)
    assert picture.problem == (
        "curves.png is not drawn: pictures need matplotlib; run: pip install 'motionaware[plots]'"
    )
