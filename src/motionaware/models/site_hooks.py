"""The hooks that run temporal modules at their sites, and the guard that checks that they run.

A temporal module is a child of its host. A forward pre-hook on the host, the `Adapter`, runs it.
Other libraries replace, wrap, copy and fuse layers. Some of them lose the hook, and some run it
twice. So every module that contains a site has a `SiteGuard`. It compares the network with the
state at its last check, and acts on what it finds:

    unchanged       the usual case: a few comparisons of identities
    wrapped         (LoRA, DoRA) move the hook to the wrapper: all branches get the module's output
    hook lost       (SyncBatchNorm conversion, which keeps children) attach the hook again
    hook doubled    (torch.ao fuse_modules, which copies hooks twice) keep one hook
    module lost     raise a SiteError that names the site

After a forward pass of the whole network, the guard raises the same error if a module did not run,
for example because the host's `forward` was called directly, which skips hooks.
"""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from motionaware.errors import SiteError, UsageError
from motionaware.models.input_layout import Host
from motionaware.ops.autograd_utils import is_traced
from motionaware.temporal.own_maker import run_temporal

WRAPPED = "base_layer"  # name of the wrapped layer inside an adapter of peft

_FAILED_IN_MODULE = "_motionaware_failed_in_module"  # attribute of an exception: True

_RAN = threading.local()  # .hosts: ids of the hosts whose temporal module ran in this thread


@dataclass(frozen=True)
class Adapter(ABC):
    """A forward pre-hook that runs a temporal module; there is one subclass per input layout.

    Attributes:
        host: The layer, and the layout of its input.
        causal: True if the module uses past frames only.
        inside: Path from the hooked layer to the layer that has the module as its child; empty if
            they are the same layer.
    """

    host: Host
    causal: bool = False
    inside: str = ""

    @abstractmethod
    def __call__(self, host: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the host's inputs, the first one replaced by the temporal module's output."""

    def run(self, layer: nn.Module, clips: Any) -> Any:
        """Run the temporal module and check the shape of its output, except under a tracer.

        Raises:
            UsageError: The output has another shape than the input.
            OwnCodeError: The module is a user's own, and it raised an error.
        """
        module = layer.get_submodule(self.path_of_module())
        if is_symbol(clips):  # under torch.fx the module becomes one node of the graph
            tracer = clips.tracer
            return tracer.create_proxy("call_module", tracer.path_of_module(module), (clips,), {})
        output = _run_and_mark_errors(module, clips)
        if torch.compiler.is_compiling():
            _mark_compiled(self)
        elif not is_traced():
            _hosts_that_ran().add(id(layer))
            if getattr(output, "shape", None) != clips.shape:
                found = (
                    f"shape {tuple(output.shape)}"
                    if isinstance(output, Tensor)
                    else type(output).__name__
                )
                raise UsageError(
                    f"the temporal module {type(module).__name__} at {self.host.name} returned "
                    f"{found}; wanted the shape of its input, clips b t c h w: {tuple(clips.shape)}"
                )
        return output

    def path_of_module(self) -> str:
        """Path from the hooked layer to the temporal module."""
        return f"{self.inside}.temporal" if self.inside else "temporal"


def is_symbol(value: object) -> bool:
    """True if a value is a symbolic tensor of torch.fx."""
    return isinstance(value, Proxy)


def _run_and_mark_errors(module: nn.Module, clips: Any) -> Any:
    """Run a temporal module, and mark an error that it raises for `failed_in_temporal_module`."""
    if torch.compiler.is_compiling():
        return run_temporal(module, clips)
    try:
        return run_temporal(module, clips)
    except Exception as error:
        vars(error)[_FAILED_IN_MODULE] = True
        raise


def failed_in_temporal_module(error: BaseException) -> bool:
    """True if an error was raised in a temporal module, not in the network around it."""
    return getattr(error, _FAILED_IN_MODULE, False)


def adapters(network: nn.Module) -> Iterator[tuple[str, Adapter]]:
    """Yield the name of each hooked layer and the adapter that runs its temporal module."""
    for name, layer in network.named_modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, Adapter):
                yield name, hook


def sites(network: nn.Module) -> list[str]:
    """Return the names of the layers before which a temporal module runs, in network order.

    A layer whose module was lost, for example by fusing, is not included.
    """
    return [
        name
        for name, adapter in dict(adapters(network)).items()
        if _child(network.get_submodule(name), adapter.path_of_module()) is not None
    ]


def temporal_modules(network: nn.Module) -> dict[str, str]:
    """Return the names of the temporal modules that run, by the names of their sites."""
    paths = dict(adapters(network))
    return {
        site: ".".join(part for part in (site, paths[site].path_of_module()) if part)
        for site in sites(network)
    }


def attach(network: nn.Module, hooks: Mapping[str, Adapter]) -> None:
    """Register adapters on layers of a network, and guards on all modules that contain them.

    Args:
        network: Its hosts already have their temporal modules as the child `temporal`.
        hooks: Adapters by the names of their hosts.
    """
    for name, adapter in hooks.items():
        network.get_submodule(name).register_forward_pre_hook(adapter)
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList | nn.ModuleDict):
            continue  # these are never called
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
    """Return those hooks of a module that `attach` registered."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return [hook for hook in hooks if isinstance(hook, Adapter | SiteGuard | _AfterForward)]


class SiteGuard:
    """Forward pre-hook of a module that contains sites: checks that one adapter runs each site.

    Args:
        hooks: Adapters by the names of their hosts inside the module.
        prefix: Name of the module and a dot, for messages; empty for the whole network.
    """

    def __init__(self, hooks: Mapping[str, Adapter], prefix: str) -> None:
        self.hooks = dict(hooks)
        self.prefix = prefix
        self._clear_last_check()

    def _clear_last_check(self) -> None:
        self._checked = lambda: None  # a weak reference to the module of the last check
        self._edges: list[tuple[nn.Module, str, nn.Module]] = []  # parent, name, child
        self._running: dict[str, tuple[nn.Module, int, Adapter]] = {}  # layer, key of its hook
        self._layers: set[int] = set()  # ids of these layers

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which checks its own network at its first forward pass."""
        return {"hooks": self.hooks, "prefix": self.prefix}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy."""
        self.hooks, self.prefix = state["hooks"], state["prefix"]
        self._clear_last_check()

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Check the sites and repair them where possible.

        Raises:
            SiteError: A site has lost its module.
        """
        if torch.compiler.is_compiling():
            _check_while_tracing(self, module)
            return
        if not self.is_unchanged(module):
            if getattr(module, "_is_replica", False):
                return  # a copy made by DataParallel for one forward pass
            self.check(module)
        if not self.prefix and not is_traced():
            _hosts_that_ran().difference_update(self._layers)

    def is_unchanged(self, module: nn.Module) -> bool:
        """True if the module and all layers down to its sites are the same as at the last check."""
        if self._checked() is not module:
            return False
        for parent, name, child in self._edges:
            if parent._modules.get(name) is not child:
                return False
        for layer, key, adapter in self._running.values():
            if layer._forward_pre_hooks.get(key) is not adapter:
                return False
        return True

    def check(self, module: nn.Module) -> None:
        """Find the temporal module of each site, and make exactly one adapter run it.

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
                    self._raise_lost(
                        module, name, f"{type(layer).__name__} no longer has a layer {part!r}"
                    )
                edges[id(layer), part] = layer, part, child
                layer = child
            found = _attach_once(layer, adapter)
            if not found:
                self._raise_lost(
                    module, name, f"a {type(layer).__name__} without it has replaced the layer"
                )
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
        self._checked = weakref.ref(module)

    def after_forward(self, module: nn.Module) -> None:
        """Check that the temporal module of each site ran.

        Raises:
            SiteError: A temporal module did not run.
        """
        if self._checked() is not module or self._layers <= _hosts_that_ran():
            return
        running = {key.partition(" ")[0]: False for key in self._running}
        for key, (layer, _, hook) in self._running.items():
            if getattr(hook, "was_compiled", False):
                return  # compiled code does not record which modules ran
            running[key.partition(" ")[0]] |= id(layer) in _hosts_that_ran()
        for name in (name for name, ran in running.items() if not ran):
            if not _runs_compiled(module, name):
                raise SiteError(
                    f"the temporal module at {name} of {type(module).__name__} did not run in this "
                    "forward pass: the layer was not called, or its `forward` was called directly, "
                    "which skips hooks. Call the layer itself, or choose with where= layers that "
                    "run in every forward pass"
                )

    def _raise_lost(self, module: nn.Module, name: str, change: str) -> NoReturn:
        raise SiteError(
            f"the temporal module at {self.prefix}{name} in {type(module).__name__} is lost: "
            f"{change}. The network was changed after motionaware.insert. Build the network again, "
            "change its layers first, then insert; or, for a new module at this site, insert with "
            f"where={self.prefix + name!r}"
        )


class _AfterForward:
    """Forward hook of a network: makes its guard check that all temporal modules ran."""

    def __init__(self, guard: SiteGuard) -> None:
        self.guard = guard

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if not is_traced():
            self.guard.after_forward(module)


def _attach_once(layer: nn.Module, adapter: Adapter) -> list[tuple[str, nn.Module, int, Adapter]]:
    """Make exactly one adapter run each temporal module inside the layer at a site.

    Returns:
        For each temporal module: the path to the layer that has it as a child, the hooked layer,
        the key of its hook in `_forward_pre_hooks`, and the adapter.
    """
    found = []
    owners = [
        path for path, inner in layer.named_modules() if _child(inner, "temporal") is not None
    ]
    for path in owners:
        if any(not other or path.startswith(f"{other}.") for other in owners if other != path):
            continue  # the outer site has a guard for the inner one
        parts = path.split(".") if path else []
        chain = [layer]
        for part in parts:
            chain.append(chain[-1].get_submodule(part))
        depth = len(parts)  # of the layer that gets the hook
        while depth and parts[depth - 1] == WRAPPED:
            depth -= 1
        target, inside = chain[depth], ".".join(parts[depth:])
        hooked = [
            (owner, key, hook)
            for owner in chain
            for key, hook in owner._forward_pre_hooks.items()
            if isinstance(hook, Adapter)
        ]
        correct = [entry for entry in hooked if entry[0] is target and entry[2].inside == inside]
        for owner, key, hook in hooked:
            if (owner, key, hook) != (correct[0] if correct else None):
                del owner._forward_pre_hooks[key]
                owner._forward_pre_hooks_with_kwargs.pop(key, None)
        if correct:
            _, key, hook = correct[0]
        else:
            hook = replace(hooked[-1][2] if hooked else adapter, inside=inside)
            key = target.register_forward_pre_hook(hook).id
        found.append((path, target, key, hook))
    return found


def _runs_compiled(network: nn.Module, name: str) -> bool:
    """True if torch.compile runs the layer or a module that contains it.

    torch has no public way to find this out; checked with torch 2.14.
    """
    module = network
    for part in ["", *name.split(".")]:
        module = module._modules[part] if part else module
        if module is None or module._compiled_call_impl is not None:
            return True
        if hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable"):
            return True
    return False


def _child(module: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a path; None if there is none."""
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


# torch.compile calls these two functions while it traces, and treats their results as constants.
@torch.compiler.assume_constant_result
def _check_while_tracing(guard: SiteGuard, module: nn.Module) -> None:
    if not guard.is_unchanged(module):
        guard.check(module)


@torch.compiler.assume_constant_result
def _mark_compiled(adapter: Adapter) -> None:
    object.__setattr__(adapter, "was_compiled", True)  # frozen; a copy by replace() lacks this
