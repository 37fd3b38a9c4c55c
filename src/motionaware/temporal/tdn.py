"""Temporal Difference Network (TDN): differences in both directions, at several scales.

    n = BN(squeeze(x))                                      C / 16 channels
    d = align(n_{t+1}) - n_t,  d' = align(n_{t-1}) - n_t    zero where there is no such frame
    e(d) = sigmoid(BN(expand((d + coarse(d) + fine(d)) / 3))) - 1/2
    y = x + x * (e(d) + e(d')) / 2

`fine` is a 3x3 convolution and norm, `coarse` the same on a map of half the size.

Source   Wang, Tong, Ji, Wu, 2021, https://arxiv.org/abs/2012.10071, and their code,
         https://github.com/MCG-NJU/TDN, with its issue 6 fixed
Kept     Both directions share every weight, so a reversed clip gives the reversed features: TDN
         alone cannot distinguish the direction of time. The authors add a temporal shift after it,
         as `tdn,tsm` does.
Kept     Maps of odd size lose their last row and column before `coarse`, and are resized back.
Changed  A map of one pixel is not halved (an error in the authors' code).
Changed  The site: in TDN before the 3x3 convolution of every bottleneck except those of the first
         stage; `where=["layer[234].*.conv2"]` gives these sites in a ResNet-50.

Before a `+` the module is `bidirectional_difference`, (e(d) + e(d')) / 2 on the narrow channels of
the gate. It keeps e: without the sigmoid the sum of both directions is the second difference, which
is zero for constant motion.

The short-term module of TDN reads five neighbouring frames of the video around each frame, and adds
its features after the first convolution and the first stage. A module at a site reads only the clip
and keeps its shape. `ShortTermStem` is therefore limited to the clip:

    y = x + upsample(BN(conv7x7([x_{t-1} - x_{t-2}, ..., x_{t+2} - x_{t+1}] at half the size)))

Kept     Four differences of five frames, at half the size, into a 7x7 convolution and norm.
Changed  The five frames are neighbours in the clip (the first and last frame are repeated at its
         ends): neighbours in the video with dense sampling, else frames of neighbouring segments.
Changed  It adds to the image itself, so it has no ReLU and keeps the size.
Absent   The weights of the two summands (1/2 and 1/2, or 3/4 and 1/4), and the second branch
         through a copy of the first stage.

It goes before the first convolution, in addition to the long-term modules in the blocks:
`insert(insert(network, "tdn", num_frames=8), "tdn_stem", num_frames=8, where="conv1")`.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.autograd_utils import known_shape
from motionaware.ops.layout import per_frame
from motionaware.ops.motion import aligned_difference
from motionaware.temporal.gate import narrow_width
from motionaware.temporal.memory_format import AnyMemoryFormat
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion
from motionaware.temporal.tea import align_channels, convolve_and_norm


class BidirectionalDifference(nn.Module):
    """Mean excitation by the differences to the next and the previous frame, in (-1/2, 1/2).

    Args:
        channels: Channels of the clips.
        num_outputs: Channels of the output.
    """

    def __init__(self, *, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.align = align_channels(channels)
        self.coarse = convolve_and_norm(channels, channels, size=3)
        self.fine = convolve_and_norm(channels, channels, size=3)
        self.expand = convolve_and_norm(channels, num_outputs)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c2 h w"]:
        """Return the mean of the excitations of both directions."""
        aligned = per_frame(self.align, clips)
        return (
            self.excite(aligned_difference(clips, aligned, toward="next"))
            + self.excite(aligned_difference(clips, aligned, toward="previous"))
        ) / 2

    def excite(self, difference: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c2 h w"]:
        """Return the excitation of one direction from its difference."""
        return self.combine(difference, per_frame(self.fine, difference))

    def combine(
        self, difference: Float[Tensor, "b t c h w"], fine: Float[Tensor, "b t c h w"]
    ) -> Float[Tensor, "b t c2 h w"]:
        """Return the excitation of one direction from its difference and the output of `fine`."""
        coarse = per_frame(self._at_half_size, difference)
        return per_frame(self.expand, (difference + coarse + fine) / 3).sigmoid() - 0.5

    def _at_half_size(self, frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return F.interpolate(self.coarse(_halve(frames)), size=frames.shape[-2:])

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Return the maps that `visualize` can show: the output, as motion."""
        return output_as_motion(self)


def _halve(frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Average 2 x 2 pixels. An odd last row or column is dropped unless it is the only one."""
    return F.avg_pool2d(frames, kernel_size=2, ceil_mode=min(known_shape(frames)[-2:]) < 2)


def bidirectional_difference(*, channels: int) -> BidirectionalDifference:
    """Return the motion module of TDN on the channels of a gate."""
    return BidirectionalDifference(channels=channels, num_outputs=channels)


class LongTermDifference(AnyMemoryFormat):
    """TDN's long-term module: multiply each value by a factor in (1/2, 3/2) from its change.

    Args:
        channels: Channels of the clips.
        reduction: Divides the channels for the differences.
    """

    difference = BidirectionalDifference  # the causal variant replaces it

    def __init__(self, *, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = narrow_width(channels, reduction=reduction)
        self.squeeze = convolve_and_norm(channels, width)
        self.motion = self.difference(channels=width, num_outputs=channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Excite the clips."""
        return torch.addcmul(clips, clips, self.motion(per_frame(self.squeeze, clips)))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Return the maps that `visualize` can show: the factor on the input, as gate."""
        factor = ShownMap(
            module=self.motion,
            read=lambda inputs, output: 1 + output[0],
            label="gate, in (1/2, 3/2)",
        )
        return {"gate": factor}


class ShortTermStem(AnyMemoryFormat):
    """Add to each image a 7x7 convolution of the four differences around it.

    Args:
        channels: Channels of the images, at most 4.

    Raises:
        UsageError: `channels` is above 4: the site is not before the first convolution.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        if channels > 4:
            raise UsageError(
                f"{channels = }; tdn_stem takes images of at most 4 channels, before the first "
                "convolution: give where='conv1' (or that convolution's name in your network)"
            )
        self.look = convolve_and_norm(4 * channels, channels, size=7)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add the convolved differences to the images."""
        return clips + per_frame(self._convolve, self._differences(clips))

    def _differences(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c4 h w"]:
        first, last = clips[:, :1], clips[:, -1:]
        steps = torch.cat([first, first, clips, last, last], dim=1).diff(dim=1)
        windows = steps.unfold(1, 4, 1)
        return rearrange(windows, "b t c h w place -> b t (place c) h w")

    def _convolve(self, frames: Float[Tensor, "n c4 h w"]) -> Float[Tensor, "n c h w"]:
        return F.interpolate(self.look(_halve(frames)), size=frames.shape[-2:])
