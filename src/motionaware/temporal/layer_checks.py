"""Checks whether the formula of a layer may be computed in place of a call of the layer.

Fast paths read a layer's weights and skip its `forward`. That is right only while a call does
nothing else. Other libraries change what a call does: hooks (pruning, FSDP2, fvcore), a replaced
`forward` (accelerate's offloading), another class (parametrizations, LoRA, quantisation),
`layer.compile()`, a weight of another type (torchao, DTensor). In each of these cases the layer
itself must be called.
"""

import torch
from torch import Tensor, nn

from motionaware.ops.autograd_utils import convolution_is_original, runs_only_forward
from motionaware.ops.gating import Weights


def is_untouched(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return True if a call of `layer` runs `kind.forward` and nothing else.

    Args:
        layer: Any module.
        kind: The class whose formula the caller knows; a subclass of it counts as touched.
    """
    return (
        type(layer) is kind
        and next(layer.children(), None) is None
        and not vars(layer).keys() & {"weight", "bias"}  # plain attributes in place of parameters
        and runs_only_forward(layer)
    )


def read_pointwise(layer: nn.Module, clips: Tensor) -> Weights | None:
    """Return kernel and bias of a 1x1 convolution; None if the layer must be called instead.

    Args:
        layer: The convolution, or the module that a user or a library put in its place.
        clips: Input of the layer; the weights must have its device and dtype.
    """
    if not (is_untouched(layer, nn.Conv2d) and convolution_is_original()):
        return None
    assert isinstance(layer, nn.Conv2d)
    kernel, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if (
        kernel is None
        or bias is None
        or not (_is_ordinary(kernel, clips) and _is_ordinary(bias, clips))
        or kernel.shape[2:] != (1, 1)
        or (layer.stride, layer.padding, layer.groups) != ((1, 1), (0, 0), 1)
        or layer.padding_mode != "zeros"
    ):
        return None
    return kernel, bias


def _is_ordinary(weight: Tensor, clips: Tensor) -> bool:
    """Return True for a dense tensor of torch's own class, with the device and dtype of the clips.

    Another dtype is accepted where autocast converts the weight.
    """
    return (
        (type(weight) is nn.Parameter or type(weight) is Tensor)
        and weight.device == clips.device
        and (weight.dtype == clips.dtype or _is_cast_by_autocast(weight))
        and weight.layout == torch.strided
    )


def _is_cast_by_autocast(weight: Tensor) -> bool:
    return weight.dtype in (torch.float32, torch.bfloat16, torch.float16) and (
        weight.device.type != "meta" and torch.is_autocast_enabled(weight.device.type)
    )
