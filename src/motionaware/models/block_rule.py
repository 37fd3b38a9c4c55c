"""The general rule: choose hosts in a network of repeated blocks.

A *block* is a module of at least two weighted layers whose class repeats within one parent; a
module that consists of such repeated blocks is a stage. The host of a block is its first
convolution if this is the only one that takes the block's input; otherwise it is the block itself.
In a network without repeated blocks, every convolution but the first is a host.

A host must survive conversions by other libraries. They replace norms (SyncBatchNorm, frozen norms)
and fuse parts of blocks for inference (`fuse`, `reparameterize`, `switch_to_deploy`). So the rule
chooses no norm, and a fusable block instead of its parts. If a network has nothing else, modules go
inside its fusable blocks; such a network must be fused before `insert`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from motionaware.models.input_layout import LayerInputs

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # some run every child they get

# Methods of blocks that can be fused. timm.utils.reparameterize_model replaces modules that have
# the first; all of them replace parts of their module.
_REPLACED_BY = ("fuse",)
_PARTS_REPLACED_BY = (*_REPLACED_BY, "reparameterize", "switch_to_deploy")

_SKIP_NAMES = ("downsample", "shortcut", "skip", "identity")  # of convolutions on a skip connection


def outermost(names: Sequence[str]) -> list[str]:
    """Return the names that are inside no other of the names; parents come before children."""
    kept: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        if not any(".".join(parts[:length]) in kept for length in range(1, len(parts))):
            kept[name] = None
    return list(kept)


def layers_inside(layer_inputs: LayerInputs, name: str) -> list[str]:
    """Return the layers inside a module in the order of their calls, without containers."""
    return [
        inner
        for inner in layer_inputs.inside[name]
        if not isinstance(layer_inputs.modules[inner], CONTAINERS)
    ]


class BlockRule:
    """The general rule, applied to the traced inputs of a network's layers."""

    def __init__(self, layer_inputs: LayerInputs) -> None:
        self.layer_inputs = layer_inputs
        self.modules = layer_inputs.modules
        self.avoid_fusable = True  # choose no host that fusing would replace

    def hosts(self) -> dict[str, list[str]]:
        """Return the names of the hosts, by stage; empty if the rule finds none."""
        found = self._hosts()
        if not found:
            self.avoid_fusable = False
            found = self._hosts()
        return found

    def _hosts(self) -> dict[str, list[str]]:
        repeated_in = {name: self._repeated_classes(name) for name in self.modules}
        repeated = {kind for kinds in repeated_in.values() for kind in kinds}
        stages = {
            type(module)
            for name, module in self.modules.items()
            if any(repeated_in[n] for n in self.modules if n == name or n.startswith(f"{name}."))
        }
        blocks = [n for n, m in self.modules.items() if type(m) in repeated - stages]
        hosts: dict[str, list[str]] = {}
        for name in outermost(blocks):
            host = self._host_of_block(name)
            if host is not None:
                hosts.setdefault(name.rpartition(".")[0], []).append(host)
        if hosts:
            return hosts
        convolutions = [
            n
            for n in self.layer_inputs.inputs
            if isinstance(self.modules[n], nn.Conv2d | nn.Conv3d)
        ]
        suitable = [
            n
            for n in convolutions[1:]
            if self.layer_inputs.find_host(n) and self._survives_conversions(n)
        ]
        return {"": suitable} if suitable else {}

    def _repeated_classes(self, parent: str) -> set[type[nn.Module]]:
        """Return the classes of blocks that repeat in a parent.

        A class must occur twice in a container, and three times in another module.
        """
        least = 2 if type(self.modules[parent]) in CONTAINERS else 3
        members = self._members(self.modules[parent], parent)
        counts = Counter(type(self.modules[n]) for n in members if self._is_block(n))
        return {kind for kind, number in counts.items() if number >= least}

    def _members(self, parent: nn.Module, prefix: str) -> Iterator[str]:
        """Yield the names of the children; a plain container is replaced by its own children."""
        for key, child in parent.named_children():
            name = f"{prefix}.{key}" if prefix else key
            if type(child) in CONTAINERS:
                yield from self._members(child, name)
            elif name in self.layer_inputs.inside:
                yield name

    def _is_block(self, name: str) -> bool:
        weighted = [
            m
            for m in self.modules[name].modules()
            if not isinstance(m, _BatchNorm)
            and any(p.ndim > 1 for p in m.parameters(recurse=False))
        ]
        return len(weighted) > 1 and self._host_of_block(name) is not None

    def _host_of_block(self, name: str) -> str | None:
        """Return the host of a block; None if no suitable layer takes a clip."""
        inputs = self.layer_inputs.inputs
        given = inputs.get(name)
        inside = layers_inside(self.layer_inputs, name)
        if given is None or given.identity is None:  # not called, or without a first tensor
            return self._first_weighted(inside)
        if self.layer_inputs.find_host(name) is None or given.shape == inputs[""].shape:
            return None  # the input is no clip, or it is the frames: then this is the stem
        takers = [n for n in inside if inputs[n].identity is given.identity]
        convolutions = [
            n
            for n in takers
            if isinstance(self.modules[n], nn.Conv2d | nn.Conv3d)
            and not any(skip in n.removeprefix(name) for skip in _SKIP_NAMES)
        ]
        if len(convolutions) == 1 and self._survives_conversions(convolutions[0]):
            return convolutions[0]
        if not isinstance(self.modules[name], CONTAINERS):
            return name if self._survives_conversions(name) else None
        return self._first_weighted(takers) or self._first_weighted(inside)

    def _first_weighted(self, names: Iterable[str]) -> str | None:
        """Return the first layer with weights that takes a clip and survives conversions."""
        for name in names:
            weighted = any(p.ndim > 1 for p in self.modules[name].parameters())
            if weighted and self.layer_inputs.find_host(name) and self._survives_conversions(name):
                return name
        return None

    def _survives_conversions(self, name: str) -> bool:
        """True if conversions by other libraries keep the layer and so its hook."""
        if _is_norm(self.modules[name]):
            return False
        parts = name.split(".")
        ancestors = (self.modules[".".join(parts[:depth])] for depth in range(1, len(parts)))
        return not self.avoid_fusable or not (
            any(hasattr(self.modules[name], method) for method in _REPLACED_BY)
            or any(hasattr(module, method) for module in ancestors for method in _PARTS_REPLACED_BY)
        )


def _is_norm(module: nn.Module) -> bool:
    """True for the norms of all libraries.

    The class name decides because norms have no common base class: torch's LayerNorm, RMSNorm and
    GroupNorm have none (checked with torch 2.14), and timm and transformers define their own.
    """
    return isinstance(module, _BatchNorm) or "norm" in type(module).__name__.lower()
