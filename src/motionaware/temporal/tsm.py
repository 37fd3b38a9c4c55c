"""Temporal Shift Module (TSM): shift some channels to the neighbouring frames.

    y = [x_{t+1} of the first 1/8 of the channels, x_{t-1} of the second 1/8, x_t of the rest]

Source   Lin, Gan, Han, 2019, https://arxiv.org/abs/1811.08383
Kept     The first part takes the next frame, the second the previous one; zeros enter at both ends.
         (authors' code)
Changed  Written with `cat` instead of slice assignment: the same numbers, and it can be exported.
"""

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.motion import shift_channels

FOLD = 8  # 1/8 of the channels is shifted in each direction


class TemporalShift(nn.Module):
    """Shift `channels // fold` channels in each direction of time. No parameters.

    Raises:
        UsageError: `fold` is below 2, or above `channels`, so that no channel is shifted.
    """

    compares_places = False

    def __init__(self, *, channels: int, fold: int = FOLD) -> None:
        super().__init__()
        if not 2 <= fold <= channels:
            raise UsageError(
                f"{fold = } with {channels} channels; tsm shifts channels // fold of them in each "
                "direction and needs 2 <= fold <= channels"
            )
        self.num_channels = channels // fold

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Shift channels between neighbouring frames."""
        return shift_channels(clips, num_channels=self.num_channels)

    def extra_repr(self) -> str:
        """Show how many channels are shifted."""
        return f"{self.num_channels} channels each way"
