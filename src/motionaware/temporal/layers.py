"""Decides whether the formula of a layer may be computed in place of a call of the layer.

Fast paths read a layer's weights and skip its `forward`. That is right only while a call does
nothing else. Other libraries change what a call does: hooks (pruning, FSDP2, fvcore), a replaced
`forward` (accelerate's offloading), another class (parametrizations, LoRA, quantisation),
`layer.compile()`, a weight of another type (torchao, DTensor). In each of these cases, and while a
tool traces, the layer itself must be called.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from motionaware.ops.gating import Weights

# What an instance may carry in place of what its class defines.
_REPLACED = frozenset(
    {
        "forward",
        "_call_impl",
        "_compiled_call_impl",
        "_slow_forward",
        "_conv_forward",
        "weight",
        "bias",
    }
)
_CALL = nn.Module.__call__, nn.Module._call_impl  # pyright: ignore[reportAttributeAccessIssue]
_CONV2D = nn.Conv2d.forward, nn.Conv2d._conv_forward, F.conv2d, torch.conv2d


def is_untouched(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return True if a call of `layer` runs `kind.forward` and nothing else.

    Args:
        layer: Any module.
        kind: The class whose formula the caller knows; a subclass of it counts as touched.
    """
    if type(layer) is not kind:
        return False
    return not (
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or layer._modules
        or vars(layer).keys() & _REPLACED
        or torch_module._has_any_global_hook()
        or (nn.Module.__call__, nn.Module._call_impl) != _CALL
    )


def read_pointwise(layer: nn.Module, clips: Tensor) -> Weights | None:
    """Return kernel and bias of a 1x1 convolution; None if the layer must be called instead.

    Args:
        layer: The convolution, or what a user or a library put in its place.
        clips: What comes to it, for device and type.
    """
    if not is_untouched(layer, nn.Conv2d):
        return None
    assert isinstance(layer, nn.Conv2d)
    kernel, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
    if (
        kernel is None
        or bias is None
        or not (_is_ordinary(kernel, clips) and _is_ordinary(bias, clips))
        or kernel.shape[2:] != (1, 1)
        or (layer.stride, layer.padding, layer.groups) != ((1, 1), (0, 0), 1)
        or layer.padding_mode != "zeros"
        or (nn.Conv2d.forward, nn.Conv2d._conv_forward, F.conv2d, torch.conv2d) != _CONV2D
    ):
        return None
    return kernel, bias


def _is_ordinary(weight: Tensor, clips: Tensor) -> bool:
    """Return True for a dense tensor of torch's own class, where and of the type the clips are."""
    return (
        (type(weight) is nn.Parameter or type(weight) is Tensor)
        and weight.device == clips.device
        and (weight.dtype == clips.dtype or _is_cast(weight))
        and weight.layout == torch.strided
    )


def _is_cast(weight: Tensor) -> bool:
    """Return True if autocast casts the weight for a product."""
    return weight.dtype in (torch.float32, torch.bfloat16, torch.float16) and (
        weight.device.type != "meta" and torch.is_autocast_enabled(weight.device.type)
    )
