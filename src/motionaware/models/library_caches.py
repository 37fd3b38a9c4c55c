"""Take a snapshot of the places where libraries cache tensors, and restore it.

`fake_tensors.py` uses this to remove fake tensors from caches after a shape trace.
"""

import copy
import functools
import gc
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_MAPPINGS = (dict, OrderedDict, defaultdict)
_SEQUENCES = (list, deque)
_NOT_CACHES = (functools._lru_cache_wrapper, ModuleType, nn.Module, Tensor)
_NOT_SEARCHED = (ModuleType, FunctionType, type)  # a search for tensors does not enter these

_EMPTY_CELL = object()
_MISSING = object()


class CacheSnapshot:
    """The contents of one place, in which a library can cache tensors, before a run.

    Args:
        holders: Containers, classes or closure cells that are restored together.
    """

    def __init__(self, *holders: object) -> None:
        self.before = [(holder, _copy_contents(holder)) for holder in holders]

    def restore_if_reaching(self, tensors: list[Tensor]) -> None:
        """Restore the contents if a value added since the snapshot reaches one of the tensors."""
        wanted = {id(tensor) for tensor in tensors}
        if wanted and any(
            _reaches(_new_values(_copy_contents(holder), old), wanted)
            for holder, old in self.before
        ):
            for holder, old in self.before:
                _restore(holder, old)


def snapshot_caches(network: nn.Module) -> list[CacheSnapshot]:
    """Take snapshots of where the packages of a network's classes and hooks can cache tensors.

    These are variables of their modules, attributes of their classes, containers in both, closures
    and default arguments of their functions, and attributes of objects in their modules.
    """
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    hooks = [
        hook
        for module in network.modules()
        for table in (module._forward_pre_hooks, module._forward_hooks)
        for hook in table.values()
    ]
    packages = {_package(thing) for thing in [*kinds, *hooks]} - {"torch", "builtins", "typing", ""}
    finder = _CacheFinder(packages)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages and isinstance(module, ModuleType):
            finder.add(vars(module))
            finder.visit_all(vars(module).values())
    finder.visit_all(kinds)  # classes defined inside functions are in no module
    finder.visit_all(hooks)
    return finder.snapshots


def clear_lru_caches(tensors: list[Tensor]) -> None:
    """Clear every `functools.lru_cache` of the process that reaches one of the tensors."""
    wanted = {id(tensor) for tensor in tensors}
    caches = [thing for thing in gc.get_objects() if type(thing) is functools._lru_cache_wrapper]
    for cache in caches:
        if cache.cache_info().currsize and _reaches(gc.get_referents(cache), wanted):
            cache.cache_clear()


def _reaches(roots: Iterable[object], wanted: set[int]) -> bool:
    """True if one of the objects holds an object with a wanted id, directly or through others."""
    visited: set[int] = set()
    level = list(roots)
    while level:
        fresh = [
            thing
            for thing in level
            if id(thing) not in visited and not isinstance(thing, _NOT_SEARCHED)
        ]
        if any(id(thing) in wanted for thing in fresh):
            return True
        visited.update(map(id, fresh))
        level = gc.get_referents(*fresh) if fresh else []
    return False


def _copy_contents(holder: object) -> Any:
    if isinstance(holder, CellType):
        try:
            return {"cell": holder.cell_contents}
        except ValueError:
            return {"cell": _EMPTY_CELL}
    if isinstance(holder, type):
        return dict(vars(holder))
    return copy.copy(holder)


def _new_values(now: Any, before: Any) -> list[object]:
    """Return the values (and their keys) that were added or replaced since `before`."""
    if not isinstance(now, dict):
        old = {id(value) for value in before}
        return [value for value in now if id(value) not in old]
    return [thing for key in _changed_keys(now, before) for thing in (key, now[key])]


def _changed_keys(now: dict[Any, Any], before: dict[Any, Any]) -> list[Any]:
    return [key for key, value in now.items() if before.get(key, _MISSING) is not value]


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
        case _:  # key by key: other threads may read the variables of a module meanwhile
            for key in [key for key in holder if key not in before]:
                del holder[key]
            for key in _changed_keys(before, holder):
                holder[key] = before[key]


def _package(thing: object) -> str:
    """Return the top-level package in which a class, a function or an object's class is defined."""
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


class _CacheFinder:
    """Walks through the objects of some packages and takes snapshots of possible caches."""

    def __init__(self, packages: set[str]) -> None:
        self.packages = packages
        self.snapshots: list[CacheSnapshot] = []
        self._visited: set[int] = set()

    def add(self, *holders: object) -> None:
        self.snapshots.append(CacheSnapshot(*holders))

    def visit_all(self, values: Iterable[object]) -> None:
        for value in list(values):
            self.visit(value)

    def visit(self, value: object) -> None:
        if id(value) in self._visited:
            return
        kind = type(value)
        if kind in _MAPPINGS or kind in _SEQUENCES or kind is set:
            self._visited.add(id(value))
            self.add(value)
            self.visit_all(gc.get_referents(value))
        elif isinstance(value, staticmethod | classmethod | MethodType):
            self.visit(value.__func__)
        elif isinstance(value, property):
            self.visit_all([value.fget])
        elif isinstance(value, FunctionType):
            self._visited.add(id(value))
            self._visit_function(value)
        elif isinstance(value, _NOT_CACHES) or _package(value) not in self.packages:
            return
        elif isinstance(value, type):
            self._visited.add(id(value))
            self.add(value)
            self.visit_all(vars(value).values())
        elif isinstance(getattr(value, "__dict__", None), dict):
            self._visited.add(id(value))
            containers = [
                inner for inner in vars(value).values() if type(inner) in (*_MAPPINGS, *_SEQUENCES)
            ]
            self.add(vars(value), *containers)

    def _visit_function(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            self.add(cell)
            try:
                self.visit(cell.cell_contents)
            except ValueError:  # the cell is still empty
                continue
        self.visit_all(function.__defaults__ or ())
        self.visit_all((function.__kwdefaults__ or {}).values())
        if vars(function):
            self.visit_all(vars(function).values())
        self.add(vars(function))
