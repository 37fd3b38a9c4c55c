"""Accept old names for one version: of keyword arguments, and of things that moved to a module."""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def renamed_keyword(
    old: str, new: str
) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """Return a decorator that passes the keyword `old` on as `new`, with a DeprecationWarning.

    >>> @renamed_keyword("tell", "log")
    ... def train(recipe, *, log=None):
    ...     return log
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     result = train("recipe.yaml", tell=print)
    >>> result is print, str(caught[0].message)
    (True, "train(): the keyword 'tell' is now 'log'; the old name will be removed")
    """

    def decorate(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        name = function.__name__

        @functools.wraps(function)
        def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(
                        f"{name}() got both {old!r} and {new!r}, its new name; give {new!r} only"
                    )
                warnings.warn(
                    f"{name}(): the keyword {old!r} is now {new!r}; the old name will be removed",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def moved_names(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that finds names which moved, with a DeprecationWarning.

    Args:
        module: The module's `__name__`.
        homes: The module that now defines each name, without `motionaware.`.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home = f"motionaware.{homes[name]}"
        warnings.warn(
            f"{module}.{name} has moved to {home}; the old place will be removed",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(home), name)

    return find
