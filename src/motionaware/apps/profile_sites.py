"""List the sites of the temporal modules of a recognizer, and the input shapes there."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.engine.cost import make_clips
from motionaware.models.insertion import copy_without_modules
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import adapters, sites, temporal_modules
from motionaware.models.sites import Choice, find_hosts

NO_MODULE = "none"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place in a network that has a temporal module.

    Attributes:
        name: Name of the host, the layer before which the module acts.
        layout: Layout of the host's input: `frames`, `maps`, `volumes` or `tokens`.
        channels: Channels of the module's input; None if the module did not run.
        num_frames: Frames of the module's input, after any temporal striding of the network.
        module: Class names of the module and its parts, without those of torch; `none` if the site
            has no module because only one frame is left there.
    """

    name: str
    layout: str
    channels: int | None
    num_frames: int | None
    module: str


def profile_sites(model: VideoRecognizer) -> list[Site]:
    """List the sites of a model's temporal modules in network order, with their input shapes.

    One clip runs through a copy of the model whose modules record the shape of their input.
    """
    found = [*_sites_with_modules(model), *_sites_of_one_frame(model)]
    order = [name for name, _ in model.backbone.named_modules()]
    return sorted(found, key=lambda site: order.index(site.name))


def _sites_with_modules(model: VideoRecognizer) -> list[Site]:
    hooks = dict(adapters(model))
    modules = {site: model.get_submodule(name) for site, name in temporal_modules(model).items()}
    recorders = {site: _ShapeRecorder() for site in modules}
    # deepcopy takes the recorders for copies of the modules
    replaced: dict[int, Any] = {id(modules[site]): recorders[site] for site in modules}
    with torch.inference_mode():
        copy.deepcopy(model, replaced).eval()(make_clips(model, batch_size=1))
    return [
        Site(
            name=name.removeprefix("backbone."),
            layout=hooks[name].host.layout,
            channels=recorders[name].channels,
            num_frames=recorders[name].num_frames,
            module=_describe(modules[name]) or type(modules[name]).__name__,
        )
        for name in modules
    ]


def _sites_of_one_frame(model: VideoRecognizer) -> list[Site]:
    """Return the planned sites where a 3-D network has only one frame left."""
    plan, clip = model.plan, model.clip
    if plan is None or not model.takes_volumes or not sites(model):
        return []
    hosts = find_hosts(
        copy_without_modules(model).backbone,
        Choice(where=plan.where, stages=plan.stages, every=plan.every),
        num_frames=clip.num_frames,
        image_size=clip.image_size,
    )
    return [
        Site(
            name=host.name,
            layout=host.layout,
            channels=host.channels,
            num_frames=host.num_frames,
            module=NO_MODULE,
        )
        for host in hosts
        if host.num_frames == 1 < clip.num_frames
    ]


def sites_table(found: Sequence[Site]) -> str:
    """Format sites as a text table."""
    if not found:
        return "no temporal modules: the scores of all frames are averaged"
    rows = [("site", "layout", "channels", "frames", "module")]
    for site in found:
        channels, num_frames = site.channels or "none", site.num_frames or "none"
        rows.append((site.name, site.layout, f"{channels}", f"{num_frames}", site.module))
    name, layout, *_ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{a:<{name}}  {b:<{layout}}  {c:>8}  {d:>6}  {e}" for a, b, c, d, e in rows]
    if any(site.module == NO_MODULE for site in found):
        lines.append("\nSites without a module have only one frame left, which has no motion.")
    return "\n".join(lines)


class _ShapeRecorder(nn.Module):
    """Replaces a temporal module and records the shape of its input."""

    channels: int | None = None
    num_frames: int | None = None

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        _, self.num_frames, self.channels, _, _ = clips.shape
        return clips


def _describe(module: nn.Module) -> str:
    """Return class names such as `Gate(MotionAttention(TemporalDifference))`, without torch's."""
    inner = ", ".join(filter(None, map(_describe, module.children())))
    if type(module).__module__.startswith("torch."):
        return inner
    return f"{type(module).__name__}({inner})" if inner else type(module).__name__
