"""Put temporal modules into a network: the only file that changes someone else's network.

A module joins its host, the layer before which it acts, as the child `temporal`, and a hook runs it
on the host's input. So the backbone keeps its types, its names and every tensor bit for bit:
weights of the plain network load before and after insertion alike. Nothing runs while we insert.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from motionaware.errors import UsageError
from motionaware.models.shape_tracing import (
    CLIP_LAYOUTS,
    Host,
    own_image_size,
    read_image_size,
    takes_volumes,
)
from motionaware.models.site_hooks import (
    Adapter,
    adapters,
    attach,
    is_symbol,
    site_hooks_of,
    temporal_modules,
)
from motionaware.models.sites import Choice, find_hosts
from motionaware.models.token_grid import find_clip_grid, find_grid, told_grid
from motionaware.models.token_order import lies_line_by_line
from motionaware.ops import layout
from motionaware.ops.autograd_utils import make_compile_check_hooks
from motionaware.temporal.names import is_causal, site_maker
from motionaware.temporal.spatial import compares_places
from motionaware.temporal.table import Maker


@dataclass(frozen=True)
class FramesAdapter(Adapter):
    """Runs the temporal module of a 2-D host: frames `(b t) c h w` in, frames out."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module (a forward pre-hook)."""
        frames, *rest = inputs
        clips = layout.unfold_time(frames, num_frames=self.host.num_frames)
        return layout.fold_time(self.run(host, clips)), *rest


@dataclass(frozen=True)
class MapsAdapter(Adapter):
    """The same where channels are last: `(b t) h w c`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module."""
        maps, *rest = inputs
        clips = layout.unfold_maps(maps, num_frames=self.host.num_frames)
        return layout.fold_maps(self.run(host, clips)), *rest


@dataclass(frozen=True)
class TokensAdapter(Adapter):
    """The same for tokens, `(b t) n c`; those before the picture's pass untouched."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module."""
        tokens, *rest = inputs
        one, k = self.host, self.host.num_prefix
        if one.grid and is_symbol(tokens):  # torch.fx traces for the size of `insert`
            height, _ = one.grid
        else:
            height, _ = find_grid(
                tokens.shape[1] - k,
                rest,
                site=one.name,
                module=host.get_submodule(self.path_of_module()),
                noted=[] if one.map_size is None else one.map_size.sizes(),
                scale=one.scale,
                made_for=one.grid,
            )
        clips = layout.unfold_token_maps(tokens[:, k:], num_frames=one.num_frames, height=height)
        seen = layout.fold_tokens(self.run(host, clips))
        return torch.cat([tokens[:, :k], seen], dim=1) if k else seen, *rest


@dataclass(frozen=True)
class VolumesAdapter(Adapter):
    """The same for volumes of a 3-D network, `b c t h w`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module."""
        volumes, *rest = inputs
        clips = layout.unfold_volumes(volumes)
        return layout.fold_volumes(self.run(host, clips)), *rest


@dataclass(frozen=True)
class VolumeMapsAdapter(Adapter):
    """The same for volumes with channels last, `b t h w c`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module."""
        maps, *rest = inputs
        clips = layout.unfold_volume_maps(maps)
        return layout.fold_volume_maps(self.run(host, clips)), *rest


@dataclass(frozen=True)
class VolumeTokensAdapter(Adapter):
    """The same for one row of tokens a clip, `b n c`; the second input may be `(t, h, w)`."""

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module."""
        tokens, *rest = inputs
        told = told_grid(rest)
        if told is not None and len(told) == 3:
            t, h, w = told
            k = tokens.shape[1] - t * h * w
        else:
            one, k = self.host, self.host.num_prefix
            t, h, w = find_clip_grid(
                tokens.shape[1] - k,
                site=one.name,
                noted=[] if one.map_size is None else one.map_size.sizes(),
                num_frames=one.num_frames,
                made_for=one.grid,
            )
        fold, unfold = layout.fold_volume_tokens, layout.unfold_volume_tokens
        if self.host.time_last:
            fold, unfold = layout.fold_time_last_tokens, layout.unfold_time_last_tokens
        seen = fold(self.run(host, unfold(tokens[:, k:], num_frames=t, height=h)))
        return torch.cat([tokens[:, :k], seen], dim=1) if k else seen, *rest


ADAPTERS = {
    "frames": FramesAdapter,
    "maps": MapsAdapter,
    "tokens": TokensAdapter,
    "volumes": VolumesAdapter,
    "volumemaps": VolumeMapsAdapter,
    "volumetokens": VolumeTokensAdapter,
}

Network = TypeVar("Network", bound=nn.Module)


def insert(
    network: nn.Module,
    temporal: str | Maker,
    *,
    num_frames: int,
    where: str | Iterable[str] | None = None,
    stages: int | Iterable[int] | None = None,
    every: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    causal: bool = False,
) -> nn.Module:
    """Make a network motion-aware, in place; a 2-D one's batch axis then holds whole clips.

    Modules go before the blocks that the network repeats; see `motionaware.models.sites`. A 3-D
    network may shrink time: each module is made for the frames that come to it, and where only one
    comes there is none.

    Args:
        network: Takes images `(b t) c h w`, volumes `b c t h w`, or clips `b t c h w`; which of
            them is found out.
        temporal: A name that `motionaware.temporal` explains, or a callable that makes a module for
            clips `b t c h w`; `channels` and `num_frames` are handed in if it names them.
        num_frames: Frames a clip.
        where: Names of layers before which to put a module instead, `*` stands for any characters.
        stages: Stages to take, counted from 1; all by default.
        every: Of each stage take the first block and every so many blocks another.
        image_size: Side of a square frame, or height and width, for networks that do not say by
            their layers what comes to them; by default what the network was made for.
        causal: All modules look backwards only, so that `Stream` can feed the network frame by
            frame.

    Returns:
        The same network.

    Raises:
        ValueError: A name or pattern that fits nothing, a site to which no clip comes, one that has
            a temporal module already, a network that has some while the rule is to choose, or what
            cannot be causal. The network is then as it was.

    >>> from torchvision.models import resnet18
    >>> from motionaware import sites
    >>> network = insert(resnet18(), "m2a,tsm", num_frames=8)
    >>> sites(network)[:2]
    ['layer1.0.conv1', 'layer1.1.conv1']
    """
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"{network!r} is a {type(network).__name__}, wanted a network, an nn.Module; "
            "create_model opens one by its name"
        )
    if num_frames < 1:
        raise UsageError(f"{num_frames = }; it counts the frames of a clip and starts at 1")
    causal = causal or is_causal(temporal)
    if causal and takes_volumes(network):
        raise UsageError(
            f"{type(network).__name__} has 3-D convolutions, which look at frames still to come: "
            "it cannot be causal; choose a 2-D network, or leave causal out"
        )
    make = site_maker(temporal, causal=causal)
    if make is None:
        return network
    image_size = read_image_size(image_size)
    choice = Choice.read(where, stages, every)
    before = [name for name, _ in adapters(network)]
    if before and choice.where is None and choice.stages is None:
        # The rule would see other layers now than it saw the first time, and choose others.
        raise UsageError(
            f"{type(network).__name__} has {len(before)} temporal modules already, first before "
            f"{before[0]}; put several in at once ('m2a,tsm'), or say by where= or stages= where "
            "the others go"
        )
    found = find_hosts(network, choice, num_frames=num_frames, image_size=image_size)
    hosts = [host for host in found if num_frames == 1 or host.num_frames > 1]
    if not hosts:
        raise UsageError(
            f"each of the {len(found)} sites of {type(network).__name__} sees one frame of "
            f"{num_frames}; give more frames, or name earlier layers with where="
        )
    if causal and any(host.layout in CLIP_LAYOUTS for host in hosts):
        raise UsageError(
            f"{type(network).__name__} looks at whole clips, at frames still to come, too: it "
            "cannot be causal; choose a network of images, or leave causal out"
        )
    kinds = (one for one in network.parameters() if one.is_floating_point())
    like = next(kinds, None)  # modules lie where the network lies, in its numbers
    modules = {}
    for host in hosts:
        if "temporal" in dict(network.get_submodule(host.name).named_children()):
            raise UsageError(
                f"{host.name} has a temporal module already; insert into a fresh network"
            )
        module = make(channels=host.channels, num_frames=host.num_frames)
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"temporal made {module!r} for {host.name}; wanted an nn.Module for clips b t c h w"
            )
        modules[host.name] = module if like is None else module.to(like.device, like.dtype)
    _check_token_order(network, hosts, modules, image_size or own_image_size(network))
    for name, module in modules.items():
        network.get_submodule(name).add_module("temporal", module)
    attach(network, {host.name: ADAPTERS[host.layout](host, causal) for host in hosts})
    _note_map_sizes(network, hosts)
    make_compile_check_hooks()
    return network


def _check_token_order(
    network: nn.Module,
    hosts: Iterable[Host],
    modules: Mapping[str, nn.Module],
    size: tuple[int, int],
) -> None:
    """Refuse modules that compare neighbouring places where tokens do not lie line by line."""
    comparing = [h for h in hosts if h.layout == "tokens" and compares_places(modules[h.name])]
    kinds: dict[type[nn.Module], Host] = {}
    for host in comparing:
        kinds.setdefault(type(network.get_submodule(host.name)), host)
    for host in kinds.values():
        grid, k = host.grid, host.num_prefix
        if grid and not lies_line_by_line(network, host.name, size, grid=grid, num_prefix=k):
            raise UsageError(
                f"the tokens of {type(network).__name__} at {host.name} do not lie line by line, "
                f"and {type(modules[host.name]).__name__} compares neighbouring places; choose a "
                "module that treats all places alike (m2a, tsm, tam), or layers to which maps come"
            )


def _note_map_sizes(network: nn.Module, hosts: Iterable[Host]) -> None:
    """Let the layers from whose maps the hosts' tokens come note the size of these maps."""
    wanted = {id(host.map_size): host.map_size for host in hosts if host.map_size is not None}
    for one in wanted.values():
        layer = network.get_submodule(one.source)
        if one.takes:
            layer.register_forward_pre_hook(one.note_input, with_kwargs=True)
        else:
            layer.register_forward_hook(one.note_output)


def copy_without_modules(network: Network) -> Network:
    """Copy a network without the temporal modules that were put into it."""
    hooks = [hook for one in network.modules() for hook in site_hooks_of(one)]
    modules = [network.get_submodule(name) for name in temporal_modules(network).values()]
    copied: dict[int, Any] = {id(module): None for module in modules}  # by identity, for deepcopy
    copied |= {id(hook): _does_nothing for hook in hooks}
    return copy.deepcopy(network, copied)


def _does_nothing(*_: object) -> None:
    """Stand in for a hook."""


def twin(
    network: Network, *, num_frames: int, instead: Iterable[tuple[object, object]] = ()
) -> Network:
    """Copy a 2-D network for clips of another number of frames; both share every tensor.

    Args:
        network: Stays as it is.
        num_frames: Frames of the copy's clips.
        instead: Things in the network, each with what stands in its place in the copy.
    """
    shared: dict[int, Any] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    for _, adapter in adapters(network):
        host = replace(adapter.host, num_frames=num_frames)
        shared[id(adapter)] = replace(adapter, host=host)
    return copy.deepcopy(network, shared | {id(thing): other for thing, other in instead})
