"""The hooks that run temporal modules at their sites, and the guard that checks that they run.

A temporal module is a child of its host. A forward pre-hook on the host, the `Adapter`, runs it.
Other libraries replace, wrap, copy and fuse layers. Some of them lose the hook, and some run it
twice. So every module that contains a site has a `SiteGuard`, which compares the network with what
it saw at its last forward pass:

    unchanged       the usual case: a few comparisons of identities
    wrapped         (LoRA, DoRA) the hook moves to the wrapper: all branches see the module's output
    hook lost       (SyncBatchNorm conversion, which keeps children) the hook is attached again
    hook doubled    (torch.ao fuse_modules, which copies hooks twice) one hook stays
    module lost     a SiteError that names the site

After a forward pass of the whole network, the guard raises the same error if a module did not run,
for example because `forward` of its host was called directly.
"""

import threading
import traceback
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from motionaware.errors import SiteError, UsageError
from motionaware.models.shape_tracing import Host
from motionaware.ops.autograd_utils import is_traced
from motionaware.temporal.own_maker import run_temporal

WRAPPED = "base_layer"  # the child under which peft's adapters keep the layer that they wrap


_RAN = threading.local()  # .hosts: ids of the layers whose temporal module ran in this thread


@dataclass(frozen=True)
class Adapter(ABC):
    """A forward pre-hook that runs a temporal module; each subclass knows one layout.

    Attributes:
        host: The layer, and the layout of its input.
        causal: The module looks at past frames only.
        inside: Path from the hooked layer to the layer that has the module as its child; empty
            where these are the same.
    """

    host: Host
    causal: bool = False
    inside: str = ""

    @abstractmethod
    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs of the host with the first one seen through the temporal module."""

    def run(self, layer: nn.Module, clips: Any) -> Any:
        """Run the temporal module and check the shape of its output; a tracer sees no check.

        Raises:
            UsageError: The output has another shape than the input.
            OwnCodeError: The module is a user's own, and it raised an error.
        """
        module = layer.get_submodule(self.path_of_module())
        if is_symbol(clips):  # torch.fx traces: the module becomes one node of its graph
            tracer = clips.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(module), (clips,), {})
        seen = run_temporal(module, clips)
        if torch.compiler.is_compiling():
            _mark_compiled(self)
        elif not is_traced():
            _hosts_that_ran().add(id(layer))
            if getattr(seen, "shape", None) != clips.shape:
                came = (
                    f"shape {tuple(seen.shape)}"
                    if isinstance(seen, Tensor)
                    else type(seen).__name__
                )
                raise UsageError(
                    f"the temporal module {type(module).__name__} at {self.host.name} gave back "
                    f"{came}; wanted that of the clips b t c h w it was given, {tuple(clips.shape)}"
                )
        return seen

    def path_of_module(self) -> str:
        """Path from the hooked layer to the temporal module."""
        return f"{self.inside}.temporal" if self.inside else "temporal"


def is_symbol(value: object) -> bool:
    """True if torch.fx traces and this stands for a tensor."""
    return isinstance(value, Proxy)


def failed_inside(error: BaseException) -> bool:
    """True if an error was raised inside a temporal module, not in the network around it."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is Adapter.run.__code__ for frame, _ in frames)


def adapters(network: nn.Module) -> Iterator[tuple[str, Adapter]]:
    """Yield the name of each hooked layer and the adapter that runs its temporal module."""
    for name, layer in network.named_modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, Adapter):
                yield name, hook


def sites(network: nn.Module) -> list[str]:
    """Names of the layers before which a temporal module runs, in the order of the network.

    A layer whose module was lost, for example by fusing, is not listed.
    """
    return [
        name
        for name, adapter in dict(adapters(network)).items()
        if _child(network.get_submodule(name), adapter.path_of_module()) is not None
    ]


def temporal_modules(network: nn.Module) -> dict[str, str]:
    """Names of the temporal modules that run, by the names of their sites."""
    paths = dict(adapters(network))
    return {
        site: ".".join(part for part in (site, paths[site].path_of_module()) if part)
        for site in sites(network)
    }


def attach(network: nn.Module, hooks: Mapping[str, Adapter]) -> None:
    """Register adapters on the layers of a network, by name, and guards on all that contain them.

    Args:
        network: Each named layer has its temporal module as the child `temporal`.
        hooks: Adapters by the names of their layers.
    """
    for name, adapter in hooks.items():
        network.get_submodule(name).register_forward_pre_hook(adapter)
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList | nn.ModuleDict):
            continue  # is never called
        prefix = f"{name}." if name else ""
        below = {
            site.removeprefix(prefix): adapter
            for site, adapter in hooks.items()
            if site.startswith(prefix) and site != name
        }
        if below:
            guard = SiteGuard(below, prefix)
            module.register_forward_pre_hook(guard)
            if not name:
                module.register_forward_hook(_AfterForward(guard))


def site_hooks_of(module: nn.Module) -> list[object]:
    """Return the hooks of a module that `attach` registered."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return [hook for hook in hooks if isinstance(hook, Adapter | SiteGuard | _AfterForward)]


class SiteGuard:
    """Forward pre-hook of a module that contains sites: checks that each has one adapter that runs.

    Args:
        hooks: Adapters by the names of their layers inside the module.
        prefix: What stands before these names in messages.
    """

    def __init__(self, hooks: Mapping[str, Adapter], prefix: str) -> None:
        self.hooks = dict(hooks)
        self.prefix = prefix
        self._forget()

    def _forget(self) -> None:
        self._seen = lambda: None  # a weak reference to the module that was checked
        self._edges: list[tuple[nn.Module, str, nn.Module]] = []  # parent, name, child
        self._running: dict[str, tuple[nn.Module, int, Adapter]] = {}  # layer, key of its hook
        self._layers: set[int] = set()  # ids of these layers

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along; it checks its own network at its first forward pass."""
        return {"hooks": self.hooks, "prefix": self.prefix}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy."""
        self.hooks, self.prefix = state["hooks"], state["prefix"]
        self._forget()

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Check the sites; repair what can be repaired.

        Raises:
            SiteError: A site has lost its module.
        """
        if torch.compiler.is_compiling():
            _check_while_tracing(self, module)
            return
        if not self.is_unchanged(module):
            if getattr(module, "_is_replica", False):
                return  # a copy by DataParallel, for one forward pass
            self.check(module)
        if not self.prefix and not is_traced():
            _hosts_that_ran().difference_update(self._layers)

    def is_unchanged(self, module: nn.Module) -> bool:
        """True if the module and all layers down to its sites are those of the last check."""
        if self._seen() is not module:
            return False
        for parent, name, child in self._edges:
            if parent._modules.get(name) is not child:
                return False
        for layer, key, adapter in self._running.values():
            if layer._forward_pre_hooks.get(key) is not adapter:
                return False
        return True

    def check(self, module: nn.Module) -> None:
        """Find the module of each site, and make sure that exactly one adapter runs it.

        Raises:
            SiteError: A site has lost its module.
        """
        edges: dict[tuple[int, str], tuple[nn.Module, str, nn.Module]] = {}
        running = {}
        for name, adapter in self.hooks.items():
            layer = module
            for part in name.split("."):
                child = layer._modules.get(part)
                if child is None:
                    self._lost(module, name, f"{type(layer).__name__} has no layer {part!r} now")
                edges[id(layer), part] = layer, part, child
                layer = child
            found = _settle(layer, adapter)
            if not found:
                self._lost(module, name, f"a {type(layer).__name__} without it stands there now")
            for number, (path, hooked, key, hook) in enumerate(found):
                running[f"{name} {number}"] = hooked, key, hook
                inner = layer
                for part in [*path.split("."), "temporal"] if path else ["temporal"]:
                    child = inner._modules[part]
                    assert child is not None
                    edges[id(inner), part] = inner, part, child
                    inner = child
        self._edges, self._running = list(edges.values()), running
        self._layers = {id(layer) for layer, *_ in running.values()}
        self._seen = weakref.ref(module)

    def after_forward(self, module: nn.Module) -> None:
        """Check that the temporal module of each site ran.

        Raises:
            SiteError: One did not.
        """
        if self._seen() is not module or self._layers <= _hosts_that_ran():
            return
        running = {key.partition(" ")[0]: False for key in self._running}
        for key, (layer, _, hook) in self._running.items():
            if getattr(hook, "was_compiled", False):
                return  # compiled code takes no notes
            running[key.partition(" ")[0]] |= id(layer) in _hosts_that_ran()
        for name in (name for name, ran in running.items() if not ran):
            if not _runs_compiled(module, name):
                raise SiteError(
                    f"the temporal module at {name} of {type(module).__name__} did not run in this "
                    "forward pass: the layer was not called, or its `forward` was called past the "
                    "hooks. Call the layer itself, or choose with where= layers that run in every "
                    "forward pass"
                )

    def _lost(self, module: nn.Module, name: str, now: str) -> NoReturn:
        raise SiteError(
            f"the temporal module at {self.prefix}{name} in {type(module).__name__} is lost: "
            f"{now}. The network was changed after motionaware.insert. Build the network again, "
            "change its layers first, then insert; or, for a new module at this place, insert with "
            f"where={self.prefix + name!r}"
        )


class _AfterForward:
    """Forward hook of a network: lets its guard check that all modules ran."""

    def __init__(self, guard: SiteGuard) -> None:
        self.guard = guard

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if not is_traced():
            self.guard.after_forward(module)


def _settle(layer: nn.Module, adapter: Adapter) -> list[tuple[str, nn.Module, int, Adapter]]:
    """Make one adapter run each temporal module inside what stands at a site.

    Returns:
        Of each module: the path to the layer that has it, the hooked layer, the key of its hook in
        `_forward_pre_hooks`, and the adapter.
    """
    found = []
    owners = [path for path, one in layer.named_modules() if _child(one, "temporal") is not None]
    for path in owners:
        if any(not other or path.startswith(f"{other}.") for other in owners if other != path):
            continue  # a site inside a site has a guard
        parts = path.split(".") if path else []
        chain = [layer]
        for part in parts:
            chain.append(chain[-1].get_submodule(part))
        depth = len(parts)  # of the layer that is to have the hook
        while depth and parts[depth - 1] == WRAPPED:
            depth -= 1
        target, inside = chain[depth], ".".join(parts[depth:])
        hooked = [
            (one, key, hook)
            for one in chain
            for key, hook in one._forward_pre_hooks.items()
            if isinstance(hook, Adapter)
        ]
        right = [each for each in hooked if each[0] is target and each[2].inside == inside]
        for one, key, hook in hooked:
            if (one, key, hook) != (right[0] if right else None):
                del one._forward_pre_hooks[key]
                one._forward_pre_hooks_with_kwargs.pop(key, None)
        if right:
            _, key, hook = right[0]
        else:
            hook = replace(hooked[-1][2] if hooked else adapter, inside=inside)
            key = target.register_forward_pre_hook(hook).id
        found.append((path, target, key, hook))
    return found


def _runs_compiled(network: nn.Module, name: str) -> bool:
    """True if torch.compile runs the layer or a module that contains it."""
    module = network
    for part in ["", *name.split(".")]:
        module = module._modules[part] if part else module
        if module is None or module._compiled_call_impl is not None:
            return True
        if hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable"):
            return True
    return False


def _child(module: nn.Module, path: str) -> nn.Module | None:
    for part in path.split("."):
        child = module._modules.get(part)
        if child is None:
            return None
        module = child
    return module


def _hosts_that_ran() -> set[int]:
    if not hasattr(_RAN, "hosts"):
        _RAN.hosts = set()
    return _RAN.hosts


# While torch.compile traces, it calls these two functions and takes their results as constants.
@torch.compiler.assume_constant_result
def _check_while_tracing(guard: SiteGuard, module: nn.Module) -> None:
    if not guard.is_unchanged(module):
        guard.check(module)


@torch.compiler.assume_constant_result
def _mark_compiled(adapter: Adapter) -> None:
    object.__setattr__(adapter, "was_compiled", True)  # it is frozen; copies by replace() lose this
