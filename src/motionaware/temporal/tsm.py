"""Temporal Shift Module (TSM): let some channels travel to the neighbouring frames.

    y = [x_{t+1} of the first 1/8 of the channels, x_{t-1} of the second 1/8, x_t of the rest]

Source   Lin, Gan, Han, 2019, https://arxiv.org/abs/1811.08383
Kept     The first part looks ahead, the second back; zeros enter at both ends. (authors' code)
Changed  Written with `cat` instead of slice assignment: the same numbers, and exporters follow it.
"""

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.motion import shift_channels

FOLD = 8  # one part in so many travels


class TemporalShift(nn.Module):
    """Shift `channels // fold` channels each way along time. No parameters.

    Raises:
        ValueError: So few channels that none would travel.
    """

    compares_places = False

    def __init__(self, *, channels: int, fold: int = FOLD) -> None:
        super().__init__()
        if not 2 <= fold <= channels:
            raise UsageError(
                f"{fold = } with {channels} channels; tsm shifts channels // fold of them each way "
                "and needs 2 <= fold <= channels"
            )
        self.num_channels = channels // fold

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Mix neighbouring frames by moving channels."""
        return shift_channels(clips, num_channels=self.num_channels)

    def extra_repr(self) -> str:
        """Say how many channels travel."""
        return f"{self.num_channels} channels each way"
