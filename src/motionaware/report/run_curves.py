"""Draw loss, accuracy and learning rate of a run over its epochs, as `curves.png`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from motionaware.engine.run_folder import RunFolder
from motionaware.explain.drawing import import_figure_class, save_figure
from motionaware.explain.text_rendering import fonts_for, shorten

NAME = "curves.png"
_TRAINING, _VALIDATION, _RATE = "#4477aa", "#ee6677", "#228833"  # as in a comparison
_MAX_TIME_SHARE = 0.05  # of training, for drawing


class CurvesPicture:
    """Draws the curves of a run again while it trains.

    Args:
        folder: Folder of the run.

    Attributes:
        path: The picture.
        problem: Why the picture cannot be drawn, as a sentence; None if it can.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.path = folder.path / NAME
        self.problem: str | None = None
        self._drawn_rows: list[dict[str, str]] = []
        self._next_seconds = time.monotonic()
        try:
            import_figure_class()
        except ImportError as error:
            self.problem = f"{NAME} is not drawn: {error}"

    def update(self, *, last: bool = False) -> None:
        """Draw the curves if the log has new epochs.

        Args:
            last: Draw now. Otherwise drawing may be postponed, to take at most 5 % of the time.
        """
        if self.problem is not None or not (last or time.monotonic() >= self._next_seconds):
            return
        start = time.monotonic()
        try:
            rows = self.folder.read_log()
            if not rows or rows == self._drawn_rows:
                return
            draw_run(rows, self.path, title=self.folder.path.name)
        except OSError as error:  # training continues without the picture
            self.problem = f"{NAME} is not drawn: {error.strerror or error}"
            return
        except (KeyError, ValueError) as error:  # the user edited the log
            self.problem = f"{NAME} is not drawn: {self.folder.path / 'log.csv'} lacks {error}"
            return
        self._drawn_rows = rows
        end = time.monotonic()
        self._next_seconds = end + (end - start) / _MAX_TIME_SHARE


def draw_run(rows: Sequence[Mapping[str, str]], path: Path, *, title: str) -> None:
    """Draw the log of a run as a PNG file, which is written atomically.

    Args:
        rows: Rows of `log.csv`, one per epoch.
        path: The picture.
        title: Title of the picture.

    Raises:
        MissingPackage: matplotlib is not installed.
        OSError: The picture cannot be written.
    """
    title = shorten(title, 80)
    with fonts_for([title]):
        _draw(rows, path, title)


def _draw(rows: Sequence[Mapping[str, str]], path: Path, title: str) -> None:
    epochs = [int(row["epoch"]) for row in rows]

    def values(key: str, factor: float = 1.0) -> list[float]:
        return [factor * float(row[key]) for row in rows]

    figure = import_figure_class()(figsize=(11.0, 3.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    loss, top1, rate = figure.subplots(1, 3)
    mark = {"marker": "." if len(epochs) <= 60 else ""}  # a single epoch has no line
    loss.plot(epochs, values("train_loss"), color=_TRAINING, label="training", **mark)
    loss.plot(epochs, values("val_loss"), color=_VALIDATION, label="validation", **mark)
    loss.set(title="loss", ylim=(0, None))
    top1.plot(epochs, values("train_top1", 100.0), color=_TRAINING, label="training", **mark)
    accuracy = values("val_top1", 100.0)
    top1.plot(epochs, accuracy, color=_VALIDATION, label="validation", **mark)
    best = accuracy.index(max(accuracy))  # the first of equal epochs, as for best.safetensors
    top1.plot(
        epochs[best],
        accuracy[best],
        color=_VALIDATION,
        marker="o",
        markersize=8,
        fillstyle="none",
        linestyle="none",
        label=f"best: {accuracy[best]:.1f} %, epoch {epochs[best]}",
    )
    top1.set(title="top-1, %", ylim=(0, 100.0))
    rate.plot(epochs, values("learning_rate"), color=_RATE, **mark)
    rate.set(title="learning rate at the end of the epoch", ylim=(0, None))
    for axes in (loss, top1, rate):
        axes.title.set_fontsize(9)
        axes.set_xlabel("epoch", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    loss.legend(fontsize=8)
    top1.legend(fontsize=8)
    save_figure(figure, path)
