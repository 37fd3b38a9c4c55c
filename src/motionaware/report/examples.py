"""Clips that one column has right and another wrong: frames, and the attention between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from motionaware.data.loader import Request, Sample
from motionaware.engine.dataset_factory import open_dataset
from motionaware.explain.activations import record_activations
from motionaware.explain.drawing import import_figure_class, save_figure
from motionaware.explain.text_rendering import shorten
from motionaware.report.columns import Column, Gain


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A video that one column has right with every shared seed, and another wrong with every one.

    Attributes:
        right, wrong: The columns.
        seed: Of the runs whose answers are drawn.
        place: Of the video, among those that were evaluated.
    """

    right: Column
    wrong: Column
    seed: int
    place: int

    @property
    def video(self) -> str:
        """The video's name."""
        return self.right.runs[0].names[self.place]


def choose_examples(gain: Gain, *, num: int) -> list[Example]:
    """Where two columns differ most surely: up to `num` videos each way, of as many classes.

    Ordered by how far apart the probabilities of the right class are.
    """
    found = []
    for right, wrong in ((gain.one, gain.other), (gain.other, gain.one)):
        always, ever = right.right(gain.seeds).all(axis=0), wrong.right(gain.seeds).any(axis=0)
        sure = np.asarray(always & ~ever)
        margins = _confidence(right, gain.seeds) - _confidence(wrong, gain.seeds)
        labels, taken = right.runs[0].labels, set()
        for place in np.argsort(-np.where(sure, margins, -np.inf)).tolist():
            if not sure[place] or len(taken) == num:
                break
            if int(labels[place]) not in taken:
                taken.add(int(labels[place]))
                found.append(Example(right=right, wrong=wrong, seed=gain.seeds[0], place=place))
    return found


def draw_example(example: Example, path: Path, *, split: str) -> int:
    """Draw the clip's frames; below, what each model says, and where it has M2A, its attention.

    Returns:
        How many maps of attention are drawn of a model, at most.
    """
    columns = (example.right, example.wrong)
    evaluated = [_judge(column, example, split) for column in columns]
    clip = evaluated[0][0]
    names = example.right.runs[0].class_names
    label = int(example.right.runs[0].labels[example.place])
    num_maps = max(len(maps) for _, _, maps in evaluated)

    figure = import_figure_class()(
        figsize=(11, 1.9 + (1.9 if num_maps else 0.75)), layout="constrained"
    )
    above, below = figure.subfigures(
        2, 1, height_ratios=[1.35, 1.9 if num_maps else 0.75], squeeze=False
    )[:, 0]
    above.suptitle(f"{shorten(names[label], 80)}   ({shorten(example.video, 60)})", fontsize=10)
    for axes, frame in zip(above.subplots(1, len(clip), squeeze=False)[0], clip, strict=True):
        axes.imshow(frame.permute(1, 2, 0).numpy())
        axes.axis("off")
    widths = [1.6, *[1.0] * num_maps] * 2
    panels = iter(below.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    for column, (_, probabilities, maps) in zip(columns, evaluated, strict=True):
        axes = next(panels)
        axes.axis("off")
        lines = [
            f"{'> ' if place == label else '   '}{shorten(names[place], 40)}  {value:.0%}"
            for value, place in _likeliest(probabilities, 3)
        ]
        heading = [shorten(one, 40) for one in (column.backbone, column.temporal)]
        words = "\n".join([*heading, "", *lines])
        axes.text(0, 0.95, words, fontsize=8, va="top", transform=axes.transAxes)
        for _ in range(num_maps - len(maps)):
            next(panels).axis("off")
        for site, weights in maps:
            axes = next(panels)
            axes.imshow(weights.numpy(), vmin=0, vmax=1, cmap="viridis")
            axes.set_title(site, fontsize=7)
            axes.set(xticks=[], yticks=[])
    save_figure(figure, path)
    return num_maps


def _confidence(column: Column, seeds: Sequence[int]) -> np.ndarray:
    return np.mean([one.confidence for one in column.runs if one.run.seed in seeds], axis=0)


def _judge(
    column: Column, example: Example, split: str
) -> tuple[Tensor, Tensor, list[tuple[str, Tensor]]]:
    """The clip, its probabilities, and the attention at the first, the middle and the last site."""
    (evaluated,) = [one for one in column.runs if one.run.seed == example.seed]
    recipe = evaluated.run.recipe
    dataset = open_dataset(recipe.data, split, spec=recipe.clip, views=recipe.eval)
    sample = dataset[Request(int(evaluated.indices[example.place]))]
    assert isinstance(sample, Sample)  # it was read when it was judged
    clip = sample.views[0]
    activations = record_activations(evaluated.run.load(), clip)
    maps = [(site.name, site.attention) for site in activations.sites if site.attention is not None]
    chosen = sorted({0, len(maps) // 2, len(maps) - 1}) if maps else []
    return clip, activations.probabilities, [maps[place] for place in chosen]


def _likeliest(probabilities: Tensor, num: int) -> Iterator[tuple[float, int]]:
    values, places = probabilities.topk(min(num, len(probabilities)))
    yield from zip(values.tolist(), places.tolist(), strict=True)
