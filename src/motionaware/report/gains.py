"""Gains: differences of top-1 between two cells, with confidence intervals and tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from motionaware.engine.statistics import (
    BootstrapResult,
    exact_mcnemar,
    holm,
    paired_bootstrap,
    sample_sd,
    t_interval,
)
from motionaware.report.cells import Cell


@dataclass(frozen=True, kw_only=True)
class McNemarTest:
    """Exact McNemar test of two runs with the same seed.

    Attributes:
        seed: Seed of both runs.
        only_cell: Number of videos on which only the cell's run is correct.
        only_reference: Number of videos on which only the reference's run is correct.
        p: Two-sided p value.
        p_holm: `p`, Holm-corrected over all pairs of runs in the report.
    """

    seed: int
    only_cell: int
    only_reference: int
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Gain:
    """Difference of top-1 between a cell and a reference cell with the same backbone.

    Attributes:
        cell: The cell that is compared.
        reference: The cell that it is compared with: the baseline, or the second of a pair.
        seeds: Seeds that both cells have; their runs are paired.
        difference: Top-1 of the cell minus that of the reference, mean over seeds and videos.
        sd: Sample standard deviation of the difference over seeds; None for one seed.
        bootstrap: Paired bootstrap over seeds and videos.
        t_interval: 95 % interval by Student's t over seeds and videos; None for one seed.
        p_holm: p of the bootstrap, Holm-corrected over all pairs of cells in the report.
        mcnemar: One test per seed.
    """

    cell: Cell
    reference: Cell
    seeds: tuple[int, ...]
    difference: float
    sd: float | None
    bootstrap: BootstrapResult
    t_interval: tuple[float, float] | None
    p_holm: float
    mcnemar: tuple[McNemarTest, ...]

    @property
    def is_significant(self) -> bool:
        """True if the corrected p is below 0.05 and the t interval, if any, excludes zero."""
        return self.p_holm < 0.05 and not self.t_includes_zero

    @property
    def t_includes_zero(self) -> bool:
        """True if there is a t interval and it includes zero."""
        return self.t_interval is not None and self.t_interval[0] <= 0 <= self.t_interval[1]

    def per_class(self) -> Float[np.ndarray, "k"]:
        """Return the difference of top-1 of each class; NaN for a class without videos."""
        cell, reference = (
            one.per_class_accuracy(self.seeds) for one in (self.cell, self.reference)
        )
        return cell - reference


@dataclass(frozen=True)
class ExtremeClass:
    """The class with the largest or smallest difference.

    Attributes:
        name: Name of the class; the first one where several tie.
        difference: Its difference of top-1.
        num_ties: Number of other classes with the same difference.
    """

    name: str
    difference: float
    num_ties: int

    def label(self) -> str:
        """Return the name, followed by the number of ties if there are any."""
        return self.name + (f" (and {self.num_ties} more)" if self.num_ties else "")


def extreme_classes(gain: Gain) -> tuple[ExtremeClass, ExtremeClass]:
    """Return the classes with the largest and the smallest difference."""
    differences = gain.per_class().round(9)  # rounding errors would hide ties
    class_names = gain.cell.runs[0].class_names
    largest, smallest = (
        ExtremeClass(
            class_names[index],
            float(differences[index]),
            int((differences == differences[index]).sum()) - 1,
        )
        for index in (int(np.nanargmax(differences)), int(np.nanargmin(differences)))
    )
    return largest, smallest


def compute_gains(
    cells: Sequence[Cell], *, baseline: str, pairs: Sequence[tuple[str, str]]
) -> list[Gain]:
    """Compare each cell with the baseline of its backbone, and the given pairs of modules.

    Cells without a finished run, and pairs without a common seed, are left out.

    Args:
        cells: All cells.
        baseline: Temporal module of the baseline.
        pairs: Further pairs of temporal modules (module, reference).
    """
    matched = [
        (cell, reference, tuple(sorted(set(cell.seeds) & set(reference.seeds))))
        for cell, reference in _pairs_to_compare(cells, baseline, pairs)
    ]
    matched = [(cell, reference, seeds) for cell, reference, seeds in matched if seeds]
    differences = [
        cell.correct(seeds).astype(np.int8) - reference.correct(seeds).astype(np.int8)
        for cell, reference, seeds in matched
    ]
    bootstraps = [paired_bootstrap(difference) for difference in differences]
    p_holm = holm([bootstrap.p for bootstrap in bootstraps])
    mcnemar = _mcnemar_tests(differences, [seeds for _, _, seeds in matched])
    return [
        Gain(
            cell=cell,
            reference=reference,
            seeds=seeds,
            difference=float(differences[index].mean()),
            sd=sample_sd(differences[index].mean(axis=1).tolist()),
            bootstrap=bootstraps[index],
            t_interval=t_interval(differences[index]),
            p_holm=p_holm[index],
            mcnemar=mcnemar[index],
        )
        for index, (cell, reference, seeds) in enumerate(matched)
    ]


def _pairs_to_compare(
    cells: Sequence[Cell], baseline: str, pairs: Sequence[tuple[str, str]]
) -> list[tuple[Cell, Cell]]:
    finished = {(cell.backbone, cell.temporal): cell for cell in cells if cell.runs}
    chosen = []
    for backbone in dict.fromkeys(cell.backbone for cell in cells):
        with_baseline = [(cell.temporal, baseline) for cell in cells if cell.backbone == backbone]
        chosen += [
            (finished[backbone, temporal], finished[backbone, reference])
            for temporal, reference in dict.fromkeys([*with_baseline, *pairs])
            if temporal != reference
            and (backbone, temporal) in finished
            and (backbone, reference) in finished
        ]
    return chosen


def _mcnemar_tests(
    differences: Sequence[Int[np.ndarray, "_ n"]], seeds: Sequence[tuple[int, ...]]
) -> list[tuple[McNemarTest, ...]]:
    """Test every pair of runs, and correct the p values over all of them."""
    counts = [
        [(int((row > 0).sum()), int((row < 0).sum())) for row in difference]
        for difference in differences
    ]
    p_values = [exact_mcnemar(*pair) for pairs in counts for pair in pairs]
    corrected = iter(zip(p_values, holm(p_values), strict=True))
    return [
        tuple(
            McNemarTest(
                seed=seed, only_cell=only_cell, only_reference=only_reference, p=p, p_holm=p_holm
            )
            for seed, (only_cell, only_reference), (p, p_holm) in zip(
                pair_seeds, pairs, corrected, strict=False
            )
        )
        for pair_seeds, pairs in zip(seeds, counts, strict=True)
    ]
