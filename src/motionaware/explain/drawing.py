"""Drawing: what was seen in a clip as a sheet or as a movie."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor

from motionaware.errors import MissingPackage
from motionaware.explain.activations import Look, Site
from motionaware.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_SMALL = 7  # points
_MOST_NUMBERS = 10  # frames up to which an attention map has room for its numbers
_COLUMNS = 9  # panels side by side


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A clip and what was seen in it.

    Attributes:
        frames: RGB in [0, 255].
        captions: One a frame, such as its time.
        look: What was seen.
        class_names: Of the classes, in the order of their probabilities.
        title: Words above it all.
        top_k: Classes to name.
    """

    frames: UInt8[Tensor, "t 3 h w"]
    captions: Sequence[str]
    look: Look
    class_names: Sequence[str]
    title: str
    top_k: int


@dataclass(frozen=True, eq=False)
class _Row:
    """One map a frame, to lay over the frames, and the scale of its colours."""

    label: str
    maps: Float[Tensor, "t h w"]
    colours: str
    low: float
    high: float


def figure_maker() -> "type[Figure]":
    """Matplotlib's figure; not pyplot: no window, no global state.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage(
            "pictures need matplotlib; run: pip install 'motionaware[plots]'"
        ) from error
    return Figure


def draw_sheet(scene: Scene) -> "Figure":
    """All frames side by side, a row below for each map laid over them, then attention and classes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows = _rows(scene)
    attending = [site for site in scene.look.sites if site.attention is not None]
    num_frames = len(scene.frames)
    width = max(1.15 * num_frames + 1.2, 8.0)
    cell = (width - 1.2) / num_frames
    num_lines = _num_lines(1 + len(attending))
    below_height = num_lines * (width / min(1.6 + len(attending), _COLUMNS) + 0.4)
    below_height = min(max(below_height, 2.1 * num_lines), 2.9 * num_lines)
    above_height = (1 + len(rows)) * (cell + 0.08) + 0.5
    figure = figure_maker()(figsize=(width, above_height + below_height), layout="constrained")
    above, below = figure.subfigures(
        2, 1, height_ratios=[above_height, below_height], squeeze=False
    )[:, 0]
    above.suptitle(scene.title, fontsize=10)
    grid = above.subplots(
        1 + len(rows), num_frames + 1, squeeze=False, width_ratios=[1.0] * num_frames + [0.08]
    )
    for number, axes in enumerate(grid[0, :-1]):
        _show(axes, scene.frames[number])
        axes.set_title(scene.captions[number], fontsize=_SMALL)
    grid[0, -1].axis("off")
    for row, panels in zip(rows, grid[1:], strict=True):
        images = [
            _overlay(axes, frame, row, number)
            for number, (axes, frame) in enumerate(zip(panels[:-1], scene.frames, strict=True))
        ]
        beyond = "max" if float(row.maps.max()) > row.high else "neither"
        bar = above.colorbar(images[-1], cax=panels[-1], extend=beyond)
        bar.ax.tick_params(labelsize=_SMALL - 1)
        bar.solids.set_alpha(1)
        panels[0].set_ylabel(row.label, fontsize=_SMALL - 1)
    _draw_below(below, scene, attending)
    return figure


def draw_movie(scene: Scene) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """The same, frame by frame: one picture a frame, with its row of the attention marked.

    Raises:
        ImportError: matplotlib is not installed.
    """
    new_figure = figure_maker()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows = _rows(scene)
    attending = [site for site in scene.look.sites if site.attention is not None]
    columns = min(max(1 + len(rows), 1 + len(attending), 3), _COLUMNS)
    heights = [1.9 * _num_lines(1 + len(rows)), 2.1 * _num_lines(1 + len(attending))]
    for number, frame in enumerate(scene.frames):
        size = (1.9 * columns, 0.4 + sum(heights))
        figure = new_figure(figsize=size, dpi=80, layout="constrained")
        figure.suptitle(scene.title, fontsize=9)
        above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
        panels = _grid(above, 1 + len(rows))
        _show(panels[0], frame)
        panels[0].set_title(scene.captions[number], fontsize=_SMALL)
        for row, axes in zip(rows, panels[1:], strict=True):
            _overlay(axes, frame, row, number)
            axes.set_title(row.label, fontsize=_SMALL - 1)
        _draw_below(below, scene, attending, marked=number / len(scene.frames))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = torch.from_numpy(np.array(canvas.buffer_rgba()))[..., :3]
        h, w = (size // 2 * 2 for size in picture.shape[:2])  # what every player shows
        yield rearrange(picture[:h, :w], "h w c -> c h w")


def save_sheet(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all; what sticks out of its edges is not cut."""
    with atomic_file(path, what="the picture") as whole:
        figure.savefig(whole, dpi=110, format="png", bbox_inches="tight", pad_inches=0.1)


def save_gif(path: Path, pictures: UInt8[Tensor, "t 3 h w"], *, fps: float | int) -> None:
    """Write pictures as a GIF that plays for ever."""
    from PIL import Image

    first, *others = [
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).quantize(
            dither=Image.Dither.NONE
        )
        for picture in pictures
    ]
    with atomic_file(path, what="the picture") as whole:
        first.save(
            whole,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=round(1000 / fps),
            loop=0,
        )


# ------------------------------------------------------------------------------------------ panels


def _num_lines(num_panels: int) -> int:
    return -(-num_panels // _COLUMNS)


def _grid(figure: "SubFigure", num_panels: int) -> list["Axes"]:
    """So many panels, in lines where they are many."""
    columns = min(num_panels, _COLUMNS)
    panels = figure.subplots(_num_lines(num_panels), columns, squeeze=False).flatten()
    for axes in panels[num_panels:]:
        axes.axis("off")
    return list(panels[:num_panels])


def _draw_below(
    figure: "SubFigure", scene: Scene, attending: Sequence[Site], *, marked: float | None = None
) -> None:
    bars, *squares = _grid(figure, 1 + len(attending))
    _draw_classes(bars, scene)
    for axes, site in zip(squares, attending, strict=True):
        image = _draw_attention(axes, site, marked=marked)
        if axes is squares[-1]:
            bar = figure.colorbar(image, ax=squares, fraction=0.02, pad=0.01)
            bar.ax.tick_params(labelsize=_SMALL - 1)


def _rows(scene: Scene) -> list[_Row]:
    rows = []
    for site in scene.look.sites:
        if site.motion is not None:
            # Of all frames but one: that at the end is compared with nothing and outshines them.
            peaks = reduce(site.motion, "t h w -> t", "max").sort().values[-2:]
            high = max(float(peaks[0]), 1e-6)
            rows.append(
                _Row(f"{site.name}\nmotion", _fit(site.motion, scene), "inferno", 0.0, high)
            )
        if site.gate is not None:
            low, high = float(site.gate.min()), float(site.gate.max())
            high = max(high, low + 1e-6)
            words = f"{site.name}\n{site.gate_words}"
            rows.append(_Row(words, _fit(site.gate, scene), "viridis", low, high))
    if scene.look.cam is not None:
        target = _wrapped(scene.class_names[scene.look.target], width=24, lines=3)
        label = f"Grad-CAM, {scene.look.layer}\n{target}"
        rows.append(_Row(label, _fit(scene.look.cam, scene), "magma", 0.0, 1.0))
    return rows


def _wrapped(name: str, *, width: int, lines: int) -> str:
    """A name in so many lines of so many letters at most; an ellipsis stands for what is over."""
    return "\n".join(textwrap.wrap(name, width, max_lines=lines, placeholder=" …"))


def _fit(maps: Float[Tensor, "t2 h2 w2"], scene: Scene) -> Float[Tensor, "t h w"]:
    """Bring maps to the size of the frames, and to their number where a network shrinks time."""
    t, _, h, w = scene.frames.shape
    moments = torch.arange(t) * len(maps) // t
    large = F.interpolate(maps[None].float(), size=(h, w), mode="bilinear", align_corners=False)
    return large[0, moments]


def _show(axes: "Axes", frame: UInt8[Tensor, "3 h w"], *, grey: bool = False) -> None:
    picture = frame.permute(1, 2, 0).numpy()
    if grey:
        axes.imshow(picture.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(picture)
    axes.set(xticks=[], yticks=[])


def _overlay(axes: "Axes", frame: UInt8[Tensor, "3 h w"], row: _Row, number: int) -> Any:
    _show(axes, frame, grey=True)
    return axes.imshow(
        row.maps[number].numpy(), cmap=row.colours, vmin=row.low, vmax=row.high, alpha=0.6
    )


def _draw_classes(axes: "Axes", scene: Scene) -> None:
    values, places = scene.look.probabilities.topk(min(scene.top_k, len(scene.class_names)))
    lines = 2 if len(places) <= 5 else 1  # what the height of the panel has room for
    names = [_wrapped(scene.class_names[int(p)], width=32, lines=lines) for p in places]
    positions = range(len(names), 0, -1)
    axes.barh(positions, values.tolist(), color="#4477aa", tick_label=names)
    axes.set(xlim=(0, 1))
    axes.set_xlabel("probability", fontsize=_SMALL)
    axes.tick_params(labelsize=_SMALL)


def _draw_attention(axes: "Axes", site: Site, *, marked: float | None = None) -> Any:
    assert site.attention is not None
    weights = site.attention.numpy()
    size = len(weights)
    image = axes.imshow(weights, vmin=0, vmax=1, cmap="viridis")
    axes.set_title(f"attention at\n{site.name}", fontsize=_SMALL)
    axes.set_xlabel("attended frame", fontsize=_SMALL)
    axes.set_ylabel("frame", fontsize=_SMALL)
    axes.set(xticks=[], yticks=[])
    if size <= _MOST_NUMBERS:
        for (row, column), weight in np.ndenumerate(weights):
            colour = "white" if weight < 0.6 else "black"
            digits = f"{weight:.2f}".removeprefix("0")
            axes.text(
                *(column, row, digits),
                fontsize=_SMALL - 2.5,
                color=colour,
                ha="center",
                va="center",
            )
    if marked is not None:
        top = int(marked * size) - 0.5
        axes.plot(
            [-0.5, size - 0.5, size - 0.5, -0.5, -0.5],
            [top, top, top + 1, top + 1, top],
            color="#ee6677",
            clip_on=False,
        )
    return image
