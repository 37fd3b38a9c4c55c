"""Motion Excitation, of TEA: channels that see motion are raised, the others lowered.

    n = BN(squeeze(x))                          C / 16 channels
    m_t = align(n_{t+1}) - n_t                  a 3x3 convolution, one channel at a time, before -
    y = x + x * (sigmoid(BN(expand(pool(m)))) - 1/2)   one number a frame and channel

Source   Li, Ji, Shi, Zhang, Kang, Wang, 2020, https://arxiv.org/abs/2004.01398, and their code,
         https://github.com/Phoenix1327/tea-action-recognition
Kept     The last frame's motion is zero; nothing is rescaled at the pooled value 0.
Kept     `sigmoid - 1/2`, where the paper has `2 sigmoid - 1`. (authors' code)
Changed  The place: there it stands before the 3x3 convolutions of a Res2Net bottleneck, here where
         it is put; `where="layer*.*.conv2"` is that place in a ResNet with bottlenecks.
Absent   TEA's other half, the multiple temporal aggregation, which rebuilds Res2Net's block.

Before a `+` it is `AlignedDifference`, its m: what a gate holds is narrow already, and the
attention that follows takes the place of the excitation.
"""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.layout import per_frame
from motionaware.ops.motion import aligned_difference
from motionaware.temporal.gate import narrow_width
from motionaware.temporal.memory import AnyMemoryFormat
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion


def convolve_and_norm(channels: int, num_outputs: int, *, size: int = 1) -> nn.Sequential:
    """A convolution without bias, and the batch norm that brings one; the map keeps its size."""
    return nn.Sequential(
        nn.Conv2d(channels, num_outputs, kernel_size=size, padding=size // 2, bias=False),
        nn.BatchNorm2d(num_outputs),
    )


def align_channels(channels: int) -> nn.Conv2d:
    """A 3x3 convolution of each channel for itself: it can move things back into place."""
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)


class AlignedDifference(nn.Module):
    """Motion as the next frame, aligned, minus this one; zero in the last frame."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.align = align_channels(channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Turn frames into motion."""
        return aligned_difference(clips, per_frame(self.align, clips))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the output as motion."""
        return output_as_motion(self)


class MotionExcitation(AnyMemoryFormat):
    """Weigh each frame's channels by the motion in them, by a factor between 1/2 and 3/2.

    Args:
        channels: Channels of the clips.
        reduction: How many times fewer channels motion is looked for in.
    """

    difference = AlignedDifference  # causal.py has another

    def __init__(self, *, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = narrow_width(channels, reduction=reduction)
        self.squeeze = convolve_and_norm(channels, width)
        self.motion = self.difference(channels=width)
        self.expand = convolve_and_norm(width, channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Raise the channels that move."""
        motion = self.motion(per_frame(self.squeeze, clips))
        pooled = reduce(motion, "b t c h w -> b t c 1 1", "mean")
        excitation = per_frame(self.expand, pooled).sigmoid() - 0.5
        return torch.addcmul(clips, clips, excitation)
