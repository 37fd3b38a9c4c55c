"""Motion Aware Attention (M2A): attend over time where the picture moves.

    m = diff(norm(x))                    next frame minus this one
    y = x + softmax(m m^T / sqrt(chw)) m every frame gathers from the frames that move like it

Source   Gebotys, Wong, Clausi, 2021, https://arxiv.org/abs/2111.09976
Kept     The last frame has no successor: zeros stand in, its motion is -norm(x). (their code)
Kept     The logits grow with sqrt(chw), so attention saturates toward the diagonal. (their code)
Changed  Nothing is stored on the module: a hook may recompute the map with `attention_map`.

The two halves also stand alone, for the paper's ablations: `TemporalDifference` is motion only, and
`MotionAttention(nn.Identity())` is attention only. Another motion may take the first one's place.
"""

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.attention import attend_over_time, normalize_frames, time_attention_map
from motionaware.ops.motion import Last, temporal_difference


class TemporalDifference(nn.Module):
    """Motion as the next frame minus this one.

    Args:
        last: What follows the last frame, `neg` or `zero`; see `temporal_difference`.

    Raises:
        ValueError: `last` is neither.
    """

    def __init__(self, *, last: str = "neg") -> None:
        super().__init__()
        if last not in ("neg", "zero"):
            raise ValueError(f"{last = }; choose 'neg' or 'zero'")
        self.last: Last = last

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Turn frames into motion."""
        return temporal_difference(clips, last=self.last)

    def extra_repr(self) -> str:
        """Say what follows the last frame."""
        return f"last={self.last!r}"


class MotionAttention(nn.Module):
    """Let every frame gather from the frames that move like it, and add what it gathers.

    Args:
        motion: Clip -> clip of the same shape: what counts as motion.
    """

    def __init__(self, motion: nn.Module) -> None:
        super().__init__()
        self.motion = motion

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add attended motion to the clips."""
        return clips + attend_over_time(self.motion(normalize_frames(clips)))

    def attention_map(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t t2"]:
        """How much each frame (row) attends to each frame (column), for the same input."""
        return time_attention_map(self.motion(normalize_frames(clips)))
