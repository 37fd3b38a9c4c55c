"""ACTION-Net: spatio-temporal, channel and motion excitation after a learned temporal shift.

    s = shift(x)                                             initialised as a temporal shift
    place_and_time = sigmoid(conv3x3x3(mean over c of s))    one number per pixel and frame
    channel = sigmoid(expand(relu(conv3(squeeze(pool(s)))))) one number per frame and channel
    motion = sigmoid(expand(pool(m)))                        m as in tea.py, computed from s
    y = s (1 + place_and_time) + s (1 + channel) + s (1 + motion)

Source   Wang, She, Smolic, 2021, https://arxiv.org/abs/2103.07372, and their code,
         https://github.com/V-Sense/ACTION-Net
Kept     The sum is not divided by 3: y is about 4.5 s at the start. (authors' code)
Kept     The site: before the first convolution of a residual block, as by our default.
"""

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.layout import per_frame
from motionaware.ops.motion import convolve_over_time
from motionaware.temporal.gate import narrow_width
from motionaware.temporal.memory_format import AnyMemoryFormat
from motionaware.temporal.tea import AlignedDifference, convolve_and_norm


class Action(AnyMemoryFormat):
    """Shift channels in time, then add three products with learned weights.

    Args:
        channels: Channels of the clips.
        reduction: Divides the channels for the channel and motion weights.
        fold: `channels // fold` channels are initialised as shifted in each direction.
    """

    def __init__(self, *, channels: int, reduction: int = 16, fold: int = 8) -> None:
        super().__init__()
        self.shift = nn.Parameter(_shifting_kernels(channels, num_shifted=channels // fold))
        self.place_and_time = nn.Conv3d(1, 1, kernel_size=3, padding=1, bias=False)
        width = narrow_width(channels, reduction=reduction)
        self.channel = nn.Sequential(
            nn.Conv1d(channels, width, kernel_size=1, bias=False),
            nn.Conv1d(width, width, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv1d(width, channels, kernel_size=1, bias=False),
        )
        self.squeeze = convolve_and_norm(channels, width)
        self.motion = AlignedDifference(channels=width)
        self.expand = nn.Conv2d(width, channels, kernel_size=1, bias=False)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Shift and excite the clips."""
        shifted = convolve_over_time(clips, repeat(self.shift, "c k -> b c k", b=clips.shape[0]))
        place_and_time = self._place_and_time(shifted).sigmoid()
        channel_and_motion = self._channel(shifted).sigmoid() + self._motion(shifted).sigmoid()
        return shifted * (3 + place_and_time + channel_and_motion)

    def _place_and_time(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t 1 h w"]:
        volume = reduce(clips, "b t c h w -> b 1 t h w", "mean")
        return rearrange(self.place_and_time(volume), "b 1 t h w -> b t 1 h w")

    def _channel(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c 1 1"]:
        pooled = reduce(clips, "b t c h w -> b c t", "mean")
        return rearrange(self.channel(pooled), "b c t -> b t c 1 1")

    def _motion(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c 1 1"]:
        motion = self.motion(per_frame(self.squeeze, clips))
        return per_frame(self.expand, reduce(motion, "b t c h w -> b t c 1 1", "mean"))


def _shifting_kernels(channels: int, *, num_shifted: int) -> Float[Tensor, "c k"]:
    """Return kernels that select the next frame, the previous frame, or the frame itself."""
    previous, same, following = torch.eye(3).unbind()
    rest = channels - 2 * num_shifted
    return torch.stack([following] * num_shifted + [previous] * num_shifted + [same] * rest)
