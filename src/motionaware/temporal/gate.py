"""Gate: run a mechanism on few channels and let it weigh the input.

    y = x + x * sigmoid(up(inner(down(x))))

Source   The block around every mechanism of Motion Aware Attention, https://arxiv.org/abs/2111.09976
Kept     The factor on x lies in (1, 2) and is about 1.5 at the start. (reference code)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.layout import per_frame


def narrow_width(channels: int, *, reduction: int) -> int:
    """Channels inside a gate: `channels / reduction`, rounded down, at least one.

    Raises:
        ValueError: `reduction` is below 1.
    """
    if reduction < 1:
        raise ValueError(f"{reduction = }; it divides the channels and starts at 1")
    return max(channels // reduction, 1)


class Gate(nn.Module):
    """Run `inner` on few channels and let it say how much of `x` to add to `x`.

    Args:
        inner: Clip -> clip of the same shape, on `narrow_width(channels, reduction=reduction)`
            channels.
        channels: Channels of the clips that pass the gate.
        reduction: How many times fewer channels `inner` works on.
    """

    def __init__(self, inner: nn.Module, *, channels: int, reduction: int = 8) -> None:
        super().__init__()
        width = narrow_width(channels, reduction=reduction)
        self.down = nn.Conv2d(channels, width, kernel_size=1)
        self.inner = inner
        self.up = nn.Conv2d(width, channels, kernel_size=1)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Weigh every value of the clips by a factor between 1 and 2."""
        narrow = self.inner(per_frame(self.down, clips))
        gate = per_frame(self.up, narrow).sigmoid()
        return torch.addcmul(clips, clips, gate)  # one pass instead of two over the widest tensor
