"""Put temporal modules into a network: the only file that changes someone else's network.

A module joins its host, the layer before which it acts, as the child `temporal`, and a hook runs it
on the host's input. So the backbone keeps its types, its names and every tensor bit for bit:
weights of the plain network load before and after insertion alike. Nothing runs while we insert.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from motionaware.models.backbones import default_sites
from motionaware.ops.layout import fold_time, unfold_time
from motionaware.temporal import Maker, site_maker


@dataclass(frozen=True)
class FramesAdapter:
    """Runs the temporal module of a 2-D host: frames `(b t) c h w` in, frames out."""

    num_frames: int

    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let the host see its first input through its temporal module (a forward pre-hook)."""
        frames, *rest = inputs
        clips = host.get_submodule("temporal")(unfold_time(frames, num_frames=self.num_frames))
        return fold_time(clips), *rest


def insert(
    network: nn.Module,
    temporal: str | Maker,
    *,
    num_frames: int,
    where: str | Iterable[str] | None = None,
) -> nn.Module:
    """Make a 2-D network motion-aware, in place; from then on its batch axis holds whole clips.

    Args:
        network: Takes images `(b t) c h w`.
        temporal: A name that `motionaware.temporal` explains, or a callable that makes a module for
            clips `b t c h w` from the keywords `channels` and `num_frames`.
        num_frames: Frames a clip.
        where: Names of convolutions before which to put a module, `*` stands for any characters;
            the sites of the reference code where it is None.

    Returns:
        The same network.

    Raises:
        ValueError: A name or pattern that fits nothing, a site without known channels, or a site
            that has a temporal module already. The network is then as it was.

    >>> from torchvision.models import resnet18
    >>> network = insert(resnet18(), "m2a,tsm", num_frames=8)
    >>> sites(network)[:2]
    ['layer1.0.conv1', 'layer1.1.conv1']
    """
    if num_frames < 1:
        raise ValueError(f"{num_frames = }; it counts the frames of a clip and starts at 1")
    make = site_maker(temporal)
    if make is None:
        return network
    chosen = default_sites(network) if where is None else _matching(network, where)
    modules = {}
    for name in chosen:
        host = network.get_submodule(name)
        if "temporal" in dict(host.named_children()):
            raise ValueError(f"{name} has a temporal module already; insert into a fresh network")
        modules[name] = make(channels=_channels(name, host), num_frames=num_frames)
    for name, module in modules.items():
        host = network.get_submodule(name)
        host.add_module("temporal", module)
        host.register_forward_pre_hook(FramesAdapter(num_frames))
    return network


def sites(network: nn.Module) -> list[str]:
    """Names of the layers that have a temporal module, in the order of the network."""
    return [
        name for name, host in network.named_modules() if "temporal" in dict(host.named_children())
    ]


def _matching(network: nn.Module, where: str | Iterable[str]) -> list[str]:
    patterns = [where] if isinstance(where, str) else list(where)
    names = [name for name, _ in network.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"where={pattern!r} matches no module of {type(network).__name__}; "
                f"its children are {', '.join(name for name, _ in network.named_children())}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _channels(name: str, host: nn.Module) -> int:
    if isinstance(host, nn.Conv2d):
        return host.in_channels
    raise ValueError(
        f"site {name} is a {type(host).__name__}, which does not say how many channels it takes; "
        "choose an nn.Conv2d with where="
    )
