"""Measure how close the attention over time is to the identity, at each site over a data set.

The logits of M2A grow with the square root of a frame's size, so the softmax may saturate. Then the
attention map is the identity: each frame attends to itself only, and the attention does no more
than a skip connection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from motionaware.data.loader import SequentialBatchSampler, iterate_batches, make_loader
from motionaware.engine.config import DataConfig, EvalConfig
from motionaware.engine.dataset_factory import open_dataset
from motionaware.engine.evaluate import check_classes, evaluation_mode
from motionaware.engine.scores import check_scores
from motionaware.errors import UsageError
from motionaware.explain.activations import forward_hooks
from motionaware.explain.drawing import import_figure_class, save_figure
from motionaware.explain.text_rendering import fonts_for
from motionaware.models.recognizer import VideoRecognizer
from motionaware.ops.layout import fold_views, unfold_views
from motionaware.temporal.causal_modules import PastMotionAttention
from motionaware.temporal.m2a import MotionAttention

SATURATED = 0.9  # weight of a frame on itself above which its row counts as saturated


@dataclass(frozen=True, kw_only=True)
class SiteAttention:
    """Statistics of the attention maps of one site: means over clips and heads.

    Attributes:
        site: Name of the host; the full module name if the site has several attention modules.
        diagonal: Weight of a frame on itself, mean over all rows.
        last_row: The diagonal weight of the last row; the last frame has no successor.
        other_rows: Mean diagonal weight of the rows before the last.
        saturated: Share of the rows before the last whose diagonal weight is above `SATURATED`.
        entropy: Entropy of a row divided by the logarithm of the number of visible frames, in
            [0, 1]: 0 if it attends to one frame, 1 if the weights are equal.
        to_identity: Total variation distance of a row to the identity, in [0, 1]: 1 - diagonal.
        to_uniform: Total variation distance of a row to equal weights on the visible frames.
        largest_other: The largest weight of a map off its diagonal.
        mean_map: The mean map, by rows.
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
    """Statistics of a model's attention over time on the clips of a split."""

    split: str
    num_clips: int
    sites: tuple[SiteAttention, ...]

    def table(self) -> str:
        """Return a text table with one line a site."""
        width = max(len(site.site) for site in self.sites)
        head = (
            "diagonal  last row  others  saturated  entropy  to identity  to uniform  largest other"
        )
        lines = [f"{self.num_clips} clips of {self.split}", f"{'site':<{width}}  {head}"]
        for site in self.sites:
            lines.append(
                f"{site.site:<{width}}  {site.diagonal:8.3f}  {site.last_row:8.3f}  "
                f"{site.other_rows:6.3f}  {site.saturated:9.3f}  {site.entropy:7.3f}  "
                f"{site.to_identity:11.3f}  {site.to_uniform:10.3f}  {site.largest_other:13.3f}"
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
    """Measure how close a model's attention over time is to the identity on one split.

    Args:
        model: Runs on its current device; its mode and hooks are restored.
        data: The videos; they must have the classes of the model, in the same order.
        split: `train`, `val` or `test`.
        config: Views and batch size.
        progress: Show a bar on the error stream.

    Raises:
        UsageError: The model has no attention over time, or the data have other classes.
        DataError: The data set does not have the layout of its kind.
        VideoError: A video cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
    """
    modules = dict(attention_modules(model.backbone))
    if not modules:
        raise UsageError(
            f"no site of {type(model.backbone).__name__} attends over time; take a model with m2a "
            "or another attention"
        )
    config = config or EvalConfig()
    dataset = open_dataset(data, split, spec=model.clip, views=config, progress=progress)
    check_classes(model.class_names, dataset.class_names)
    sampler = SequentialBatchSampler(len(dataset), batch_size=config.batch_size)
    loader = make_loader(dataset, sampler, num_workers=data.num_workers)
    statistics = {name: _MapStatistics() for name in modules}
    bar = tqdm(
        iterate_batches(loader), "attention", total=len(loader), leave=False, disable=not progress
    )
    hooks = [(modules[name], statistics[name].add) for name in modules]
    with evaluation_mode(model), forward_hooks(hooks), torch.inference_mode():
        for batch in bar:
            scores = model(fold_views(batch.views).to(model.mean.device))
            names = [dataset.name(index) for index in batch.indices.tolist()]
            check_scores(unfold_views(scores, num_views=batch.views.shape[1]), model, names)
    sites = tuple(of_site.means(name) for name, of_site in statistics.items())
    num_clips = next(iter(statistics.values())).num_clips
    return Saturation(split=split, num_clips=num_clips, sites=sites)


def attention_modules(network: nn.Module) -> Iterator[tuple[str, MotionAttention]]:
    """Yield the modules that attend over time, with the name of their site.

    If a site has several, each one has its full module name instead.
    """
    found = [(n, m) for n, m in network.named_modules() if isinstance(m, MotionAttention)]
    hosts = [name.partition(".temporal")[0] for name, _ in found]
    for host, (name, module) in zip(hosts, found, strict=True):
        yield (host if hosts.count(host) == 1 else name), module


class _MapStatistics:
    """Sums of the statistics of one site's attention maps; `add` is the forward hook."""

    def __init__(self) -> None:
        self.num_clips = 0
        self.num_maps = 0
        self.map_sum = torch.zeros(0)
        self.sums = torch.zeros(0)

    def add(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, MotionAttention)
        maps = module.head_maps(inputs[0]).double().cpu()
        window = module.gather.window if isinstance(module, PastMotionAttention) else None
        sums = torch.stack(
            [reduce(values, "b heads -> ", "sum") for values in _statistics(maps, window=window)]
        )
        map_sum = reduce(maps, "b heads t t2 -> t t2", "sum")
        is_first = self.num_maps == 0
        self.sums = sums if is_first else self.sums + sums
        self.map_sum = map_sum if is_first else self.map_sum + map_sum
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
        means = dict(zip(names, (self.sums / self.num_maps).tolist(), strict=True))
        rows = tuple(map(tuple, (self.map_sum / self.num_maps).tolist()))
        return SiteAttention(site=site, to_identity=1 - means["diagonal"], mean_map=rows, **means)


def _statistics(
    maps: Float[Tensor, "b heads t t2"], *, window: int | None
) -> Iterator[Float[Tensor, "b heads"]]:
    """Yield the statistics in the order of `SiteAttention`, without `to_identity`.

    Args:
        maps: Attention maps; rows sum to 1.
        window: Number of frames that a frame can attend to, itself and those before it; None if it
            can attend to all frames of the clip.
    """
    t = maps.shape[-1]
    frame = torch.arange(t)
    visible = torch.ones(t, t, dtype=torch.bool)
    if window is not None:
        visible = (frame <= frame[:, None]) & (frame > frame[:, None] - window)
    num_visible = visible.sum(dim=-1).double()
    uniform = visible / num_visible[:, None]
    diagonal = maps.diagonal(dim1=-2, dim2=-1)
    entropies = torch.special.entr(maps).sum(dim=-1)
    has_choice = num_visible > 1  # the entropy of a single visible frame is undefined
    yield diagonal.mean(dim=-1)
    yield diagonal[..., -1]
    yield diagonal[..., :-1].mean(dim=-1)
    yield (diagonal[..., :-1] > SATURATED).to(diagonal.dtype).mean(dim=-1)
    yield (entropies / num_visible.log().clamp(min=1e-9))[..., has_choice].mean(dim=-1)
    yield (maps - uniform).abs().sum(dim=-1).mean(dim=-1) / 2
    yield maps.masked_fill(torch.eye(t, dtype=torch.bool), 0).amax(dim=(-2, -1))


def check_image_path(path: str | Path) -> None:
    """Check before the measurement that `draw_saturation` can draw to a path.

    Raises:
        UsageError: The path does not end with `.png`.
        MissingPackage: matplotlib is not installed.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"{path} ends with {Path(path).suffix!r}; the attention is drawn as .png")
    import_figure_class()


def draw_saturation(measured: Saturation, path: str | Path) -> None:
    """Draw the mean attention map of each site and its statistics as PNG.

    Raises:
        UsageError: The path does not end with `.png`.
        MissingPackage: matplotlib is not installed.
    """
    check_image_path(path)
    with fonts_for([measured.split, *(site.site for site in measured.sites)]):
        _draw(measured, Path(path))


def _draw(measured: Saturation, path: Path) -> None:
    sites = measured.sites
    columns = min(len(sites), 8)
    lines = -(-len(sites) // columns)
    figure = import_figure_class()(
        figsize=(max(1.5 * columns, 6), 1.9 * lines + 2.6), layout="constrained"
    )
    above, below = figure.subfigures(2, 1, height_ratios=[1.9 * lines, 2.6], squeeze=False)[:, 0]
    panels = above.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(sites) :]:
        axes.axis("off")
    images = []
    for axes, site in zip(panels, sites, strict=False):
        images.append(axes.imshow(site.mean_map, vmin=0, vmax=1, cmap="viridis"))
        axes.set_title(f"{site.site}\ndiagonal {site.diagonal:.2f}", fontsize=7)
        axes.set(xticks=[], yticks=[])
    above.colorbar(images[0], ax=panels, fraction=0.02, pad=0.01).ax.tick_params(labelsize=6)
    above.suptitle(
        f"attention, mean over {measured.num_clips} clips of {measured.split}", fontsize=9
    )
    axes = below.subplots()
    names = [site.site for site in sites]
    axes.plot(names, [site.diagonal for site in sites], "o-", label="diagonal (identity: 1)")
    axes.plot(names, [site.last_row for site in sites], "s--", label="diagonal, last row")
    axes.plot(names, [site.other_rows for site in sites], ".--", label="diagonal, other rows")
    axes.plot(names, [site.entropy for site in sites], "^-", label="entropy (uniform: 1)")
    axes.set_ylim(0, 1.03)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="x", rotation=30)
    axes.legend(fontsize=7)
    save_figure(figure, path)
