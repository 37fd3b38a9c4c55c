"""Causal variants: the same mechanisms, looking backwards only.

A frame's output depends on that frame and frames before it, never on one still to come, so that a
network of such modules can be fed frame by frame (`motionaware.models.streaming`). Names, weights
and options are those of the ordinary modules; only where they look differs:

    motion     m_t = norm(x_t) - norm(x_{t-1})       the ordinary motion, one frame later
    attention  frame t over frames t - T + 1 ... t   T = `num_frames`, the frames of a clip
    tsm        x_{t-1} of the first 1/8 of the channels, x_t of the rest
    tea        m_t = align(n_t) - n_{t-1}            one frame later, zero in the first frame
    tdn        y = x + x * e(d')                     d' = align(n_{t-1}) - n_t alone

Source   The mechanisms: see their own files. TSM has an online model by its authors: Lin, Gan,
         Han, 2019, https://arxiv.org/abs/1811.08383
Kept     There as here the first eighth travels, of which the ordinary shift looks ahead.

Clips may have any number of frames, more than T too.
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
        last: What the first frame is compared with, named as in `TemporalDifference`: `neg` puts
            zeros before it, so that its motion is the frame itself; `zero` gives it no motion.

    Raises:
        ValueError: `last` is neither.
    """

    compares_places = False

    def __init__(self, *, last: str = "neg") -> None:
        super().__init__()
        if last not in ("neg", "zero"):
            raise UsageError(f"{last = }; choose 'neg' or 'zero'")
        self.last = last
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Turn frames into motion."""
        return clips - self.previous(clips, None if self.last == "neg" else clips[:, :1])

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the output as motion."""
        return output_as_motion(self)

    def extra_repr(self) -> str:
        """Say what comes before the first frame."""
        return f"last={self.last!r}"


class PastMotionAttention(MotionAttention):
    """`MotionAttention` in which no frame sees the frames after it.

    Args:
        motion: Clip -> clip of the same shape: what counts as motion; the frames themselves if
            None.
        num_frames: Frames that one frame can see, itself included.
        heads, temperature, cosine, skip, channels: See `MotionAttention`.

    Raises:
        ValueError: As of `MotionAttention`.
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
        """How much each frame (row) attends to each frame (column); zero above the diagonal."""
        return self.gather.weights(self.motion(normalize_frames(clips)))


class PastShift(TemporalShift):
    """Let `channels // fold` channels show the previous frame. No parameters."""

    def __init__(self, *, channels: int, fold: int = FOLD) -> None:
        super().__init__(channels=channels, fold=fold)
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Mix every frame with the one before."""
        travelling, rest = clips.tensor_split([self.num_channels], dim=2)
        return torch.cat([self.previous(travelling), rest], dim=2)

    def extra_repr(self) -> str:
        """Say how many channels travel."""
        return f"{self.num_channels} channels from the past"


class PastAlignedDifference(AlignedDifference):
    """Motion as this frame, aligned, minus the previous one; zero in the first frame."""

    def __init__(self, *, channels: int) -> None:
        super().__init__(channels=channels)
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Turn frames into motion."""
        aligned = per_frame(self.align, clips)
        return aligned - self.previous(clips, aligned[:, :1])


class PastMotionExcitation(MotionExcitation):
    """TEA's motion excitation, by the motion since the previous frame."""

    difference = PastAlignedDifference


class BackwardDifference(BidirectionalDifference):
    """What changed since the previous frame, as numbers between -1/2 and 1/2."""

    def __init__(self, *, channels: int, num_outputs: int) -> None:
        super().__init__(channels=channels, num_outputs=num_outputs)
        self.previous = Delay()

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c2 h w"]:
        """Excite by the backward direction."""
        aligned = per_frame(self.align, clips)
        return self.excite(self.previous(aligned, clips[:, :1]) - clips)


def backward_difference(*, channels: int) -> BackwardDifference:
    """What causal TDN counts as motion, on the channels of a gate."""
    return BackwardDifference(channels=channels, num_outputs=channels)


class PastLongTermDifference(LongTermDifference):
    """TDN's long-term module, with its backward direction alone."""

    difference = BackwardDifference
