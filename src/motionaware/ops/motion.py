"""Motion along time: what changed between frames, channels that travel, kernels along time."""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
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


def two_way_difference(
    clips: Float[Tensor, "b t c h w"], *, last: Last = "neg"
) -> Float[Tensor, "b t c h w"]:
    """Next frame minus this one in one half of the channels, this minus the previous in the other.

    Both point forward in time. (Next minus this plus previous minus this, the other way to look
    both ways, is the same for a clip and its reverse: it no longer tells before from after.)
    Beyond both ends it is as `last` says. Of an odd number of channels the first half is larger.

    >>> clip = torch.tensor([[1.0, 1.0], [4.0, 4.0], [9.0, 9.0]]).reshape(1, 3, 2, 1, 1)
    >>> two_way_difference(clip).flatten(2).tolist()
    [[[3.0, 1.0], [5.0, 3.0], [-9.0, 5.0]]]
    >>> two_way_difference(clip, last="zero").flatten(2).tolist()
    [[[3.0, 0.0], [5.0, 3.0], [0.0, 5.0]]]
    """
    half = (clips.shape[2] + 1) // 2
    onward, rest = clips[:, :, :half], clips[:, :, half:]
    first = rest[:, :1]
    before = torch.zeros_like(first) if last == "neg" else first
    back = rest - torch.cat([before, rest[:, :-1]], dim=1)
    return torch.cat([temporal_difference(onward, last=last), back], dim=2)


def aligned_difference(
    clips: Float[Tensor, "b t c h w"],
    aligned: Float[Tensor, "b t c h w"],
    *,
    toward: Literal["next", "previous"] = "next",
) -> Float[Tensor, "b t c h w"]:
    """The next (or previous) frame of `aligned` minus this frame of `clips`; zero if there is none.

    `aligned` is what a convolution made of the same clips: it may move things back into place
    before the difference is taken (STM, TEA, TDN, ACTION-Net).

    >>> clip = torch.tensor([1.0, 4.0, 9.0]).reshape(1, 3, 1, 1, 1)
    >>> aligned_difference(clip, 10 * clip).flatten().tolist()
    [39.0, 86.0, 0.0]
    >>> aligned_difference(clip, 10 * clip, toward="previous").flatten().tolist()
    [0.0, 6.0, 31.0]
    """
    if toward == "next":
        return F.pad(aligned[:, 1:] - clips[:, :-1], (0, 0, 0, 0, 0, 0, 0, 1))
    return F.pad(aligned[:, :-1] - clips[:, 1:], (0, 0, 0, 0, 0, 0, 1, 0))


def convolve_over_time(
    clips: Float[Tensor, "b t c h w"], kernels: Float[Tensor, "b c k"]
) -> Float[Tensor, "b t c h w"]:
    """Weigh every frame's neighbours by a kernel of each clip's channel; zeros lie beyond the ends.

    The middle of a kernel (`k` is odd) weighs the frame itself, what comes before it the frames
    before.

    >>> clip = torch.tensor([1.0, 4.0, 9.0]).reshape(1, 3, 1, 1, 1)
    >>> convolve_over_time(clip, torch.tensor([[[100.0, 10.0, 1.0]]])).flatten().tolist()
    [14.0, 149.0, 490.0]
    """
    num_frames, length = clips.shape[1], kernels.shape[-1]
    padded = F.pad(clips, (0, 0, 0, 0, 0, 0, length // 2, length // 2))
    taps = rearrange(kernels, "b c k -> k b 1 c 1 1")
    output = padded[:, :num_frames] * taps[0]
    for place in range(1, length):
        output = output + padded[:, place : place + num_frames] * taps[place]
    return output


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
