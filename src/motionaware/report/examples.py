"""Example clips on which one cell is correct and the other is not: frames, scores, attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from motionaware.data.loader import Request, Sample
from motionaware.engine.dataset_factory import open_dataset
from motionaware.explain.activations import record_activations
from motionaware.explain.drawing import import_figure_class, save_figure
from motionaware.explain.text_rendering import shorten
from motionaware.report.cells import Cell
from motionaware.report.gains import Gain


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A video that one cell classifies correctly with every shared seed, another with no seed.

    A cell is one backbone with one temporal module, over its seeds.

    Attributes:
        correct: The cell that is always correct.
        wrong: The cell that is never correct.
        seed: Seed of the runs that the figure shows.
        position: Position of the video among those that were evaluated.
    """

    correct: Cell
    wrong: Cell
    seed: int
    position: int

    @property
    def video_name(self) -> str:
        """Name of the video."""
        return self.correct.runs[0].video_names[self.position]


def choose_examples(gain: Gain, *, num: int) -> list[Example]:
    """Choose up to `num` videos in each direction, at most one per class.

    Videos with the largest difference in the probability of the true class come first.
    """
    examples = []
    for correct, wrong in ((gain.cell, gain.reference), (gain.reference, gain.cell)):
        always_correct = correct.correct(gain.seeds).all(axis=0)
        candidates = np.asarray(always_correct & ~wrong.correct(gain.seeds).any(axis=0))
        margins = _label_probability(correct, gain.seeds) - _label_probability(wrong, gain.seeds)
        labels, chosen_classes = correct.runs[0].labels, set()
        for position in np.argsort(-np.where(candidates, margins, -np.inf)).tolist():
            if not candidates[position] or len(chosen_classes) == num:
                break
            if int(labels[position]) not in chosen_classes:
                chosen_classes.add(int(labels[position]))
                examples.append(
                    Example(correct=correct, wrong=wrong, seed=gain.seeds[0], position=position)
                )
    return examples


def _label_probability(cell: Cell, seeds: Sequence[int]) -> Float[np.ndarray, "n"]:
    """Return the probability of the true class of each video, mean over seeds."""
    return np.mean([one.label_probability for one in cell.runs if one.run.seed in seeds], axis=0)


def draw_example(example: Example, path: Path, *, split: str) -> int:
    """Draw the frames of a clip; below, each model's three best scores and its attention maps.

    Returns:
        The largest number of attention maps drawn of one model.
    """
    cells = (example.correct, example.wrong)
    views = [_run_model(cell, example, split) for cell in cells]
    clip = views[0].clip
    class_names = example.correct.runs[0].class_names
    label = int(example.correct.runs[0].labels[example.position])
    num_maps = max(len(view.attention) for view in views)

    figure = import_figure_class()(
        figsize=(11, 1.9 + (1.9 if num_maps else 0.75)), layout="constrained"
    )
    top, bottom = figure.subfigures(
        2, 1, height_ratios=[1.35, 1.9 if num_maps else 0.75], squeeze=False
    )[:, 0]
    title = f"{shorten(class_names[label], 80)}   ({shorten(example.video_name, 60)})"
    top.suptitle(title, fontsize=10)
    for axes, frame in zip(top.subplots(1, len(clip), squeeze=False)[0], clip, strict=True):
        axes.imshow(frame.permute(1, 2, 0).numpy())
        axes.axis("off")
    widths = [1.6, *[1.0] * num_maps] * 2
    panels = iter(bottom.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    for cell, view in zip(cells, views, strict=True):
        axes = next(panels)
        axes.axis("off")
        heading = [shorten(name, 40) for name in (cell.backbone, cell.temporal)]
        lines = "\n".join([*heading, "", *_score_lines(view.probabilities, label, class_names)])
        axes.text(0, 0.95, lines, fontsize=8, va="top", transform=axes.transAxes)
        for _ in range(num_maps - len(view.attention)):
            next(panels).axis("off")
        for site, weights in view.attention:
            axes = next(panels)
            axes.imshow(weights.numpy(), vmin=0, vmax=1, cmap="viridis")
            axes.set_title(site, fontsize=7)
            axes.set(xticks=[], yticks=[])
    save_figure(figure, path)
    return num_maps


class _ModelView(NamedTuple):
    """A clip, a model's probabilities for it, and its attention maps with their sites."""

    clip: UInt8[Tensor, "t 3 h w"]
    probabilities: Float[Tensor, "k"]
    attention: list[tuple[str, Float[Tensor, "t t"]]]


def _run_model(cell: Cell, example: Example, split: str) -> _ModelView:
    """Run a cell's model on the video; keep the attention at the first, middle and last site."""
    (evaluated,) = [one for one in cell.runs if one.run.seed == example.seed]
    recipe = evaluated.run.recipe
    dataset = open_dataset(recipe.data, split, spec=recipe.clip, views=recipe.eval)
    sample = dataset[Request(int(evaluated.indices[example.position]))]
    assert isinstance(sample, Sample)  # evaluation has already read this video
    clip = sample.views[0]
    activations = record_activations(evaluated.run.load_model(), clip)
    maps = [(site.name, site.attention) for site in activations.sites if site.attention is not None]
    chosen = sorted({0, len(maps) // 2, len(maps) - 1}) if maps else []
    return _ModelView(clip, activations.probabilities, [maps[index] for index in chosen])


def _score_lines(
    probabilities: Float[Tensor, "k"], label: int, class_names: Sequence[str]
) -> list[str]:
    """Return the three most probable classes, the true one marked by `>`."""
    best: list[int] = probabilities.argsort(descending=True)[:3].tolist()
    return [
        f"{'> ' if index == label else '   '}{shorten(class_names[index], 40)}  "
        f"{probabilities[index]:.0%}"
        for index in best
    ]
