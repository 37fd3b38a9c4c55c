"""Modules that look at past frames, and the state that they keep between single frames.

Each module has two methods that give the same numbers: `forward` on a clip, and `step` on one frame
and the state of the frames before. All other layers of a causal temporal module act on each frame
independently and need no `step`.

A state (`Memory`) is a dict of tensors. Their first axis is the stream. An empty dict, or zeros in
the row of a stream, mean that there was no frame before.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.causal import delay, gather_from_past, past_attention_map

Memory = dict[str, Tensor]


@runtime_checkable
class Steps(Protocol):
    """A module that can process one frame at a time."""

    def step(self, memory: Memory, /, *frames: Tensor | None) -> tuple[Tensor, Memory]:
        """Return the output and the new state for the arguments of `forward` of one frame."""
        ...


class Delay(nn.Module):
    """Return the frame before each frame."""

    compares_places = False

    def forward(
        self,
        clips: Float[Tensor, "b t c h w"],
        first: Float[Tensor, "b 1 c h w"] | None = None,
    ) -> Float[Tensor, "b t c h w"]:
        """Shift a clip by one frame.

        Args:
            clips: The frames.
            first: The frame before the first one; zeros if None.
        """
        return delay(clips, torch.zeros_like(clips[:, :1]) if first is None else first)

    def step(
        self,
        memory: Memory,
        frames: Float[Tensor, "b 1 c h w"],
        first: Float[Tensor, "b 1 c h w"] | None = None,
    ) -> tuple[Float[Tensor, "b 1 c h w"], Memory]:
        """Return the frame before, and this frame as the new state."""
        after = {"frame": frames.clone(), "any": torch.ones_like(frames[:, :, :1, :1, :1])}
        if not memory:
            return (torch.zeros_like(frames) if first is None else first), after
        if first is None:
            return memory["frame"], after
        return torch.where(memory["any"] > 0, memory["frame"], first), after


class GatherFromPast(nn.Module):
    """Return for each frame the sum of itself and earlier frames, weighted by their similarity.

    Args:
        window: Number of frames that a frame attends to, itself included.
        heads: See `MotionAttention`, as `temperature` and `cosine`.
        temperature: Divides the logits.
        cosine: Compare by cosine similarity.
    """

    compares_places = False

    def __init__(self, *, window: int, heads: int, temperature: float, cosine: bool) -> None:
        super().__init__()
        self.window = window
        self.heads = heads
        self.temperature = temperature
        self.cosine = cosine

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Attend in a clip of any number of frames."""
        return gather_from_past(clips, self.weights(clips))

    def weights(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t"]:
        """Return how much each frame (row) attends to each frame (column)."""
        return self._weights(clips, num_new=clips.shape[1], num_seen=None)

    def step(
        self, memory: Memory, frames: Float[Tensor, "b 1 c h w"]
    ) -> tuple[Float[Tensor, "b 1 c h w"], Memory]:
        """Attend for one frame; the new state holds the last `window - 1` frames."""
        if not memory:
            past = frames.expand(-1, self.window - 1, -1, -1, -1)
            num_seen = torch.zeros(len(frames), dtype=torch.int64, device=frames.device)
            memory = {"frames": torch.zeros_like(past), "num_seen": num_seen}
        visible = torch.cat([memory["frames"], frames], dim=1)
        weights = self._weights(visible, num_new=1, num_seen=memory["num_seen"])
        after = {
            "frames": visible[:, 1:],
            "num_seen": (memory["num_seen"] + 1).clamp(max=self.window - 1),
        }
        return gather_from_past(visible, weights), after

    def _weights(
        self, clips: Float[Tensor, "b s c h w"], *, num_new: int, num_seen: Tensor | None
    ) -> Float[Tensor, "b heads t s"]:
        return past_attention_map(
            clips,
            window=self.window,
            num_new=num_new,
            num_seen=num_seen,
            heads=self.heads,
            temperature=self.temperature,
            cosine=self.cosine,
        )

    def extra_repr(self) -> str:
        """Show the window."""
        return f"window={self.window}"
