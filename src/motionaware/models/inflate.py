"""A 2-D network made 3-D (I3D): every layer gets a time axis, every kernel a depth.

    k x k  ->  k x k x k,    w3[:, :, i] = w2 / k

A stride acts on time as on height and width, but that of a pooling (the one after the stem) leaves
time alone. So a ResNet or MobileNet sees 4, 2 and 1 of 8 frames in its later stages.

Source   Carreira, Zisserman, 2017, https://arxiv.org/abs/1705.07750
Changed  Beyond the ends of a clip its first and last frames stand in, not zeros. So a still clip
         gives exactly what the 2-D network makes of its frame, whatever its length.
Option   `normalise=False` is the M2A authors' way: w3[:, :, i] = w2, not divided, and zeros.
Absent   Their frame-major stack viewed as colours and times, which scrambled both.
"""

import copy
from collections import OrderedDict
from typing import Any

import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError


class InflatedConv(nn.Conv3d):
    """A 3-D convolution beyond whose ends in time the first and last frames stand in."""

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        """Continue the clip at both ends, then convolve."""
        assert not isinstance(self.padding, str)
        depth, height, width = self.padding
        longer = F.pad(input, (0, 0, 0, 0, depth, depth), mode="replicate")
        return F.conv3d(
            longer,
            self.weight,
            self.bias,
            self.stride,
            (0, height, width),
            self.dilation,
            self.groups,
        )


def inflate(network: nn.Module, *, normalise: bool = True) -> nn.Module:
    """Make a 3-D network of a 2-D one; the given one stays as it is.

    Args:
        network: A ResNet or MobileNet: convolutions, batch norms, poolings and what works element
            by element. Images `b c h w` -> features `b d`.
        normalise: Divide the kernels by their depth, and let the clip's own frames stand in beyond
            its ends.

    Returns:
        Volumes `b c t h w` -> features `b d`, with the names of the 2-D network.

    Raises:
        ValueError: A layer has no counterpart that is known.

    >>> import torch, torchvision
    >>> inflate(torchvision.models.resnet18().eval())(torch.rand(1, 3, 4, 32, 32)).shape
    torch.Size([1, 1000])
    """
    inflated: dict[int, Any] = {}
    for name, layer in network.named_modules():
        if type(layer).__name__ == "SelectAdaptivePool2d":  # timm's; it says what it does by name
            inflated[id(layer)] = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(1))
        elif type(layer) in _INFLATED:
            inflated[id(layer)] = _INFLATED[type(layer)](layer, normalise)
        elif type(layer).__name__.endswith("2d") and not any(layer.children()):
            raise UsageError(
                f"{name} is a {type(layer).__name__}, which cannot be inflated; inflate a network "
                f"of {', '.join(kind.__name__ for kind in _INFLATED)}, such as a ResNet"
            )
    deep = copy.deepcopy(network, inflated)  # takes the new layers for copies of the old ones
    if not isinstance(getattr(deep, "features", None), nn.Module) or hasattr(deep, "avgpool"):
        return deep
    # MobileNetV2 pools between its children, by a function of images.
    parts = OrderedDict[str, nn.Module](
        features=deep.get_submodule("features"),
        pool=nn.AdaptiveAvgPool3d(1),
        flatten=nn.Flatten(1),
        classifier=deep.get_submodule("classifier"),
    )
    return nn.Sequential(parts)


def _triple(size: Any, depth: int | None = None) -> tuple[int, int, int]:
    """A size in pixels, with one in frames before it: the same as in pixels if it is not given."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return (height if depth is None else depth), height, width


def _inflate_conv(conv: nn.Conv2d, normalise: bool) -> nn.Conv3d:
    assert not isinstance(conv.padding, str)
    made = (InflatedConv if normalise else nn.Conv3d)(
        conv.in_channels,
        conv.out_channels,
        _triple(conv.kernel_size),
        stride=_triple(conv.stride),
        padding=_triple(conv.padding),
        dilation=_triple(conv.dilation),
        groups=conv.groups,
        bias=False,
        device="meta",  # so no chance is drawn for weights that are replaced at once
    )
    depth = conv.kernel_size[0]
    weight = repeat(conv.weight.detach(), "o i h w -> o i d h w", d=depth)
    made.weight = nn.Parameter(
        (weight / depth if normalise else weight).clone(), requires_grad=conv.weight.requires_grad
    )
    made.bias = copy.deepcopy(conv.bias)
    return made


def _inflate_norm(norm: nn.BatchNorm2d, normalise: bool) -> nn.BatchNorm3d:
    made = nn.BatchNorm3d(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    twin = copy.deepcopy(norm)
    made._parameters, made._buffers = twin._parameters, twin._buffers
    return made.train(norm.training)


_INFLATED: dict[type[nn.Module], Any] = {
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
