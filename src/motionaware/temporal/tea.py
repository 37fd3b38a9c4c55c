"""Motion Excitation (of TEA): multiply each channel by a factor computed from its motion.

    n = BN(squeeze(x))                          C / 16 channels
    m_t = align(n_{t+1}) - n_t                  align: a depthwise 3x3 convolution
    y = x + x * (sigmoid(BN(expand(pool(m)))) - 1/2)   one number per frame and channel

Source   Li, Ji, Shi, Zhang, Kang, Wang, 2020, https://arxiv.org/abs/2004.01398, and their code,
         https://github.com/Phoenix1327/tea-action-recognition
Kept     The motion of the last frame, and its pooled value, are zero.
Kept     `sigmoid - 1/2`, where the paper has `2 sigmoid - 1`. (authors' code)
Changed  The site: in TEA before the 3x3 convolutions of a Res2Net bottleneck, here any site;
         `where="layer*.*.conv2"` gives those of TEA in a ResNet with bottlenecks.
Absent   The multiple temporal aggregation, TEA's other half, which modifies Res2Net's block.

Before a `+` the module is `AlignedDifference`, the m above: the gate reduces the channels, and the
attention module replaces the excitation.
"""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.layout import per_frame
from motionaware.ops.motion import aligned_difference
from motionaware.temporal.gate import narrow_width
from motionaware.temporal.memory_format import AnyMemoryFormat
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion


def convolve_and_norm(channels: int, num_outputs: int, *, size: int = 1) -> nn.Sequential:
    """Return a convolution without bias and a batch norm; they keep the size of the map."""
    return nn.Sequential(
        nn.Conv2d(channels, num_outputs, kernel_size=size, padding=size // 2, bias=False),
        nn.BatchNorm2d(num_outputs),
    )


def align_channels(channels: int) -> nn.Conv2d:
    """Return a depthwise 3x3 convolution, which can compensate small displacements."""
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)


class AlignedDifference(nn.Module):
    """Motion as the next frame, aligned, minus this one; zero in the last frame."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.align = align_channels(channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the motion of each frame."""
        return aligned_difference(clips, per_frame(self.align, clips))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Return the maps that `visualize` can show: the output, as motion."""
        return output_as_motion(self)


class MotionExcitation(AnyMemoryFormat):
    """Multiply each channel of a frame by a factor in (1/2, 3/2) computed from the motion.

    Args:
        channels: Channels of the clips.
        reduction: Divides the channels for the motion.
    """

    difference = AlignedDifference  # the causal variant replaces it

    def __init__(self, *, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = narrow_width(channels, reduction=reduction)
        self.squeeze = convolve_and_norm(channels, width)
        self.motion = self.difference(channels=width)
        self.expand = convolve_and_norm(width, channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Excite the clips."""
        motion = self.motion(per_frame(self.squeeze, clips))
        pooled = reduce(motion, "b t c h w -> b t c 1 1", "mean")
        excitation = per_frame(self.expand, pooled).sigmoid() - 0.5
        return torch.addcmul(clips, clips, excitation)
