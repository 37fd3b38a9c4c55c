"""Motion Aware Attention (M2A): attention over time between the motions of the frames.

    m = diff(norm(x))                    next frame minus this one
    y = x + softmax(m m^T / sqrt(chw)) m each frame adds the motions that are similar to its own

Source   Gebotys, Wong, Clausi, 2021, https://arxiv.org/abs/2111.09976
Kept     The last frame has no successor. It is subtracted from zeros, so its motion is -norm(x).
         (their code)
Kept     The logits grow with sqrt(chw), so attention saturates toward the diagonal. (their code)
Changed  The module does not store the map. A hook may compute it again with `attention_map`.
Changed  Computed in closed form on t x t matrices, see ops/attention.py. The formula above is used
         under a compiler, exporter or hook, with several heads, both directions or another motion.
Added    Options, all as in the paper by default: `last`, `both_directions`, `heads`, `temperature`,
         `cosine`, `skip`.

For the paper's ablations each half is a module: `TemporalDifference` is motion only, and
`MotionAttention()` is attention only. Another motion module may replace `TemporalDifference`.
`MotionSkip` is the control without attention: the map is the identity.
"""

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.attention import (
    MotionKind,
    add_attended_motion,
    check_heads,
    gather_over_time,
    normalize_frames,
    time_attention_map,
)
from motionaware.ops.autograd_utils import can_use_fast_paths
from motionaware.ops.motion import Last, temporal_difference, two_way_difference
from motionaware.temporal.layer_checks import is_untouched
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion


class TemporalDifference(nn.Module):
    """Motion as the next frame minus this one.

    Args:
        last: Motion of the last frame, `neg` or `zero`; see `temporal_difference`.
        both_directions: Half of the channels hold the difference to the previous frame instead;
            see `two_way_difference`.

    Raises:
        UsageError: `last` has another value.
    """

    compares_places = False

    def __init__(self, *, last: str = "neg", both_directions: bool = False) -> None:
        super().__init__()
        if last not in ("neg", "zero"):
            raise UsageError(f"{last = }; choose 'neg' or 'zero'")
        self.last: Last = last
        self.both_directions = both_directions

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the motion of each frame."""
        if self.both_directions:
            return two_way_difference(clips, last=self.last)
        return temporal_difference(clips, last=self.last)

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Return the maps that `visualize` can show: the output, as motion."""
        return output_as_motion(self)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"last={self.last!r}, both_directions={self.both_directions}"


class MotionAttention(nn.Module):
    """Add to each frame the motions of all frames, weighted by how similar they are to its motion.

    Args:
        motion: Module from normalised clips to their motion, of the same shape; None takes the
            normalised frames themselves.
        heads: Number of equal groups of channels, each with its own attention map.
        temperature: Divides the logits; see `time_attention_map`.
        cosine: Compare motions by cosine similarity, which does not depend on the frame size.
        skip: Add the clips; False returns the weighted sum alone. A frame that is close to its
            norm and attends to itself only adds up with its motion to the next frame: then the
            difference is lost.
        channels: Channels of the clips, to check `heads` now; None checks them in `forward`.

    Raises:
        UsageError: `heads` is below 1 or does not divide `channels`, or `temperature` is not
            above 0.
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
            raise UsageError(f"{heads = }; it divides the channels and must be at least 1")
        if channels is not None:
            check_heads(heads, channels=channels)
        if temperature <= 0:
            raise UsageError(f"{temperature = }; it divides the logits and must be above 0")
        self.motion = nn.Identity() if motion is None else motion
        self.heads = heads
        self.temperature = temperature
        self.cosine = cosine
        self.skip = skip

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add attended motion to the clips.

        Raises:
            UsageError: The heads do not divide the channels evenly.
        """
        kind = None
        if self.heads == 1 and can_use_fast_paths():
            kind = self._kind_of_motion()
        if kind is None:
            motion = self.motion(normalize_frames(clips))
            gathered = gather_over_time(motion, self._weights(motion))
            return clips + gathered if self.skip else gathered
        return add_attended_motion(
            clips, kind=kind, temperature=self.temperature, cosine=self.cosine, skip=self.skip
        )

    def attention_map(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t t2"]:
        """Return how much each frame (row) attends to each frame (column).

        Rows sum to 1. With several heads it is the mean of their maps.

        Args:
            clips: Input of `forward`.
        """
        return self.head_maps(clips).mean(dim=1)

    def head_maps(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t2"]:
        """Return the map of each head; see `attention_map`."""
        return self._weights(self.motion(normalize_frames(clips)))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Return the maps that `visualize` can show: the attention."""
        attention = ShownMap(
            module=self, read=lambda inputs, output: self.attention_map(inputs[0])[0]
        )
        return {"attention": attention}

    def _kind_of_motion(self) -> MotionKind | None:
        """Return the kind of motion; None if it has no closed form or the module must be called."""
        if is_untouched(self.motion, TemporalDifference):
            assert isinstance(self.motion, TemporalDifference)
            return None if self.motion.both_directions else self.motion.last
        return "frames" if is_untouched(self.motion, nn.Identity) else None

    def _weights(self, motion: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t2"]:
        return time_attention_map(
            motion, heads=self.heads, temperature=self.temperature, cosine=self.cosine
        )

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"heads={self.heads}, temperature={self.temperature}, cosine={self.cosine}, "
            f"skip={self.skip}"
        )


class MotionSkip(nn.Module):
    """Add to each frame its motion, `y = x + m`: `MotionAttention` with the identity as its map.

    Args:
        motion: Module from normalised clips to their motion, of the same shape.
    """

    compares_places = False

    def __init__(self, motion: nn.Module) -> None:
        super().__init__()
        self.motion = motion

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add motion to the clips."""
        return clips + self.motion(normalize_frames(clips))
