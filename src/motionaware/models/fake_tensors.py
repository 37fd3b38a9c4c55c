"""Run a copy of a network on fake tensors, which have a shape but no numbers; leave none behind.

Some libraries keep tensors in caches of the process: `functools.lru_cache`, a dict in a module, an
attribute of a class. A fake tensor in such a cache would come to every later network. Two measures
prevent that:

1. Only the input and the tensors of the network are fake, and what is computed from them. A tensor
   made from sizes alone (`torch.arange(h)`) is real. So a cache of positions holds real numbers.
2. After the run, all fake tensors must be gone. Caches that hold some are cleared or restored. If
   one is still there, `run_fake` raises.
"""

import copy
import functools
import gc
import logging
import sys
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
MakeInput = Callable[[tuple[int, ...]], Tensor]

_MAPPINGS = (dict, OrderedDict, defaultdict)
_SEQUENCES = (list, deque)
_NO_PLACES = (functools._lru_cache_wrapper, ModuleType, nn.Module, Tensor)
_NO_DATA = (ModuleType, FunctionType, type)  # a search for tensors does not enter these


class LeftoverError(ValueError):
    """A fake tensor outlived the shape trace."""


def run_fake(network: nn.Module, run: Callable[[nn.Module, MakeInput], Result]) -> Result:
    """Return what `run` returns, given a fake copy of a network and a function that makes inputs.

    The network, the random state and all caches are as before. `run` must not return a tensor.

    Raises:
        LeftoverError: A fake tensor is still alive after the run and could not be removed.
    """
    with _no_garbage_collection():  # thousands of small copies would set it off
        before = _places(network)
    mode = _RecordingMode()
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    result, failure = None, None
    try:
        with _quiet_torch(), torch.random.fork_rng(devices=list(devices)), torch.no_grad():
            result = _run(network, run, mode)
    except Exception as error:
        _drop_tracebacks(error)
        failure = error
    _remove(mode.made, before, network=type(network).__name__)
    if failure is not None:
        raise failure
    return cast(Result, result)


def _run(
    network: nn.Module, run: Callable[[nn.Module, MakeInput], Result], mode: "_RecordingMode"
) -> Result:
    tensors = [*network.parameters(), *network.buffers()]
    copied: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
    twin = copy.deepcopy(network, copied).eval()
    like = next((one for one in tensors if one.is_floating_point()), torch.empty(0))

    def make_input(shape: tuple[int, ...]) -> Tensor:
        with mode:
            return torch.empty(shape, dtype=like.dtype, device=like.device)

    return run(twin, make_input)


class _RecordingMode(FakeTensorMode):
    """A FakeTensorMode that keeps a weak reference to each fake tensor it makes.

    It is not entered, except to make the input: so operations without a fake argument are real.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.made: list[weakref.ReferenceType[Tensor]] = []

    def from_tensor(self, *args: Any, **kwargs: Any) -> Any:
        fake = super().from_tensor(*args, **kwargs)
        self.made.append(weakref.ref(fake))
        return fake

    def __torch_dispatch__(self, *args: Any, **kwargs: Any) -> Any:
        output = super().__torch_dispatch__(*args, **kwargs)
        for one in tree_leaves(output):
            if isinstance(one, FakeTensor):
                self.made.append(weakref.ref(one))
        return output


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Stop torch from logging a traceback for an error that the caller reports in one line."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _drop_tracebacks(error: BaseException | None) -> None:
    """Drop the frames of an error: they hold tensors of the run."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _remove(made: list[weakref.ref[Tensor]], places: list["_Place"], *, network: str) -> None:
    """Remove the fake tensors that are still alive from caches; raise if some cannot be removed."""
    if not _alive(made):
        return
    gc.collect()  # reference cycles
    if not _alive(made):
        return
    _clear_lru_caches(_alive(made))
    for place in places:
        place.restore_if_reaching(_alive(made))
    gc.collect()
    if left := _alive(made):
        holders = {
            f"a {type(one).__module__}.{type(one).__qualname__}"
            for one in gc.get_referrers(*left)
            if one is not left and type(one).__name__ != "frame"
        }
        raise LeftoverError(
            f"{network} keeps {len(left)} tensors of the shape trace, which have no numbers "
            f"(held by {', '.join(sorted(holders)) or 'an extension'}), so later calls could read "
            "them; switch that cache off while modules are inserted, or name 2-D convolutions with "
            "where=, which need no shape trace"
        )


def _alive(made: list[weakref.ref[Tensor]]) -> list[Tensor]:
    return list({id(one): one for ref in made if (one := ref()) is not None}.values())


def _clear_lru_caches(tensors: list[Tensor]) -> None:
    wanted = {id(one) for one in tensors}
    caches = [one for one in gc.get_objects() if type(one) is functools._lru_cache_wrapper]
    for cache in caches:
        if cache.cache_info().currsize and _reaches(gc.get_referents(cache), wanted):
            cache.cache_clear()


def _reaches(roots: Iterable[object], wanted: set[int]) -> bool:
    """Whether one of the objects holds a wanted one, directly or through others."""
    seen: set[int] = set()
    level = list(roots)
    while level:
        fresh = [one for one in level if id(one) not in seen and not isinstance(one, _NO_DATA)]
        if any(id(one) in wanted for one in fresh):
            return True
        seen.update(map(id, fresh))
        level = gc.get_referents(*fresh) if fresh else []
    return False


class _Place:
    """One place in which a library can cache tensors, and what it held before the run."""

    def __init__(self, *holders: object) -> None:
        self.before = [(holder, _contents(holder)) for holder in holders]

    def restore_if_reaching(self, tensors: list[Tensor]) -> None:
        """Restore the place if what is new in it reaches one of the tensors."""
        wanted = {id(one) for one in tensors}
        if wanted and any(
            _reaches(_new_values(_contents(holder), old), wanted) for holder, old in self.before
        ):
            for holder, old in self.before:
                _restore(holder, old)


_EMPTY_CELL = object()


def _contents(holder: object) -> Any:
    if isinstance(holder, CellType):
        try:
            return {"cell": holder.cell_contents}
        except ValueError:
            return {"cell": _EMPTY_CELL}
    if isinstance(holder, type):
        return dict(vars(holder))
    return copy.copy(holder)


def _new_values(now: Any, before: Any) -> list[object]:
    if not isinstance(now, dict):
        old = {id(one) for one in before}
        return [one for one in now if id(one) not in old]
    return [one for key in _changed_keys(now, before) for one in (key, now[key])]


def _changed_keys(now: dict[Any, Any], before: dict[Any, Any]) -> list[Any]:
    missing = object()
    return [key for key, value in now.items() if before.get(key, missing) is not value]


def _restore(holder: Any, before: Any) -> None:
    match holder:
        case CellType():
            if before["cell"] is _EMPTY_CELL:
                del holder.cell_contents
            else:
                holder.cell_contents = before["cell"]
        case type():
            for key in [key for key in vars(holder) if key not in before]:
                delattr(holder, key)
            for key in _changed_keys(before, dict(vars(holder))):
                setattr(holder, key, before[key])
        case list() | deque():
            holder.clear()
            holder.extend(before)
        case set():
            holder.intersection_update(before)
            holder.update(before)
        case _:  # one key after another: other threads may read the variables of a module
            for key in [key for key in holder if key not in before]:
                del holder[key]
            for key in _changed_keys(before, holder):
                holder[key] = before[key]


def _places(network: nn.Module) -> list[_Place]:
    """Find where the packages of a network's classes and hooks can cache tensors.

    That is: variables of their modules, attributes of their classes, containers in either, closures
    and default arguments of their functions, and attributes of objects in their modules.
    """
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    hooks = [
        hook
        for module in network.modules()
        for table in (module._forward_pre_hooks, module._forward_hooks)
        for hook in table.values()
    ]
    packages = {_package(one) for one in [*kinds, *hooks]} - {"torch", "builtins", "typing", ""}
    finder = _Finder(packages)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages and isinstance(module, ModuleType):
            finder.add(vars(module))
            finder.visit_all(vars(module).values())
    finder.visit_all(kinds)  # classes made inside functions are in no module
    finder.visit_all(hooks)
    return finder.places


def _package(thing: object) -> str:
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


class _Finder:
    def __init__(self, packages: set[str]) -> None:
        self.packages = packages
        self.places: list[_Place] = []
        self._seen: set[int] = set()

    def add(self, *holders: object) -> None:
        self.places.append(_Place(*holders))

    def visit_all(self, values: Iterable[object]) -> None:
        for value in list(values):
            self.visit(value)

    def visit(self, value: object) -> None:
        if id(value) in self._seen:
            return
        kind = type(value)
        if kind in _MAPPINGS or kind in _SEQUENCES or kind is set:
            self._seen.add(id(value))
            self.add(value)
            self.visit_all(gc.get_referents(value))
        elif isinstance(value, staticmethod | classmethod | MethodType):
            self.visit(value.__func__)
        elif isinstance(value, property):
            self.visit_all([value.fget])
        elif isinstance(value, FunctionType):
            self._seen.add(id(value))
            self._visit_function(value)
        elif isinstance(value, _NO_PLACES) or _package(value) not in self.packages:
            return
        elif isinstance(value, type):
            self._seen.add(id(value))
            self.add(value)
            self.visit_all(vars(value).values())
        elif isinstance(getattr(value, "__dict__", None), dict):
            self._seen.add(id(value))
            inside = [one for one in vars(value).values() if type(one) in (*_MAPPINGS, *_SEQUENCES)]
            self.add(vars(value), *inside)

    def _visit_function(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            self.add(cell)
            try:
                self.visit(cell.cell_contents)
            except ValueError:  # not filled yet
                continue
        self.visit_all(function.__defaults__ or ())
        self.visit_all((function.__kwdefaults__ or {}).values())
        if vars(function):
            self.visit_all(vars(function).values())
        self.add(vars(function))
