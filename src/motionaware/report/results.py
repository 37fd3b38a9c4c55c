"""The results of a comparison, from which a report is written."""

from dataclasses import dataclass, field

from motionaware.report.cells import Cell
from motionaware.report.gains import Gain


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonResults:
    """All data that a report shows.

    Attributes:
        title: Heading of the report.
        cells: In the order of the tables.
        gains: All pairs of cells that were compared.
        pairs: Pairs of temporal modules that the user named.
        baseline: Temporal module of the baseline.
        split: Split on which the runs were evaluated.
        recipe: Where the recipe comes from.
        environment: Date, commit, machine and versions of the report.
        cost_environment: The same for the measurement of costs; empty if no run finished.
    """

    title: str
    cells: tuple[Cell, ...]
    gains: tuple[Gain, ...]
    pairs: tuple[tuple[str, str], ...]
    baseline: str
    split: str
    recipe: str
    environment: dict[str, str]
    cost_environment: dict[str, str] = field(default_factory=dict)

    def finished_cells(self) -> list[Cell]:
        """Return the cells with at least one evaluated run."""
        return [cell for cell in self.cells if cell.runs]

    def backbones(self) -> list[str]:
        """Return the backbones of all cells, each once."""
        return list(dict.fromkeys(cell.backbone for cell in self.cells))

    def seeds(self) -> list[int]:
        """Return the seeds of all evaluated runs, ascending."""
        return sorted({seed for cell in self.cells for seed in cell.seeds})

    def highlighted_gains(self) -> list[Gain]:
        """Return, for each backbone, the largest gain over the baseline and the named pairs."""
        highlighted = []
        for backbone in self.backbones():
            gains = [gain for gain in self.gains if gain.cell.backbone == backbone]
            over_baseline = [gain for gain in gains if gain.reference.temporal == self.baseline]
            highlighted += sorted(over_baseline, key=lambda gain: -gain.difference)[:1]
            named = [g for g in gains if (g.cell.temporal, g.reference.temporal) in self.pairs]
            highlighted += [gain for gain in named if gain not in highlighted]
        return highlighted
