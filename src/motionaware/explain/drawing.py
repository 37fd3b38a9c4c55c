"""Draw the activations of a clip as one sheet of all frames or as a movie."""

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
from motionaware.explain.activations import Activations, SiteMaps
from motionaware.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_FONT_SIZE = 7  # points
_MAX_NUMBERED_FRAMES = 10  # larger attention maps are drawn without numbers in their cells
_MAX_COLUMNS = 9  # panels side by side


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A clip, its activations and the texts to draw with them.

    Attributes:
        frames: RGB in [0, 255].
        captions: One text a frame, such as its time.
        activations: What the model computed on the clip.
        class_names: Names of the classes, in the order of the probabilities.
        title: Text at the top.
        top_k: Number of classes to draw, the most probable first.
    """

    frames: UInt8[Tensor, "t 3 h w"]
    captions: Sequence[str]
    activations: Activations
    class_names: Sequence[str]
    title: str
    top_k: int


@dataclass(frozen=True, eq=False)
class _MapRow:
    """A row of maps, one a frame, to draw over the grey frames, with the range of its colours."""

    label: str
    maps: Float[Tensor, "t h w"]
    colours: str
    low: float
    high: float


def import_figure_class() -> "type[Figure]":
    """Import matplotlib and return its class `Figure`. Unlike pyplot it has no global state.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackage(
            "pictures need matplotlib; run: pip install 'motionaware[plots]'"
        ) from error
    return Figure


def draw_sheet(scene: Scene) -> "Figure":
    """Draw all frames in a row, one row for each kind of map, then classes and attention maps.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    rows = _map_rows(scene)
    attention_sites = [site for site in scene.activations.sites if site.attention is not None]
    num_frames = len(scene.frames)
    width = max(1.15 * num_frames + 1.2, 8.0)
    cell = (width - 1.2) / num_frames
    num_lines = _num_lines(1 + len(attention_sites))
    below_height = num_lines * (width / min(1.6 + len(attention_sites), _MAX_COLUMNS) + 0.4)
    below_height = min(max(below_height, 2.1 * num_lines), 2.9 * num_lines)
    above_height = (1 + len(rows)) * (cell + 0.08) + 0.5
    figure = import_figure_class()(
        figsize=(width, above_height + below_height), layout="constrained"
    )
    above, below = figure.subfigures(
        2, 1, height_ratios=[above_height, below_height], squeeze=False
    )[:, 0]
    above.suptitle(scene.title, fontsize=10)
    grid = above.subplots(
        1 + len(rows), num_frames + 1, squeeze=False, width_ratios=[1.0] * num_frames + [0.08]
    )
    for number, axes in enumerate(grid[0, :-1]):
        _draw_frame(axes, scene.frames[number])
        axes.set_title(scene.captions[number], fontsize=_FONT_SIZE)
    grid[0, -1].axis("off")
    for row, panels in zip(rows, grid[1:], strict=True):
        images = [
            _draw_map(axes, frame, row, number)
            for number, (axes, frame) in enumerate(zip(panels[:-1], scene.frames, strict=True))
        ]
        extend = "max" if float(row.maps.max()) > row.high else "neither"
        bar = above.colorbar(images[-1], cax=panels[-1], extend=extend)
        bar.ax.tick_params(labelsize=_FONT_SIZE - 1)
        bar.solids.set_alpha(1)
        panels[0].set_ylabel(row.label, fontsize=_FONT_SIZE - 1)
    _draw_classes_and_attention(below, scene, attention_sites)
    return figure


def draw_movie(scene: Scene) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """Yield one picture a frame: the frame, its maps, classes and attention.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    figure_class = import_figure_class()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows = _map_rows(scene)
    attention_sites = [site for site in scene.activations.sites if site.attention is not None]
    columns = min(max(1 + len(rows), 1 + len(attention_sites), 3), _MAX_COLUMNS)
    heights = [1.9 * _num_lines(1 + len(rows)), 2.1 * _num_lines(1 + len(attention_sites))]
    for number, frame in enumerate(scene.frames):
        size = (1.9 * columns, 0.4 + sum(heights))
        figure = figure_class(figsize=size, dpi=80, layout="constrained")
        figure.suptitle(scene.title, fontsize=9)
        above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
        panels = _panels(above, 1 + len(rows))
        _draw_frame(panels[0], frame)
        panels[0].set_title(scene.captions[number], fontsize=_FONT_SIZE)
        for row, axes in zip(rows, panels[1:], strict=True):
            _draw_map(axes, frame, row, number)
            axes.set_title(row.label, fontsize=_FONT_SIZE - 1)
        _draw_classes_and_attention(
            below, scene, attention_sites, position=number / len(scene.frames)
        )
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = torch.from_numpy(np.array(canvas.buffer_rgba()))[..., :3]
        h, w = (size // 2 * 2 for size in picture.shape[:2])  # H.264 needs even sizes
        yield rearrange(picture[:h, :w], "h w c -> c h w")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically; the picture grows to hold texts beyond its edges."""
    with atomic_file(path, what="the picture") as temporary:
        figure.savefig(temporary, dpi=110, format="png", bbox_inches="tight", pad_inches=0.1)


def save_gif(path: Path, pictures: UInt8[Tensor, "t 3 h w"], *, fps: float | int) -> None:
    """Write pictures as a GIF that repeats without end."""
    from PIL import Image

    first, *following = [
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).quantize(
            dither=Image.Dither.NONE
        )
        for picture in pictures
    ]
    with atomic_file(path, what="the picture") as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=following,
            duration=round(1000 / fps),
            loop=0,
        )


# ------------------------------------------------------------------------------------------ panels


def _num_lines(num_panels: int) -> int:
    """Return the number of lines of at most `_MAX_COLUMNS` panels."""
    return -(-num_panels // _MAX_COLUMNS)


def _panels(figure: "SubFigure", num_panels: int) -> list["Axes"]:
    """Return panels in lines of at most `_MAX_COLUMNS`; the unused ones are hidden."""
    columns = min(num_panels, _MAX_COLUMNS)
    panels = figure.subplots(_num_lines(num_panels), columns, squeeze=False).flatten()
    for axes in panels[num_panels:]:
        axes.axis("off")
    return list(panels[:num_panels])


def _draw_classes_and_attention(
    figure: "SubFigure",
    scene: Scene,
    attention_sites: Sequence[SiteMaps],
    *,
    position: float | None = None,
) -> None:
    bars, *attention_panels = _panels(figure, 1 + len(attention_sites))
    _draw_classes(bars, scene)
    for axes, site in zip(attention_panels, attention_sites, strict=True):
        image = _draw_attention(axes, site, position=position)
        if axes is attention_panels[-1]:
            bar = figure.colorbar(image, ax=attention_panels, fraction=0.02, pad=0.01)
            bar.ax.tick_params(labelsize=_FONT_SIZE - 1)


def _map_rows(scene: Scene) -> list[_MapRow]:
    """Return the rows of motion, gate and Grad-CAM, with the maps scaled to the frames."""
    rows = []
    for site in scene.activations.sites:
        if site.motion is not None:
            # Ignore the frame of the largest peak: the last frame has no successor, and its motion
            # is far above that of the others.
            peaks = reduce(site.motion, "t h w -> t", "max").sort().values[-2:]
            high = max(float(peaks[0]), 1e-6)
            rows.append(
                _MapRow(f"{site.name}\nmotion", _resized(site.motion, scene), "inferno", 0.0, high)
            )
        if site.gate is not None:
            low, high = float(site.gate.min()), float(site.gate.max())
            high = max(high, low + 1e-6)
            label = f"{site.name}\n{site.gate_label}"
            rows.append(_MapRow(label, _resized(site.gate, scene), "viridis", low, high))
    if scene.activations.cam is not None:
        target = _wrap(scene.class_names[scene.activations.target], width=24, lines=3)
        label = f"Grad-CAM, {scene.activations.layer}\n{target}"
        rows.append(_MapRow(label, _resized(scene.activations.cam, scene), "magma", 0.0, 1.0))
    return rows


def _wrap(name: str, *, width: int, lines: int) -> str:
    """Wrap to `lines` x `width` characters; truncate with an ellipsis."""
    return "\n".join(textwrap.wrap(name, width, max_lines=lines, placeholder=" …"))


def _resized(maps: Float[Tensor, "t2 h2 w2"], scene: Scene) -> Float[Tensor, "t h w"]:
    """Resize maps to the frames; repeat them where the network has reduced their number."""
    t, _, h, w = scene.frames.shape
    map_of_frame = torch.arange(t) * len(maps) // t
    resized = F.interpolate(maps[None].float(), size=(h, w), mode="bilinear", align_corners=False)
    return resized[0, map_of_frame]


def _draw_frame(axes: "Axes", frame: UInt8[Tensor, "3 h w"], *, grey: bool = False) -> None:
    picture = frame.permute(1, 2, 0).numpy()
    if grey:
        axes.imshow(picture.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(picture)
    axes.set(xticks=[], yticks=[])


def _draw_map(axes: "Axes", frame: UInt8[Tensor, "3 h w"], row: _MapRow, number: int) -> Any:
    _draw_frame(axes, frame, grey=True)
    return axes.imshow(
        row.maps[number].numpy(), cmap=row.colours, vmin=row.low, vmax=row.high, alpha=0.6
    )


def _draw_classes(axes: "Axes", scene: Scene) -> None:
    values, labels = scene.activations.probabilities.topk(min(scene.top_k, len(scene.class_names)))
    lines = 2 if len(labels) <= 5 else 1  # more do not fit into the height of the panel
    names = [_wrap(scene.class_names[int(label)], width=32, lines=lines) for label in labels]
    positions = range(len(names), 0, -1)
    axes.barh(positions, values.tolist(), color="#4477aa", tick_label=names)
    axes.set(xlim=(0, 1))
    axes.set_xlabel("probability", fontsize=_FONT_SIZE)
    axes.tick_params(labelsize=_FONT_SIZE)


def _draw_attention(axes: "Axes", site: SiteMaps, *, position: float | None = None) -> Any:
    """Draw an attention map; outline the row at a position in the clip, in [0, 1), if given."""
    assert site.attention is not None
    weights = site.attention.numpy()
    num_frames = len(weights)
    image = axes.imshow(weights, vmin=0, vmax=1, cmap="viridis")
    axes.set_title(f"attention at\n{site.name}", fontsize=_FONT_SIZE)
    axes.set_xlabel("attended frame", fontsize=_FONT_SIZE)
    axes.set_ylabel("frame", fontsize=_FONT_SIZE)
    axes.set(xticks=[], yticks=[])
    if num_frames <= _MAX_NUMBERED_FRAMES:
        for (row, column), weight in np.ndenumerate(weights):
            colour = "white" if weight < 0.6 else "black"
            digits = f"{weight:.2f}".removeprefix("0")
            axes.text(
                *(column, row, digits),
                fontsize=_FONT_SIZE - 2.5,
                color=colour,
                ha="center",
                va="center",
            )
    if position is not None:
        top = int(position * num_frames) - 0.5
        axes.plot(
            [-0.5, num_frames - 0.5, num_frames - 0.5, -0.5, -0.5],
            [top, top, top + 1, top + 1, top],
            color="#ee6677",
            clip_on=False,
        )
    return image
