"""Insert temporal modules: the only file that changes a user's network.

A module becomes the child `temporal` of its host, the layer before which it acts. A hook runs it on
the host's input. So the backbone keeps its types, names and tensors, and weights of the plain
network load before and after insertion. `insert` does not run the network.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from motionaware.errors import UsageError
from motionaware.models.image_size import native_image_size, parse_image_size
from motionaware.models.input_layout import CLIP_LAYOUTS, Host
from motionaware.models.layout_adapters import ADAPTERS
from motionaware.models.shape_tracing import takes_volumes
from motionaware.models.site_hooks import adapters, attach, site_hooks_of, temporal_modules
from motionaware.models.sites import Choice, find_hosts
from motionaware.models.token_order import is_row_major
from motionaware.ops.autograd_utils import make_compile_check_hooks
from motionaware.temporal.names import is_causal, site_maker
from motionaware.temporal.spatial import compares_places
from motionaware.temporal.table import Maker

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
    """Insert temporal modules into a network, in place.

    The batch axis of an image network then holds whole clips, `(b t)`. By default the modules go
    before the blocks that the network repeats; see `motionaware.models.sites`. A 3-D network may
    shrink time: each module is made for the number of frames at its site, and a site that receives
    a single frame gets no module.

    Args:
        network: Takes images `(b t) c h w`, volumes `b c t h w`, or clips `b t c h w`; the input
            layout is detected.
        temporal: A name that `motionaware.temporal` explains, or a callable that makes a module for
            clips `b t c h w`. The callable gets `channels` and `num_frames` if it has such
            parameters.
        num_frames: Frames in a clip.
        where: Names of the layers before which modules go, instead of the default rule; `*` matches
            any characters.
        stages: Stages that get modules, counted from 1; all by default.
        every: Step from block to block within a stage, starting at its first block.
        image_size: Frame size for networks whose layers do not show their input layout: the side of
            a square, or height and width; by default the size that the network was made for.
        causal: Make all modules use past frames only, so that `Stream` can feed the network frame
            by frame.

    Returns:
        The same network.

    Raises:
        UsageError: A name or pattern matches nothing, the input of a site is no clip, a site has a
            temporal module already, the default rule is used on a network that has modules, or the
            network cannot be causal. The network is then unchanged.

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
        raise UsageError(f"{num_frames = }; wanted the number of frames in a clip, at least 1")
    causal = causal or is_causal(temporal)
    if causal and takes_volumes(network):
        raise UsageError(
            f"{type(network).__name__} has 3-D convolutions, which use future frames, so it cannot "
            "be causal; choose a 2-D network, or leave causal out"
        )
    make = site_maker(temporal, causal=causal)
    if make is None:
        return network
    image_size = parse_image_size(image_size)
    choice = Choice.from_arguments(where, stages, every)
    present = [name for name, _ in adapters(network)]
    if present and choice.where is None and choice.stages is None:
        # The default rule would see the inserted modules and choose other layers.
        raise UsageError(
            f"{type(network).__name__} has {len(present)} temporal modules already, first before "
            f"{present[0]}; insert several at once ('m2a,tsm'), or give the layers of the new ones "
            "with where= or stages="
        )
    found = find_hosts(network, choice, num_frames=num_frames, image_size=image_size)
    hosts = [host for host in found if num_frames == 1 or host.num_frames > 1]
    if not hosts:
        raise UsageError(
            f"each of the {len(found)} sites of {type(network).__name__} receives one frame of "
            f"{num_frames}; use more frames, or name earlier layers with where="
        )
    if causal and any(host.layout in CLIP_LAYOUTS for host in hosts):
        raise UsageError(
            f"{type(network).__name__} processes whole clips, including future frames, so it "
            "cannot be causal; choose an image network, or leave causal out"
        )
    modules = _make_modules(network, hosts, make)
    _check_token_order(network, hosts, modules, image_size or native_image_size(network))
    for name, module in modules.items():
        network.get_submodule(name).add_module("temporal", module)
    attach(network, {host.name: ADAPTERS[host.layout](host, causal) for host in hosts})
    _record_map_sizes(network, hosts)
    make_compile_check_hooks()
    return network


def _make_modules(network: nn.Module, hosts: Iterable[Host], make: Any) -> dict[str, nn.Module]:
    """Make the module of each host, on the device and in the dtype of the network."""
    floats = (tensor for tensor in network.parameters() if tensor.is_floating_point())
    like = next(floats, None)
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
    return modules


def _check_token_order(
    network: nn.Module,
    hosts: Iterable[Host],
    modules: Mapping[str, nn.Module],
    size: tuple[int, int],
) -> None:
    """Raise if a module compares neighbouring positions and the tokens are not in row-major order.

    The order is examined once per class of hosts.
    """
    comparing = [h for h in hosts if h.layout == "tokens" and compares_places(modules[h.name])]
    examples: dict[type[nn.Module], Host] = {}
    for host in comparing:
        examples.setdefault(type(network.get_submodule(host.name)), host)
    for host in examples.values():
        grid, k = host.grid, host.num_prefix
        if grid and not is_row_major(network, host.name, size, grid=grid, num_prefix=k):
            raise UsageError(
                f"the tokens of {type(network).__name__} at {host.name} are not in row-major "
                f"order, and {type(modules[host.name]).__name__} compares neighbouring positions; "
                "choose a module that treats all positions alike (m2a, tsm, tam), or layers that "
                "take maps"
            )


def _record_map_sizes(network: nn.Module, hosts: Iterable[Host]) -> None:
    """Register hooks that record the sizes of the maps from which the hosts' tokens are made."""
    map_sizes = {id(host.map_size): host.map_size for host in hosts if host.map_size is not None}
    for map_size in map_sizes.values():
        layer = network.get_submodule(map_size.source)
        if map_size.is_input:
            layer.register_forward_pre_hook(map_size.record_input, with_kwargs=True)
        else:
            layer.register_forward_hook(map_size.record_output)


def copy_without_modules(network: Network) -> Network:
    """Return a copy of a network without its temporal modules."""
    hooks = [hook for module in network.modules() for hook in site_hooks_of(module)]
    modules = [network.get_submodule(name) for name in temporal_modules(network).values()]
    replacements: dict[int, Any] = {id(module): None for module in modules}  # memo of deepcopy
    replacements |= {id(hook): _empty_hook for hook in hooks}
    return copy.deepcopy(network, replacements)


def _empty_hook(*_: object) -> None:
    """Do nothing, in place of a hook."""


def copy_sharing_tensors(
    network: Network, *, num_frames: int, replacements: Iterable[tuple[object, object]] = ()
) -> Network:
    """Return a copy of a 2-D network for another number of frames; both share every tensor.

    Args:
        network: The network; it is not changed.
        num_frames: Frames in a clip of the copy.
        replacements: Pairs of an object in the network and the object that replaces it in the copy.
    """
    shared: dict[int, Any] = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    for _, adapter in adapters(network):
        host = replace(adapter.host, num_frames=num_frames)
        shared[id(adapter)] = replace(adapter, host=host)
    return copy.deepcopy(network, shared | {id(old): new for old, new in replacements})
