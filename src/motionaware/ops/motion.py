"""Motion along time: what changed from one frame to the next, and channels that travel."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Last = Literal["neg", "zero"]


def temporal_difference(
    clips: Float[Tensor, "b t c h w"], *, last: Last = "neg"
) -> Float[Tensor, "b t c h w"]:
    """Next frame minus this one.

    The last frame has no successor: with `neg` zeros stand in for it, so that the last motion is
    minus the last frame (the M2A authors' code); with `zero` the last motion is zero.

    >>> clip = torch.tensor([1.0, 4.0, 9.0]).reshape(1, 3, 1, 1, 1)
    >>> temporal_difference(clip).flatten().tolist()
    [3.0, 5.0, -9.0]
    >>> temporal_difference(clip, last="zero").flatten().tolist()
    [3.0, 5.0, 0.0]
    """
    final = clips[:, -1:]
    after = torch.zeros_like(final) if last == "neg" else final
    return torch.cat([clips[:, 1:], after], dim=1) - clips


def shift_channels(
    clips: Float[Tensor, "b t c h w"], *, num_channels: int
) -> Float[Tensor, "b t c h w"]:
    """Let channels travel in time: some take the next frame's values, as many the previous one's.

    The first `num_channels` channels look one frame ahead, the second `num_channels` one frame
    back, the rest stay. Zeros enter at the ends. Written with `cat`, so that exporters follow it.

    >>> clip = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]).reshape(1, 2, 3, 1, 1)
    >>> shift_channels(clip, num_channels=1).flatten(2).tolist()
    [[[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]]]
    """
    ahead = clips[:, :, :num_channels]
    back = clips[:, :, num_channels : 2 * num_channels]
    rest = clips[:, :, 2 * num_channels :]
    nothing = torch.zeros_like(ahead[:, :1])
    return torch.cat(
        [
            torch.cat([ahead[:, 1:], nothing], dim=1),
            torch.cat([nothing, back[:, :-1]], dim=1),
            rest,
        ],
        dim=2,
    )
