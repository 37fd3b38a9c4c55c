"""Motion Aware Attention (M2A): attend over time where the picture moves.

    m = diff(norm(x))                    next frame minus this one
    y = x + softmax(m m^T / sqrt(chw)) m every frame gathers from the frames that move like it

Source   Gebotys, Wong, Clausi, 2021, https://arxiv.org/abs/2111.09976
Kept     The last frame has no successor: zeros stand in, its motion is -norm(x). (their code)
Kept     The logits grow with sqrt(chw), so attention saturates toward the diagonal. (their code)
Changed  Nothing is stored on the module: a hook may recompute the map with `attention_map`.
Changed  Computed in closed form on t x t matrices, see ops/attention.py; as written above where a
         compiler, exporter or hook looks on, and for several heads, both directions or any other
         motion.
Added    Options, all as in the paper by default: `last`, `both_directions`, `heads`, `temperature`,
         `cosine`, `skip`.

The two halves also stand alone, for the paper's ablations: `TemporalDifference` is motion only, and
`MotionAttention()` is attention only. Another motion may take the first one's place. `MotionSkip`
is the control that attends to nothing but itself: what the attention adds is measured against it.
"""

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.attention import (
    Motion,
    add_attended_motion,
    check_heads,
    gather_over_time,
    normalize_frames,
    time_attention_map,
)
from motionaware.ops.autograd_utils import is_traced
from motionaware.ops.motion import Last, temporal_difference, two_way_difference
from motionaware.temporal.layers import is_untouched
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion


class TemporalDifference(nn.Module):
    """Motion as the next frame minus this one.

    Args:
        last: What follows the last frame, `neg` or `zero`; see `temporal_difference`.
        both_directions: Half of the channels carry what changed since the previous frame instead;
            see `two_way_difference`.

    Raises:
        ValueError: `last` is neither.
    """

    compares_places = False

    def __init__(self, *, last: str = "neg", both_directions: bool = False) -> None:
        super().__init__()
        if last not in ("neg", "zero"):
            raise UsageError(f"{last = }; choose 'neg' or 'zero'")
        self.last: Last = last
        self.both_directions = both_directions

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Turn frames into motion."""
        if self.both_directions:
            return two_way_difference(clips, last=self.last)
        return temporal_difference(clips, last=self.last)

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the output as motion."""
        return output_as_motion(self)

    def extra_repr(self) -> str:
        """Say what follows the last frame, and which way it looks."""
        return f"last={self.last!r}, both_directions={self.both_directions}"


class MotionAttention(nn.Module):
    """Let every frame gather from the frames that move like it, and add what it gathers.

    Args:
        motion: Clip -> clip of the same shape: what counts as motion; the frames themselves if
            None.
        heads: Equal groups of channels that attend on their own.
        temperature: Divides the logits; see `time_attention_map`.
        cosine: Compare motions by cosine similarity, whatever the size of a frame.
        skip: Add what is gathered to the frame; false gives what is gathered alone. Where a frame
            attends to itself alone and is near its own norm, frame and motion add up to the next
            frame, and the difference is lost.
        channels: Of the clips, where they are known: heads that do not fit are then refused now
            and not when the first clips come.

    Raises:
        ValueError: No heads, heads that do not fit, or no temperature above zero.
    """

    compares_places = False

    def __init__(
        self,
        motion: nn.Module | None = None,
        *,
        heads: int = 1,
        temperature: float = 1.0,
        cosine: bool = False,
        skip: bool = True,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise UsageError(f"{heads = }; they share the channels and start at 1")
        if channels is not None:
            check_heads(heads, channels=channels)
        if temperature <= 0:
            raise UsageError(f"{temperature = }; it divides the logits and lies above 0")
        self.motion = nn.Identity() if motion is None else motion
        self.heads = heads
        self.temperature = temperature
        self.cosine = cosine
        self.skip = skip

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add attended motion to the clips.

        Raises:
            ValueError: The heads do not share the channels evenly.
        """
        what = None if self.heads > 1 or is_traced() else self._what()
        if what is None:
            motion = self.motion(normalize_frames(clips))
            gathered = gather_over_time(motion, self._weights(motion))
            return clips + gathered if self.skip else gathered
        return add_attended_motion(
            clips, what=what, temperature=self.temperature, cosine=self.cosine, skip=self.skip
        )

    def attention_map(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t t2"]:
        """How much each frame (row) attends to each frame (column), for the same input.

        With several heads their mean, whose rows sum to 1 as well.
        """
        return self.head_maps(clips).mean(dim=1)

    def head_maps(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t2"]:
        """The same of each head."""
        return self._weights(self.motion(normalize_frames(clips)))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the attention map."""
        attention = ShownMap(
            module=self, read=lambda inputs, output: self.attention_map(inputs[0])[0]
        )
        return {"attention": attention}

    def _what(self) -> Motion | None:
        """Return what counts as motion; None if it has no closed form or must be called."""
        if is_untouched(self.motion, TemporalDifference):
            assert isinstance(self.motion, TemporalDifference)
            return None if self.motion.both_directions else self.motion.last
        return "frames" if is_untouched(self.motion, nn.Identity) else None

    def _weights(self, motion: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t2"]:
        return time_attention_map(
            motion, heads=self.heads, temperature=self.temperature, cosine=self.cosine
        )

    def extra_repr(self) -> str:
        """Say how motions are compared, and whether what is gathered is added."""
        return (
            f"heads={self.heads}, temperature={self.temperature}, cosine={self.cosine}, "
            f"skip={self.skip}"
        )


class MotionSkip(nn.Module):
    """Add every frame's own motion, `y = x + m`: `MotionAttention` with the identity for its map.

    Args:
        motion: Clip -> clip of the same shape: what counts as motion.
    """

    compares_places = False

    def __init__(self, motion: nn.Module) -> None:
        super().__init__()
        self.motion = motion

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add motion to the clips."""
        return clips + self.motion(normalize_frames(clips))
