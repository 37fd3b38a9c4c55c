"""Detects the state of torch (tracing, autograd, autocast) and switches the fast paths on and off.

Private names of torch's functions are used in this file only (except torch._subclasses, in
models/fake_tensors.py). Each has a fallback for a version of torch that lacks it: mostly, the plain
formulas run instead of the fast paths.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

_fast_paths_enabled = True


class use_fast_paths:  # noqa: N801 - used as a function, like torch.set_grad_enabled
    """Switch the fast paths of the whole process on or off: a function and a context manager.

    A fast path computes a formula in fewer passes over memory and has a hand-written gradient.
    There are two: the gate (ops/gating.py) and motion attention (ops/attention.py). Without them
    the plain formulas run, with autograd's gradients; results differ by rounding only. Switch them
    off to take a second derivative or to check a gradient.

    Args:
        enabled: False runs the plain formulas.

    >>> with use_fast_paths(False):
    ...     can_use_fast_paths()
    False
    >>> can_use_fast_paths()
    True
    """

    def __init__(self, enabled: bool) -> None:
        global _fast_paths_enabled
        self._previous = _fast_paths_enabled
        _fast_paths_enabled = enabled

    def __enter__(self) -> None:
        """Do nothing: the constructor has set the switch."""

    def __exit__(self, *_: object) -> None:
        """Restore the switch."""
        global _fast_paths_enabled
        _fast_paths_enabled = self._previous


def can_use_fast_paths() -> bool:
    """Return True if the fast paths are switched on and no tool traces the operations."""
    return not is_traced() and _fast_paths_enabled


def is_traced() -> bool:
    """Return True under torch.compile, an exporter, torch.func, torch.jit.trace or a FLOP counter.

    These tools need plain operations, from which they derive their own kernels and gradients. Also
    True if the installed torch does not show this.
    """
    if torch.compiler.is_compiling():
        return True
    try:
        return (
            torch._C._is_tracing()
            or torch._C._are_functorch_transforms_active()
            or torch._C._len_torch_dispatch_stack() > 0
        )
    except AttributeError:
        return True


def known_shape(tensor: Tensor) -> torch.Size:
    """Return the shape of a tensor as integers, under torch.jit.trace too (which gives tensors).

    For decisions and for constants. torch.jit.trace records what follows from them for the traced
    shape only. Other tracers get `tensor.shape`.
    """
    shape = tensor.shape
    if not isinstance(shape[0], Tensor):
        return shape
    try:
        get_state, set_state = (
            torch._C._get_tracing_state,
            torch._C.__dict__["_set_tracing_state"],  # has no type stub
        )
    except (AttributeError, KeyError):
        return torch.Size(int(size) for size in shape)  # torch.jit.trace warns of each
    state = get_state()
    set_state(None)
    try:
        return tensor.shape
    finally:
        set_state(state)


def runs_only_forward(module: nn.Module) -> bool:
    """Return True if a call of a module runs the `forward` of its class and nothing else.

    Return False if the module has hooks, a replaced `forward` or a compiled call, if torch has
    hooks on all modules, or if the installed torch does not show this.
    """
    if (nn.Module.__call__, getattr(nn.Module, "_call_impl", None)) != _MODULE_CALL:
        return False
    try:
        return not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or vars(module).keys() & _REPLACEMENTS
            or torch_module._has_any_global_hook()
        )
    except AttributeError:
        return False


# Attributes by which an instance replaces the call that its class defines.
_REPLACEMENTS = frozenset(
    {"forward", "_call_impl", "_compiled_call_impl", "_slow_forward", "_conv_forward"}
)
_MODULE_CALL = nn.Module.__call__, getattr(nn.Module, "_call_impl", None)


def convolution_is_original() -> bool:
    """Return True if no library has replaced torch's 2-D convolution since it was imported."""
    return _convolution_functions() == _CONVOLUTION


def _convolution_functions() -> tuple[object, ...]:
    return nn.Conv2d.forward, getattr(nn.Conv2d, "_conv_forward", None), F.conv2d, torch.conv2d


_CONVOLUTION = _convolution_functions()


def softmax_gradient(d_output: Tensor, output: Tensor) -> Tensor:
    """Return the gradient of the input of a softmax over the last axis.

    Args:
        d_output: Gradient of the softmax.
        output: The softmax.
    """
    try:
        return torch.ops.aten._softmax_backward_data(d_output, output, -1, output.dtype)
    except AttributeError:
        return output * (d_output - (d_output * output).sum(dim=-1, keepdim=True))


def needs_gradient(*tensors: Tensor) -> bool:
    """Return True if autograd records operations on at least one of the tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context that disables autocast on the device of a tensor."""
    device = tensor.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def product_type(tensor: Tensor) -> torch.dtype:
    """Return the dtype for products of a tensor: autocast's if it is enabled, else its own."""
    device = tensor.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return tensor.dtype


def is_in_backward_pass() -> bool:
    """Return True while autograd runs a backward pass in this thread, or if that is unknown."""
    try:
        return torch._C._current_graph_task_id() != -1
    except AttributeError:
        return True


def make_compile_check_hooks() -> None:
    """Make torch.compile check hooks before it reuses a graph.

    By default it does not: the graph of a network without temporal modules would also run for a
    network with them, if both have the same class. No effect if torch lacks this setting.
    """
    import torch._dynamo  # takes a second

    config = torch._dynamo.config
    if getattr(config, "skip_nnmodule_hook_guards", False):
        config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # drops graphs that were made without the check


Gradients = tuple[Tensor | None, ...]


def first_derivative_only(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """Decorate the `backward` of a Function: a second derivative raises a RuntimeError.

    The gradient is computed without autocast, in the dtypes of the forward pass.

    torch's `once_differentiable` is not enough: where the gradient of the output is a constant, its
    second derivative is zero without an error.
    """

    @wraps(backward)
    def checked(ctx: Any, *d_outputs: Tensor) -> Gradients:
        with torch.no_grad(), without_autocast(d_outputs[0]):
            gradients = backward(ctx, *d_outputs)
        if not torch.is_grad_enabled():
            return gradients
        present = [one.requires_grad_() for one in gradients if one is not None]
        guarded = iter(_RaiseInBackward.apply(*present)) if present else iter(())
        return tuple(None if one is None else next(guarded) for one in gradients)

    return checked


class _RaiseInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(one.clone() for one in gradients)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Gradients:
        raise RuntimeError(
            "the gradient of a gate or of motion attention is hand-written and has no derivative; "
            "take both derivatives with torch.func, or run the model under "
            "motionaware.ops.autograd_utils.use_fast_paths(False)"
        )
