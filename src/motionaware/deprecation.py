"""Accept the old name of a renamed keyword argument for one version."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
