"""Inflate a 2-D network to a 3-D network (I3D): each layer gets a time axis, each kernel a depth.

    k x k  ->  k x k x k,    w3[:, :, i] = w2 / k

Strides of convolutions also apply to time. The stride of a pooling (the one after the stem) does
not. So the later stages of a ResNet or MobileNet see 4, 2 and 1 of 8 frames.

Source   Carreira, Zisserman, 2017, https://arxiv.org/abs/1705.07750
Changed  A clip is padded in time with its first and last frames, not with zeros. So a still clip of
         any length gives exactly the features that the 2-D network gives for its frame.
Option   `normalise=False` is the M2A authors' version: w3[:, :, i] = w2, and padding with zeros.
Absent   Their stack of frames viewed as (colours, frames), which mixed up both axes.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError

LayerInflater = Callable[[Any, bool], nn.Module]  # a 2-D layer and `normalise` -> a 3-D layer


class InflatedConv(nn.Conv3d):
    """A 3-D convolution that pads a clip in time with its first and last frames."""

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        """Repeat the first and the last frame, then convolve."""
        assert not isinstance(self.padding, str)
        depth, height, width = self.padding
        padded = F.pad(input, (0, 0, 0, 0, depth, depth), mode="replicate")
        return F.conv3d(
            padded,
            self.weight,
            self.bias,
            self.stride,
            (0, height, width),
            self.dilation,
            self.groups,
        )


def inflate(network: nn.Module, *, normalise: bool = True) -> nn.Module:
    """Return a 3-D copy of a 2-D network.

    Args:
        network: A ResNet or MobileNet: convolutions, batch norms, poolings and element-wise layers.
            Images `b c h w` -> features `b d`. It is not changed.
        normalise: Divide the kernels by their depth, and pad clips with their first and last frames
            instead of zeros.

    Returns:
        Volumes `b c t h w` -> features `b d`, with the layer names of the 2-D network.

    Raises:
        UsageError: A 2-D layer has no known 3-D counterpart.

    >>> import torch, torchvision
    >>> inflate(torchvision.models.resnet18().eval())(torch.rand(1, 3, 4, 32, 32)).shape
    torch.Size([1, 1000])
    """
    inflated: dict[int, Any] = {}
    for name, layer in network.named_modules():
        if _is_timm_pooling(layer):
            inflated[id(layer)] = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(1))
        elif type(layer) in _INFLATERS:
            inflated[id(layer)] = _INFLATERS[type(layer)](layer, normalise)
        elif _is_2d(layer):
            raise UsageError(
                f"{name} is a {type(layer).__name__}, which cannot be inflated; inflate a network "
                f"of {', '.join(kind.__name__ for kind in _INFLATERS)}, such as a ResNet"
            )
    deep = copy.deepcopy(network, inflated)  # deepcopy takes the new layers for existing copies
    if not isinstance(getattr(deep, "features", None), nn.Module) or hasattr(deep, "avgpool"):
        return deep
    # MobileNetV2 pools between its children, with a function for images.
    parts = OrderedDict[str, nn.Module](
        features=deep.get_submodule("features"),
        pool=nn.AdaptiveAvgPool3d(1),
        flatten=nn.Flatten(1),
        classifier=deep.get_submodule("classifier"),
    )
    return nn.Sequential(parts)


def _is_timm_pooling(layer: nn.Module) -> bool:
    """True for timm's SelectAdaptivePool2d; only models/backbones.py may import timm."""
    parts = (getattr(layer, name, None) for name in ("pool", "flatten"))
    return hasattr(layer, "pool_type") and all(isinstance(part, nn.Module) for part in parts)


def _is_2d(layer: nn.Module) -> bool:
    """True for a leaf layer that works on images only.

    The class name decides: 2-D layers of torch end in "2d", but have no common base class and no
    attribute for their number of dimensions (checked with torch 2.14).
    """
    return type(layer).__name__.endswith("2d") and not any(layer.children())


def _triple(size: Any, depth: int | None = None) -> tuple[int, int, int]:
    """Return depth, height and width; the depth is the height if it is not given."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return (height if depth is None else depth), height, width


def _inflate_conv(conv: nn.Conv2d, normalise: bool) -> nn.Conv3d:
    assert not isinstance(conv.padding, str)
    deep = (InflatedConv if normalise else nn.Conv3d)(
        conv.in_channels,
        conv.out_channels,
        _triple(conv.kernel_size),
        stride=_triple(conv.stride),
        padding=_triple(conv.padding),
        dilation=_triple(conv.dilation),
        groups=conv.groups,
        bias=False,
        device="meta",  # draws no random weights, which would be replaced at once
    )
    depth = conv.kernel_size[0]
    weight = repeat(conv.weight.detach(), "o i h w -> o i d h w", d=depth)
    deep.weight = nn.Parameter(
        (weight / depth if normalise else weight).clone(), requires_grad=conv.weight.requires_grad
    )
    deep.bias = copy.deepcopy(conv.bias)
    return deep


def _inflate_norm(norm: nn.BatchNorm2d, normalise: bool) -> nn.BatchNorm3d:
    made = nn.BatchNorm3d(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    copied = copy.deepcopy(norm)
    made._parameters, made._buffers = copied._parameters, copied._buffers
    return made.train(norm.training)


_INFLATERS: dict[type[nn.Module], LayerInflater] = {
    nn.Conv2d: _inflate_conv,
    nn.BatchNorm2d: _inflate_norm,
    nn.MaxPool2d: lambda pool, _: nn.MaxPool3d(
        _triple(pool.kernel_size),
        stride=_triple(pool.stride, depth=1),
        padding=_triple(pool.padding),
        ceil_mode=pool.ceil_mode,
    ),
    nn.AdaptiveAvgPool2d: lambda pool, _: nn.AdaptiveAvgPool3d(_triple(pool.output_size)),
    nn.Dropout2d: lambda dropout, _: nn.Dropout3d(dropout.p, dropout.inplace),
}
