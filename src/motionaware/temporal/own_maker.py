"""Calls a user's own temporal modules, and reports the errors that their code raises.

An error in the constructor or in `forward` of a module that a temporal name refers to (such as
`mix.py:Mix`) becomes an `OwnCodeError` with file and line of the user's code. Classes and functions
that are passed in from Python raise their errors unchanged. So does code that torch.compile runs.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from motionaware.errors import MotionAwareError, OwnCodeError, UsageError

_MARK = "_motionaware_own_code"
"""Attribute of a module that a user's code made: True."""

_SITE_ARGUMENTS = ("channels", "num_frames", "causal")  # cannot be written as options


def own_maker(
    make: Any, *, causal: bool, name: str = "", options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Return a function of `channels` and `num_frames` that makes a user's own module.

    It passes those arguments that `make` names, or all if `make` takes any keyword.

    Args:
        make: A class or function.
        causal: Pass `causal=True`, for modules that look at past frames only.
        name: The name in a temporal name; empty if the callable was passed in from Python.
        options: Further keywords for `make`.

    Raises:
        UsageError: `make` makes no modules, or does not take these keywords. The returned function
            raises it if `make` needs other arguments.
        OwnCodeError: Raised by the returned function if code with a `name` raises an error.
    """
    shown, options = name or str(make), options or {}
    if isinstance(make, nn.Module):
        raise UsageError(
            f"temporal is a {type(make).__name__} instance, wanted a callable that makes one "
            "module per site: give its class or a function that makes it, not an instance"
        )
    if not callable(make):
        raise UsageError(
            f"temporal {shown} is {make!r}, a {type(make).__name__}; wanted a class or a function "
            "that makes a module"
        )
    try:
        signature = inspect.signature(make)
    except ValueError as error:
        raise UsageError(
            f"temporal {shown} has no readable signature ({error}); wrap it in a function that "
            "makes the module"
        ) from error
    if causal and "causal" not in signature.parameters:
        raise UsageError(
            f"{causal = }, but {shown} has no keyword 'causal'; add one and, where it is true, "
            "make a module that looks at past frames only (docs/streaming.md)"
        )
    takes_any = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    takes_any &= make.__init__ is not nn.Module.__init__  # it has **kwargs and refuses them
    _check_options(shown, options, signature, takes_any=takes_any)

    def made(*, channels: int, num_frames: int) -> Any:
        arguments = {"channels": channels, "num_frames": num_frames}
        arguments |= {"causal": True} if causal else {}
        keywords = {
            key: value
            for key, value in arguments.items()
            if takes_any or key in signature.parameters
        }
        keywords |= options
        try:
            signature.bind(**keywords)
        except TypeError as error:
            raise UsageError(
                f"temporal {shown} cannot be called: {error}; it gets the keywords "
                f"{', '.join(arguments)}, if it names them, and the options in brackets; give "
                "its other arguments defaults"
            ) from error
        if not name:
            return make(**keywords)
        try:
            module = make(**keywords)
        except (MotionAwareError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise own_code_error(error, make) from error
        if isinstance(module, nn.Module):
            setattr(module, _MARK, True)
        return module

    return made


def _check_options(
    name: str, options: Mapping[str, Any], signature: inspect.Signature, *, takes_any: bool
) -> None:
    known = [
        one.name
        for one in signature.parameters.values()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        and one.name not in _SITE_ARGUMENTS
    ]
    for option in options:
        if option in _SITE_ARGUMENTS or not (takes_any or option in known):
            raise UsageError(
                f"temporal {name} has no option {option!r}; its options are "
                f"{', '.join(sorted(known)) or 'none'}"
            )


class OwnSequential(nn.Sequential):
    """Sequential of temporal modules, of which at least one is a user's own; see `run_temporal`."""

    def forward(self, input: Tensor) -> Tensor:
        """Run the modules one after the other."""
        for module in self:
            input = run_temporal(module, input)
        return input


def run_temporal(module: nn.Module, clips: Tensor) -> Any:
    """Call a temporal module on clips.

    Raises:
        OwnCodeError: The module is a user's own, and its `forward` raised an error.
    """
    if torch.compiler.is_compiling() or not hasattr(module, _MARK):
        return module(clips)
    try:
        return module(clips)
    except (MotionAwareError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise own_code_error(error, type(module)) from error


def own_code_error(error: Exception, code: Any) -> OwnCodeError:
    """Return the OwnCodeError for an error that a user's class or function raised.

    Its message names the innermost line in the file of `code`, or the innermost line of all.
    """
    module = sys.modules.get(getattr(code, "__module__", ""))
    file = getattr(module, "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    in_file = [frame for frame in frames if frame.filename == file] or frames
    place = f"{in_file[-1].filename}, line {in_file[-1].lineno}: " if in_file else ""
    return OwnCodeError(f"{place}{type(error).__name__}: {error}")
