"""Detects tracing, autograd and autocast state."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def is_traced() -> bool:
    """Return True under torch.compile, an exporter, torch.func, torch.jit.trace or a counter.

    These tools need plain operations, from which they derive their own passes and gradients. Only
    eager code uses the passes written by hand.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def known_shape(tensor: Tensor) -> torch.Size:
    """Return the shape of a tensor as integers, under torch.jit.trace too (which gives tensors).

    For decisions and for constants. torch.jit.trace records what follows from them for the traced
    shape only. Other tracers get `tensor.shape`.
    """
    shape = tensor.shape
    if not isinstance(shape[0], Tensor):
        return shape
    state = torch._C._get_tracing_state()
    set_state = torch._C.__dict__["_set_tracing_state"]  # has no type stub
    set_state(None)
    try:
        return tensor.shape
    finally:
        set_state(state)


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether autograd will come back for any of them."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Where autocast would choose the types of products on the device of a tensor, choose none."""
    device = tensor.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def product_type(tensor: Tensor) -> torch.dtype:
    """The type in which products of a tensor are to be taken: autocast's choice, or its own."""
    device = tensor.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return tensor.dtype


Gradients = tuple[Tensor | None, ...]


def once(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """Mark a gradient written by hand, which has no derivative: whoever asks for one is told.

    It is computed in the types that the forward pass chose, whatever autocast wants by then.

    `torch.autograd.function.once_differentiable` lets a second derivative through as zero where
    the first came from constants.
    """

    @wraps(backward)
    def by_hand(ctx: Any, *gradients: Tensor) -> Gradients:
        with torch.no_grad(), without_autocast(gradients[0]):
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return found
        wanted = [one.requires_grad_() for one in found if one is not None]
        refusing = iter(_Refuse.apply(*wanted)) if wanted else iter(())
        return tuple(None if one is None else next(refusing) for one in found)

    return by_hand


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(one.clone() for one in gradients)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Gradients:
        raise RuntimeError(
            "a second derivative was asked of a gate or of motion attention, whose gradients are "
            "written by hand and have none; take both derivatives with torch.func, for which the "
            "plain formula is run"
        )
