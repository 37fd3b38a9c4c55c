"""Profile of sites: where a recognizer has temporal modules, and what comes to them."""

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
        name: Of the layer before which the module acts.
        layout: Of what that layer takes: `frames`, ...
        channels: Of the clips that come to the module; None where none come.
        num_frames: Of the same clips: fewer than the model's where the network shrinks time.
        module: Its kind, with the kinds of its parts in brackets; torch's own are left out. `none`
            where the plan has a site that got no module, since it sees one frame.
    """

    name: str
    layout: str
    channels: int | None
    num_frames: int | None
    module: str


def profile_sites(model: VideoRecognizer) -> list[Site]:
    """List where a model has temporal modules, and what comes to them, in the order of the network.

    One clip runs through a copy whose modules are replaced by witnesses of its shape.
    """
    found = [*_sites_with_modules(model), *_sites_of_one_frame(model)]
    order = [name for name, _ in model.backbone.named_modules()]
    return sorted(found, key=lambda site: order.index(site.name))


def _sites_with_modules(model: VideoRecognizer) -> list[Site]:
    hooks = dict(adapters(model))
    modules = {site: model.get_submodule(name) for site, name in temporal_modules(model).items()}
    witnesses = {site: _Witness() for site in modules}
    copied: dict[int, Any] = {id(modules[site]): witnesses[site] for site in modules}
    with torch.inference_mode():
        copy.deepcopy(model, copied).eval()(make_clips(model, batch_size=1))
    return [
        Site(
            name=name.removeprefix("backbone."),
            layout=hooks[name].host.layout,
            channels=witnesses[name].channels,
            num_frames=witnesses[name].num_frames,
            module=_describe(modules[name]) or type(modules[name]).__name__,
        )
        for name in modules
    ]


def _sites_of_one_frame(model: VideoRecognizer) -> list[Site]:
    """Sites of the model's plan that a 3-D network leaves a single frame to see."""
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
    """Write sites as a table for people."""
    if not found:
        return "no temporal modules: the scores of frames are averaged"
    rows = [("site", "layout", "channels", "frames", "module")]
    for one in found:
        channels, num_frames = one.channels or "none", one.num_frames or "none"
        rows.append((one.name, one.layout, f"{channels}", f"{num_frames}", one.module))
    name, layout, *_ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{a:<{name}}  {b:<{layout}}  {c:>8}  {d:>6}  {e}" for a, b, c, d, e in rows]
    if any(one.module == NO_MODULE for one in found):
        lines.append("\nThe network leaves sites without a module one frame, which has no motion.")
    return "\n".join(lines)


class _Witness(nn.Module):
    """Stands in for a temporal module and notes which clips come to it."""

    channels: int | None = None
    num_frames: int | None = None

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        _, self.num_frames, self.channels, _, _ = clips.shape
        return clips


def _describe(module: nn.Module) -> str:
    """`Gate(MotionAttention(TemporalDifference))`; of torch's own modules only the parts."""
    inner = ", ".join(filter(None, map(_describe, module.children())))
    if type(module).__module__.startswith("torch."):
        return inner
    return f"{type(module).__name__}({inner})" if inner else type(module).__name__
