"""Cells, gains and results of a comparison with six videos of four classes."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from motionaware.engine.config import Recipe
from motionaware.engine.cost import Cost
from motionaware.engine.run_folder import RunFolder
from motionaware.report.cells import Cell
from motionaware.report.gains import Gain
from motionaware.report.predictions import EvaluatedRun
from motionaware.report.results import ComparisonResults
from motionaware.report.runs import Run

CLASS_NAMES = ("left", "right", "up", "never")
LABELS = np.array([0, 0, 1, 1, 2, 2])  # no video of the class "never"
COST = Cost(num_parameters=1, gmac=1.0, latency_seconds=1.0, backward_bytes=1)


@pytest.fixture(scope="session")
def make_cell() -> Callable[..., Cell]:
    """Builds a cell from the predicted class of each video, by seed."""

    def make(
        temporal: str,
        predictions: dict[int, list[int]],
        *,
        backbone: str = "b",
        labels: np.ndarray = LABELS,
        class_names: tuple[str, ...] = CLASS_NAMES,
    ) -> Cell:
        runs = []
        for seed, classes in predictions.items():
            predicted = np.array(classes)
            run = Run(
                backbone=backbone,
                temporal=temporal,
                seed=seed,
                recipe=Recipe(),
                folder=RunFolder(f"{temporal}{seed}"),
            )
            runs.append(
                EvaluatedRun(
                    run=run,
                    predicted=predicted,
                    correct=predicted == labels,
                    in_top5=None,
                    label_probability=np.where(predicted == labels, 0.9, 0.1),
                    labels=labels,
                    indices=np.arange(len(labels)),
                    video_names=tuple(f"video {index}" for index in range(len(labels))),
                    class_names=class_names,
                    num_skipped=0,
                )
            )
        return Cell(backbone=backbone, temporal=temporal, runs=tuple(runs), failures=(), cost=COST)

    return make


@pytest.fixture(scope="session")
def none(make_cell: Callable[..., Cell]) -> Cell:
    """The baseline, with seeds 0 and 1."""
    return make_cell("none", {0: [0, 0, 0, 0, 0, 0], 1: [0, 0, 1, 0, 0, 0]})


@pytest.fixture(scope="session")
def m2a(make_cell: Callable[..., Cell]) -> Cell:
    """A cell with seeds 0, 1 and 2."""
    return make_cell("m2a", {0: [0, 1, 1, 1, 2, 2], 1: [0, 0, 1, 1, 2, 0], 2: [0] * 6})


@pytest.fixture(scope="session")
def failed_cell() -> Callable[[str], Cell]:
    """Builds a cell whose only run failed."""
    return lambda temporal: Cell(
        backbone="b", temporal=temporal, runs=(), failures=("reason",), cost=None
    )


@pytest.fixture(scope="session")
def make_results() -> Callable[..., ComparisonResults]:
    """Builds the results of a comparison from cells and gains."""

    def make(cells: Sequence[Cell], gains: Sequence[Gain] = ()) -> ComparisonResults:
        return ComparisonResults(
            title="title",
            cells=tuple(cells),
            gains=tuple(gains),
            pairs=(),
            baseline="none",
            split="test",
            recipe="r",
            environment={"date": "today", "commit": "c", "machine": "m"},
        )

    return make
