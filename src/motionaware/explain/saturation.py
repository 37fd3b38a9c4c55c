"""Saturation: how far attention over time is from the identity, site by site, over a data set.

Logits that grow with the square root of a frame's size may leave nothing but the diagonal: each
frame then gathers from itself alone, and the attention does no more than a skip connection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from motionaware.data.loader import batches_of, in_order, make_loader
from motionaware.engine.config import DataConfig, EvalConfig
from motionaware.engine.dataset_factory import open_dataset
from motionaware.engine.evaluate import check_classes, evaluation_mode
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.explain.activations import hooked
from motionaware.explain.drawing import figure_maker, save_sheet
from motionaware.explain.lettering import lettering
from motionaware.models.recognizer import VideoRecognizer
from motionaware.ops.layout import fold_views, unfold_views
from motionaware.temporal.causal_modules import PastMotionAttention
from motionaware.temporal.m2a import MotionAttention

SATURATED = 0.9  # of a row's weight on its own frame


@dataclass(frozen=True, kw_only=True)
class SiteAttention:
    """The attention maps of one site: means over clips and heads.

    Attributes:
        site: Name of the host; of several modules there, each has its own below it.
        diagonal: Mean weight of a frame in its own row.
        last_row: The same of the last row alone; its frame has no successor.
        other_rows: The same of the rows before it.
        saturated: Share of these rows in which that weight is above `SATURATED`.
        entropy: Of a row, divided by the logarithm of the frames it can see: 0 is one frame, 1 all
            alike.
        to_identity: Total variation distance of a row to the identity's, in [0, 1]: 1 - diagonal.
        to_uniform: Likewise to equal weights for the frames it can see.
        largest_other: The largest weight of a map beside its diagonal.
        mean_map: Row by row.
    """

    site: str
    diagonal: float
    last_row: float
    other_rows: float
    saturated: float
    entropy: float
    to_identity: float
    to_uniform: float
    largest_other: float
    mean_map: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """How a model attends over time on the clips of a split."""

    split: str
    num_clips: int
    sites: tuple[SiteAttention, ...]

    def table(self) -> str:
        """As lines to read."""
        width = max(len(one.site) for one in self.sites)
        head = (
            "diagonal  last row  others  saturated  entropy  to identity  to uniform  largest other"
        )
        lines = [f"{self.num_clips} clips of {self.split}", f"{'site':<{width}}  {head}"]
        for one in self.sites:
            lines.append(
                f"{one.site:<{width}}  {one.diagonal:8.3f}  {one.last_row:8.3f}  "
                f"{one.other_rows:6.3f}  {one.saturated:9.3f}  {one.entropy:7.3f}  "
                f"{one.to_identity:11.3f}  {one.to_uniform:10.3f}  {one.largest_other:13.3f}"
            )
        return "\n".join(lines)


def saturation(
    model: VideoRecognizer,
    data: DataConfig,
    *,
    split: str = "val",
    config: EvalConfig | None = None,
    progress: bool = False,
) -> Saturation:
    """Measure how far attention over time is from the identity on one split.

    Args:
        model: On the device to work on; it is left as it was.
        data: The videos; their classes must be the model's, in its order.
        split: `train`, `val` or `test`.
        config: Views and batch size.
        progress: Show a bar on the error stream.

    Raises:
        ValueError: The model does not attend over time, or the classes of the data are not its own.
        DataError: The data are not as their kind wants them.
        VideoError: A video cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
    """
    attending = dict(attentions(model.backbone))
    if not attending:
        raise UsageError(
            f"no site of {type(model.backbone).__name__} attends over time; take a model with m2a "
            "or another attention"
        )
    config = config or EvalConfig()
    dataset = open_dataset(data, split, spec=model.clip, views=config, progress=progress)
    check_classes(model.class_names, dataset.class_names)
    order = in_order(len(dataset), batch_size=config.batch_size)
    loader = make_loader(dataset, order, num_workers=data.num_workers)
    sums = {name: _Sums() for name in attending}
    bar = tqdm(batches_of(loader), "look", total=len(loader), leave=False, disable=not progress)
    hooks = [(attending[name], sums[name].take) for name in attending]
    with evaluation_mode(model), hooked(hooks), torch.inference_mode():
        for batch in bar:
            scores = model(fold_views(batch.views).to(model.mean.device))
            names = [dataset.name(index) for index in batch.indices.tolist()]
            check_scores(unfold_views(scores, num_views=batch.views.shape[1]), model, names)
    sites = tuple(one.means(name) for name, one in sums.items())
    return Saturation(split=split, num_clips=next(iter(sums.values())).num_clips, sites=sites)


def attentions(network: nn.Module) -> Iterator[tuple[str, MotionAttention]]:
    """The modules that attend over time, each by the name of its site where it is alone there."""
    found = [(n, m) for n, m in network.named_modules() if isinstance(m, MotionAttention)]
    hosts = [name.partition(".temporal")[0] for name, _ in found]
    for host, (name, module) in zip(hosts, found, strict=True):
        yield (host if hosts.count(host) == 1 else name), module


class _Sums:
    """What the maps of one site sum up to (`take` is a forward hook)."""

    def __init__(self) -> None:
        self.num_clips = 0
        self.num_maps = 0
        self.map = torch.zeros(0)
        self.totals = torch.zeros(0)

    def take(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, MotionAttention)
        maps = module.head_maps(inputs[0]).double().cpu()
        window = module.gather.window if isinstance(module, PastMotionAttention) else None
        facts = torch.stack(
            [reduce(fact, "b heads -> ", "sum") for fact in _facts(maps, window=window)]
        )
        total = reduce(maps, "b heads t t2 -> t t2", "sum")
        first = self.num_maps == 0
        self.totals = facts if first else self.totals + facts
        self.map = total if first else self.map + total
        self.num_clips += maps.shape[0]
        self.num_maps += maps.shape[0] * maps.shape[1]

    def means(self, site: str) -> SiteAttention:
        names = (
            "diagonal",
            "last_row",
            "other_rows",
            "saturated",
            "entropy",
            "to_uniform",
            "largest_other",
        )
        facts = dict(zip(names, (self.totals / self.num_maps).tolist(), strict=True))
        rows = tuple(map(tuple, (self.map / self.num_maps).tolist()))
        return SiteAttention(site=site, to_identity=1 - facts["diagonal"], mean_map=rows, **facts)


def _facts(
    maps: Float[Tensor, "b heads t t2"], *, window: int | None
) -> Iterator[Float[Tensor, "b heads"]]:
    """The facts of `SiteAttention` in its order, without the distance to the identity."""
    t = maps.shape[-1]
    place = torch.arange(t)
    visible = torch.ones(t, t, dtype=torch.bool)
    if window is not None:  # each frame sees itself and some before it
        visible = (place <= place[:, None]) & (place > place[:, None] - window)
    num_visible = visible.sum(dim=-1).double()
    uniform = visible / num_visible[:, None]
    own = maps.diagonal(dim1=-2, dim2=-1)
    entropies = torch.special.entr(maps).sum(dim=-1)
    choosing = num_visible > 1  # a frame that sees itself alone has no choice
    yield own.mean(dim=-1)
    yield own[..., -1]
    yield own[..., :-1].mean(dim=-1)
    yield (own[..., :-1] > SATURATED).to(own.dtype).mean(dim=-1)
    yield (entropies / num_visible.log().clamp(min=1e-9))[..., choosing].mean(dim=-1)
    yield (maps - uniform).abs().sum(dim=-1).mean(dim=-1) / 2
    yield maps.masked_fill(torch.eye(t, dtype=torch.bool), 0).amax(dim=(-2, -1))


def check_picture(path: str | Path) -> None:
    """Refuse what `draw_saturation` could not draw, before the work and not after.

    Raises:
        ValueError: It does not end with `.png`.
        ImportError: matplotlib is not installed.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"{path} ends with {Path(path).suffix!r}; the attention is drawn as .png")
    figure_maker()


def draw_saturation(found: Saturation, path: str | Path) -> None:
    """Draw the mean map of every site, and how far each is from the identity, as PNG.

    Raises:
        ValueError: The path does not end with `.png`.
        ImportError: matplotlib is not installed.
    """
    check_picture(path)
    with lettering([found.split, *(one.site for one in found.sites)]):
        _draw(found, Path(path))


def _draw(found: Saturation, path: Path) -> None:
    columns = min(len(found.sites), 8)
    lines = -(-len(found.sites) // columns)
    figure = figure_maker()(
        figsize=(max(1.5 * columns, 6), 1.9 * lines + 2.6), layout="constrained"
    )
    above, below = figure.subfigures(2, 1, height_ratios=[1.9 * lines, 2.6], squeeze=False)[:, 0]
    panels = above.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(found.sites) :]:
        axes.axis("off")
    images = []
    for axes, one in zip(panels, found.sites, strict=False):
        images.append(axes.imshow(one.mean_map, vmin=0, vmax=1, cmap="viridis"))
        axes.set_title(f"{one.site}\ndiagonal {one.diagonal:.2f}", fontsize=7)
        axes.set(xticks=[], yticks=[])
    above.colorbar(images[0], ax=panels, fraction=0.02, pad=0.01).ax.tick_params(labelsize=6)
    above.suptitle(f"attention, mean over {found.num_clips} clips of {found.split}", fontsize=9)
    axes = below.subplots()
    names = [one.site for one in found.sites]
    axes.plot(names, [one.diagonal for one in found.sites], "o-", label="diagonal (identity: 1)")
    axes.plot(names, [one.last_row for one in found.sites], "s--", label="of the last row")
    axes.plot(names, [one.other_rows for one in found.sites], ".--", label="of the other rows")
    axes.plot(names, [one.entropy for one in found.sites], "^-", label="entropy (uniform: 1)")
    axes.set_ylim(0, 1.03)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="x", rotation=30)
    axes.legend(fontsize=7)
    save_sheet(figure, path)
