"""Differences, shifts and convolutions along time."""

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
    """Return the next frame minus this one.

    The last frame has no successor. With `neg` it is subtracted from zeros, so that the last motion
    is minus the last frame (the M2A authors' code); with `zero` the last motion is zero.

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
    """Return differences in two halves of the channels: next minus this, and this minus previous.

    Both differences point forward in time. (The sum of next minus this and previous minus this
    would be the same for a clip and its reverse, and lose the direction of time.) `last` sets the
    motion at both ends. With an odd number of channels the first half is larger.

    >>> clip = torch.tensor([[1.0, 1.0], [4.0, 4.0], [9.0, 9.0]]).reshape(1, 3, 2, 1, 1)
    >>> two_way_difference(clip).flatten(2).tolist()
    [[[3.0, 1.0], [5.0, 3.0], [-9.0, 5.0]]]
    >>> two_way_difference(clip, last="zero").flatten(2).tolist()
    [[[3.0, 0.0], [5.0, 3.0], [0.0, 5.0]]]
    """
    half = (clips.shape[2] + 1) // 2
    first_half, second_half = clips[:, :, :half], clips[:, :, half:]
    first = second_half[:, :1]
    before = torch.zeros_like(first) if last == "neg" else first
    backward = second_half - torch.cat([before, second_half[:, :-1]], dim=1)
    return torch.cat([temporal_difference(first_half, last=last), backward], dim=2)


def aligned_difference(
    clips: Float[Tensor, "b t c h w"],
    aligned: Float[Tensor, "b t c h w"],
    *,
    toward: Literal["next", "previous"] = "next",
) -> Float[Tensor, "b t c h w"]:
    """Return the next (or previous) frame of `aligned` minus this frame of `clips`.

    Zero where there is no such frame. `aligned` is a convolution of the same clips, which can
    compensate small displacements before the subtraction (STM, TEA, TDN, ACTION-Net).

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
    """Convolve over time with one kernel per clip and channel, padded with zeros.

    `k` is odd. The middle of a kernel is the weight of the frame itself, the entries before it are
    those of the frames before.

    >>> clip = torch.tensor([1.0, 4.0, 9.0]).reshape(1, 3, 1, 1, 1)
    >>> convolve_over_time(clip, torch.tensor([[[100.0, 10.0, 1.0]]])).flatten().tolist()
    [14.0, 149.0, 490.0]
    """
    num_frames, length = clips.shape[1], kernels.shape[-1]
    padded = F.pad(clips, (0, 0, 0, 0, 0, 0, length // 2, length // 2))
    taps = rearrange(kernels, "b c k -> k b 1 c 1 1")
    output = padded[:, :num_frames] * taps[0]
    for offset in range(1, length):
        output = output + padded[:, offset : offset + num_frames] * taps[offset]
    return output


def shift_channels(
    clips: Float[Tensor, "b t c h w"], *, num_channels: int
) -> Float[Tensor, "b t c h w"]:
    """Shift channels by one frame along time.

    The first `num_channels` channels take the next frame's values, the second `num_channels` the
    previous frame's, the rest do not change. Zeros enter at the ends. Written with `cat`, so that
    it can be exported.

    >>> clip = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]).reshape(1, 2, 3, 1, 1)
    >>> shift_channels(clip, num_channels=1).flatten(2).tolist()
    [[[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]]]
    """
    ahead = clips[:, :, :num_channels]
    back = clips[:, :, num_channels : 2 * num_channels]
    rest = clips[:, :, 2 * num_channels :]
    zeros = torch.zeros_like(ahead[:, :1])
    return torch.cat(
        [
            torch.cat([ahead[:, 1:], zeros], dim=1),
            torch.cat([zeros, back[:, :-1]], dim=1),
            rest,
        ],
        dim=2,
    )
