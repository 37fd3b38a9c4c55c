"""Causal variants of temporal modules: they look at past frames only.

The output of a frame depends on that frame and earlier frames, so a network of these modules can
process a video frame by frame (`motionaware.models.streaming`). Names, weights and options are
those of the ordinary modules. The differences are:

    motion     m_t = norm(x_t) - norm(x_{t-1})       the ordinary motion, one frame later
    attention  frame t over frames t - T + 1 ... t   T = `num_frames`, the frames of a clip
    tsm        x_{t-1} of the first 1/8 of the channels, x_t of the rest
    tea        m_t = align(n_t) - n_{t-1}            one frame later, zero in the first frame
    tdn        y = x + x * e(d')                     d' = align(n_{t-1}) - n_t alone

Source   See the file of each mechanism. TSM's authors have an online model: Lin, Gan, Han, 2019,
         https://arxiv.org/abs/1811.08383
Kept     As in TSM's online model, the first eighth of the channels is shifted. In the ordinary
         shift these channels look ahead.

Clips may have any number of frames, also more than T.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.attention import normalize_frames
from motionaware.ops.layout import per_frame
from motionaware.temporal.causal_state import Delay, GatherFromPast
from motionaware.temporal.m2a import MotionAttention
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion
from motionaware.temporal.tdn import BidirectionalDifference, LongTermDifference
from motionaware.temporal.tea import AlignedDifference, MotionExcitation
from motionaware.temporal.tsm import FOLD, TemporalShift


class PastDifference(nn.Module):
    """Motion as this frame minus the previous one.

    Args:
        last: Motion of the first frame, with the names of `TemporalDifference`: `neg` puts zeros
            before it, so that its motion is the frame itself; `zero` makes its motion zero.

    Raises:
        UsageError: `last` has another value.
    """

    compares_places = False

    def __init__(self, *, last: str = "neg") -> None:
        super().__init__()
        if last not in ("neg", "zero"):
            raise UsageError(f"{last = }; choose 'neg' or 'zero'")
        self.last = last
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the motion of each frame."""
        return clips - self.previous(clips, None if self.last == "neg" else clips[:, :1])

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Return the maps that `visualize` can show: the output, as motion."""
        return output_as_motion(self)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"last={self.last!r}"


class PastMotionAttention(MotionAttention):
    """`MotionAttention` in which each frame attends to itself and earlier frames only.

    Args:
        motion: See `MotionAttention`.
        num_frames: Number of frames that a frame attends to, itself included.
        heads, temperature, cosine, skip, channels: See `MotionAttention`.

    Raises:
        UsageError: See `MotionAttention`.
    """

    def __init__(
        self,
        motion: nn.Module | None = None,
        *,
        num_frames: int,
        heads: int = 1,
        temperature: float = 1.0,
        cosine: bool = False,
        skip: bool = True,
        channels: int | None = None,
    ) -> None:
        super().__init__(
            motion,
            heads=heads,
            temperature=temperature,
            cosine=cosine,
            skip=skip,
            channels=channels,
        )
        self.gather = GatherFromPast(
            window=num_frames, heads=heads, temperature=temperature, cosine=cosine
        )

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add attended motion to the clips."""
        gathered = self.gather(self.motion(normalize_frames(clips)))
        return clips + gathered if self.skip else gathered

    def head_maps(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t2"]:
        """Return the attention map of each head, which is zero above the diagonal."""
        return self.gather.weights(self.motion(normalize_frames(clips)))


class PastShift(TemporalShift):
    """Replace `channels // fold` channels by those of the previous frame. No parameters."""

    def __init__(self, *, channels: int, fold: int = FOLD) -> None:
        super().__init__(channels=channels, fold=fold)
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Shift channels from each frame to the next."""
        shifted, rest = clips.tensor_split([self.num_channels], dim=2)
        return torch.cat([self.previous(shifted), rest], dim=2)

    def extra_repr(self) -> str:
        """Show how many channels are shifted."""
        return f"{self.num_channels} channels from the past"


class PastAlignedDifference(AlignedDifference):
    """Motion as this frame, aligned, minus the previous one; zero in the first frame."""

    def __init__(self, *, channels: int) -> None:
        super().__init__(channels=channels)
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the motion of each frame."""
        aligned = per_frame(self.align, clips)
        return aligned - self.previous(clips, aligned[:, :1])


class PastMotionExcitation(MotionExcitation):
    """TEA's motion excitation with the motion since the previous frame."""

    difference = PastAlignedDifference


class BackwardDifference(BidirectionalDifference):
    """Excitation by the difference to the previous frame, in (-1/2, 1/2)."""

    def __init__(self, *, channels: int, num_outputs: int) -> None:
        super().__init__(channels=channels, num_outputs=num_outputs)
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c2 h w"]:
        """Return the excitation of the backward direction."""
        aligned = per_frame(self.align, clips)
        return self.excite(self.previous(aligned, clips[:, :1]) - clips)


def backward_difference(*, channels: int) -> BackwardDifference:
    """Return the motion module of causal TDN on the channels of a gate."""
    return BackwardDifference(channels=channels, num_outputs=channels)


class PastLongTermDifference(LongTermDifference):
    """TDN's long-term module with its backward direction only."""

    difference = BackwardDifference
