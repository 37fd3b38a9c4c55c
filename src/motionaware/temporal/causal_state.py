"""What looks back along time, and what it remembers when frames come one by one.

Each module here acts in two ways that agree: `forward` on a clip, and `step` on one frame and what
it remembers of the frames before. All else in a causal temporal module acts on each frame alone and
needs no `step`: these are the only places where frames meet.

A memory is a dict of tensors whose first axis is that of the streams. An empty one, and zeros in
the row of a stream, both say that nothing came before.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.ops.causal import delay, gather_from_past, past_attention_map

Memory = dict[str, Tensor]


@runtime_checkable
class Steps(Protocol):
    """A module that can be fed one frame at a time."""

    def step(self, memory: Memory, /, *frames: Tensor | None) -> tuple[Tensor, Memory]:
        """Take what `forward` takes, of one frame; give its output, and the memory after it."""
        ...


class Delay(nn.Module):
    """Give each frame's predecessor."""

    compares_places = False

    def forward(
        self,
        clips: Float[Tensor, "b t c h w"],
        first: Float[Tensor, "b 1 c h w"] | None = None,
    ) -> Float[Tensor, "b t c h w"]:
        """Shift a clip by one frame.

        Args:
            clips: The frames.
            first: What comes before the first of them; zeros if None.
        """
        return delay(clips, torch.zeros_like(clips[:, :1]) if first is None else first)

    def step(
        self,
        memory: Memory,
        frames: Float[Tensor, "b 1 c h w"],
        first: Float[Tensor, "b 1 c h w"] | None = None,
    ) -> tuple[Float[Tensor, "b 1 c h w"], Memory]:
        """Give the frame that came before; remember this one."""
        after = {"frame": frames.clone(), "any": torch.ones_like(frames[:, :, :1, :1, :1])}
        if not memory:
            return (torch.zeros_like(frames) if first is None else first), after
        if first is None:
            return memory["frame"], after
        return torch.where(memory["any"] > 0, memory["frame"], first), after


class GatherFromPast(nn.Module):
    """Let each frame gather from itself and the frames before it that look like it.

    Args:
        window: Frames that one frame can see, itself included.
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
        """Gather in a clip of any number of frames."""
        return gather_from_past(clips, self.weights(clips))

    def weights(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b heads t t"]:
        """How much each frame (row) gathers from each frame (column)."""
        return self._weights(clips, num_new=clips.shape[1], num_seen=None)

    def step(
        self, memory: Memory, frames: Float[Tensor, "b 1 c h w"]
    ) -> tuple[Float[Tensor, "b 1 c h w"], Memory]:
        """Gather for one frame; remember the last `window - 1` frames."""
        if not memory:
            past = frames.expand(-1, self.window - 1, -1, -1, -1)
            num_seen = torch.zeros(len(frames), dtype=torch.int64, device=frames.device)
            memory = {"frames": torch.zeros_like(past), "num_seen": num_seen}
        seen = torch.cat([memory["frames"], frames], dim=1)
        weights = self._weights(seen, num_new=1, num_seen=memory["num_seen"])
        after = {
            "frames": seen[:, 1:],
            "num_seen": (memory["num_seen"] + 1).clamp(max=self.window - 1),
        }
        return gather_from_past(seen, weights), after

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
        """Say how far back it sees."""
        return f"window={self.window}"
