"""Temporal Difference Network (TDN): differences in both directions, at several scales.

    n = BN(squeeze(x))                                      C / 16 channels
    d = align(n_{t+1}) - n_t,  d' = align(n_{t-1}) - n_t    zero where there is no such frame
    e(d) = sigmoid(BN(expand((d + coarse(d) + fine(d)) / 3))) - 1/2
    y = x + x * (e(d) + e(d')) / 2

`fine` is a 3x3 convolution and norm, `coarse` the same on a map of half the size.

Source   Wang, Tong, Ji, Wu, 2021, https://arxiv.org/abs/2012.10071, and their code,
         https://github.com/MCG-NJU/TDN, after the repair of its issue 6
Kept     Both directions share every weight, so a clip played backwards gives the same features
         backwards: alone it does not tell before from after. The authors let a temporal shift
         follow; so does `tdn,tsm`.
Kept     Maps of odd size lose their last row and column before `coarse`, and are stretched back.
Changed  A map of one pixel is its own half size (there it is an error).
Changed  The place: there in every bottleneck but the first stage's, before the 3x3 convolution;
         `where=["layer[234].*.conv2"]` is that place in a ResNet-50.

Before a `+` it is `bidirectional_difference`, (e(d) + e(d')) / 2 on the channels of the gate, which
are narrow already. It keeps e: without the sigmoid both directions would cancel to the second
difference, which constant motion does not have.

The short-term half of TDN looks at five neighbouring frames of the video around each frame, and
joins what it finds to the network after its first convolution and its first stage. A module at a
site sees only the clip and keeps its shape. `ShortTermStem` therefore does what a clip allows:

    y = x + upsample(BN(conv7x7([x_{t-1} - x_{t-2}, ..., x_{t+2} - x_{t+1}] at half the size)))

Kept     Four differences of five frames, seen at half the size by a 7x7 convolution and norm.
Changed  The five frames are neighbours in the clip (the first and last stand in beyond the ends):
         with dense sampling neighbours in the video, else frames of neighbouring segments.
Changed  It adds to the picture itself, so it has no ReLU and keeps the size.
Absent   The weights of the two (1/2 and 1/2, or 3/4 and 1/4), and a second branch, through a copy
         of the first stage.

It goes before the first convolution, beside the long-term modules in the blocks:
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
from motionaware.temporal.memory import AnyMemoryFormat
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion
from motionaware.temporal.tea import align_channels, convolve_and_norm


class BidirectionalDifference(nn.Module):
    """What changes to the next and from the previous frame, as numbers between -1/2 and 1/2.

    Args:
        channels: Channels of the clips.
        num_outputs: Channels of the result.
    """

    def __init__(self, *, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.align = align_channels(channels)
        self.coarse = convolve_and_norm(channels, channels, size=3)
        self.fine = convolve_and_norm(channels, channels, size=3)
        self.expand = convolve_and_norm(channels, num_outputs)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c2 h w"]:
        """Average the excitations of both directions."""
        aligned = per_frame(self.align, clips)
        return (
            self.excite(aligned_difference(clips, aligned, toward="next"))
            + self.excite(aligned_difference(clips, aligned, toward="previous"))
        ) / 2

    def excite(self, difference: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c2 h w"]:
        """Excitation of one direction, given its difference."""
        return self.combine(difference, per_frame(self.fine, difference))

    def combine(
        self, difference: Float[Tensor, "b t c h w"], fine: Float[Tensor, "b t c h w"]
    ) -> Float[Tensor, "b t c2 h w"]:
        """Excitation of one direction, given what `fine` made of its difference."""
        coarse = per_frame(self._at_half_size, difference)
        return per_frame(self.expand, (difference + coarse + fine) / 3).sigmoid() - 0.5

    def _at_half_size(self, frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return F.interpolate(self.coarse(_halve(frames)), size=frames.shape[-2:])

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the output as motion."""
        return output_as_motion(self)


def _halve(frames: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Average 2 x 2 pixels; an odd last row or column is left out unless it is the only one."""
    return F.avg_pool2d(frames, kernel_size=2, ceil_mode=min(known_shape(frames)[-2:]) < 2)


def bidirectional_difference(*, channels: int) -> BidirectionalDifference:
    """What TDN counts as motion, on the channels of a gate."""
    return BidirectionalDifference(channels=channels, num_outputs=channels)


class LongTermDifference(AnyMemoryFormat):
    """TDN's long-term module: weigh every value by what changes there, between 1/2 and 3/2.

    Args:
        channels: Channels of the clips.
        reduction: How many times fewer channels differences are taken in.
    """

    difference = BidirectionalDifference  # causal.py has another

    def __init__(self, *, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = narrow_width(channels, reduction=reduction)
        self.squeeze = convolve_and_norm(channels, width)
        self.motion = self.difference(channels=width, num_outputs=channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Raise what moves."""
        return torch.addcmul(clips, clips, self.motion(per_frame(self.squeeze, clips)))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the factor on the input."""
        factor = ShownMap(
            module=self.motion,
            read=lambda inputs, output: 1 + output[0],
            label="gate, in (1/2, 3/2)",
        )
        return {"gate": factor}


class ShortTermStem(AnyMemoryFormat):
    """Add to each picture what a 7x7 convolution sees in the four differences around it.

    Args:
        channels: Channels of the pictures, at most 4.

    Raises:
        ValueError: More channels than a picture has: the site lies too deep.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        if channels > 4:
            raise UsageError(
                f"{channels = }; tdn_stem looks at pictures, before the first convolution: give "
                "where='conv1' (or that convolution's name in your network)"
            )
        self.look = convolve_and_norm(4 * channels, channels, size=7)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Supply every picture with the motion around it."""
        return clips + per_frame(self._see, self._differences(clips))

    def _differences(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c4 h w"]:
        first, last = clips[:, :1], clips[:, -1:]
        steps = torch.cat([first, first, clips, last, last], dim=1).diff(dim=1)
        windows = steps.unfold(1, 4, 1)
        return rearrange(windows, "b t c h w place -> b t (place c) h w")

    def _see(self, frames: Float[Tensor, "n c4 h w"]) -> Float[Tensor, "n c h w"]:
        return F.interpolate(self.look(_halve(frames)), size=frames.shape[-2:])
