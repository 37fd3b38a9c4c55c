"""How torch runs us just now: followed by a tracer or not, with types of its own choice or not."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def is_traced() -> bool:
    """Whether torch.compile, an exporter, torch.func or torch.jit follows what we do.

    They want plain operations, of which they make their own passes and gradients; what runs eagerly
    may take the passes that we wrote by hand.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
    )


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Where autocast would choose the types of products on the device of a tensor, choose none."""
    device = tensor.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
