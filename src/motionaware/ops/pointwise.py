"""1x1 convolutions, and how a clip is cut for them: each in the way that is fastest where it is.

On a CPU oneDNN's convolution is the fastest for small frames, and in channels-last. Large frames
with their channels first it would lay out anew: there a product of matrices, which takes them as
they lie, is faster. So it is, in either layout, where oneDNN's gradient of a weight is slow.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

_MANY_PIXELS = 14 * 14  # of a frame; from here on products are faster, measured on an AMD Zen 5
_MANY_FRAMES = 16  # from here on torch takes oneDNN for the gradients of 1x1 convolutions
_PIECE_BYTES = 2**21  # several of this size stay in the cache


def memory_layout(frames: Float[Tensor, "n c h w"]) -> torch.memory_format:
    """Channels first or last, whichever the frames are laid out by, or are nearest to."""
    if frames.is_contiguous() or frames.stride(1) != 1:
        return torch.contiguous_format
    return torch.channels_last


def num_pieces(frames: Float[Tensor, "n c h w"]) -> int:
    """Into how many pieces along `n` to cut frames, so that what is made of one stays in cache.

    It pays for large frames; others make one piece.
    """
    if not is_large(frames):
        return 1
    return -(-frames.numel() * frames.element_size() // _PIECE_BYTES)


def convolve(
    frames: Float[Tensor, "n c h w"],
    kernel: Float[Tensor, "c2 c 1 1"],
    bias: Float[Tensor, "c2"] | None,
) -> Float[Tensor, "n c2 h w"]:
    """A 1x1 convolution of frames in one of the two layouts, which stays; not for autograd."""
    if not (is_large(frames) and frames.is_contiguous()):
        if _has_onednn(frames):
            return torch.ops.aten.mkldnn_convolution(
                frames, kernel, bias, [0, 0], [1, 1], [1, 1], 1
            )
        return F.conv2d(frames, kernel, bias)
    matrices = kernel[:, :, 0, 0].expand(len(frames), -1, -1)
    pixels = rearrange(frames, "n c h w -> n c (h w)")
    wide = matrices @ pixels if bias is None else torch.baddbmm(bias[:, None], matrices, pixels)
    return rearrange(wide, "n c (h w) -> n c h w", h=frames.shape[2])


def differentiate(
    d_output: Float[Tensor, "n c2 h w"],
    frames: Float[Tensor, "n c h w"],
    kernel: Float[Tensor, "c2 c 1 1"],
    wanted: Sequence[bool],
    *,
    add_to: Float[Tensor, "n c h w"] | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """From the gradient of a 1x1 convolution those of its frames, kernel and bias.

    Args:
        d_output: Gradient of what the convolution made.
        frames: What it was made of.
        kernel: Of the convolution.
        wanted: Which of the three; the others are None.
        add_to: Where to add that of the frames, in place.
    """
    if not is_large(frames) and (len(frames) >= _MANY_FRAMES or not _has_onednn(frames)):
        by_frames, by_kernel, by_bias = torch.ops.aten.convolution_backward(
            d_output, frames, kernel, kernel.shape[:1],
            [1, 1], [0, 0], [1, 1], False, [0, 0], 1, list(wanted),
        )  # fmt: skip
        if by_frames is not None and add_to is not None:
            by_frames = add_to.add_(by_frames)
        return by_frames, by_kernel, by_bias
    return (
        _by_frames(d_output, kernel, add_to) if wanted[0] else None,
        _by_kernel(d_output, frames, kernel) if wanted[1] else None,
        d_output.sum(dim=(0, 2, 3)) if wanted[2] else None,
    )


def is_large(frames: Float[Tensor, "n c h w"]) -> bool:
    """Whether products of matrices are a faster way to convolve them, or to differentiate that."""
    return (
        frames.shape[2] * frames.shape[3] >= _MANY_PIXELS
        and frames.device.type == "cpu"
        and frames.dtype in (torch.float32, torch.float64)
    )


def _has_onednn(frames: Float[Tensor, "n c h w"]) -> bool:
    """Whether torch has it for these; of itself it takes it for many frames or threads only."""
    return (
        frames.device.type == "cpu"
        and frames.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()
    )


def _by_frames(d_output: Tensor, kernel: Tensor, add_to: Tensor | None) -> Tensor:
    back = kernel.transpose(0, 1)
    if add_to is None:
        return convolve(d_output, back, None)
    if d_output.is_contiguous() and add_to.is_contiguous():
        total, pixels = (rearrange(x, "n c h w -> n c (h w)") for x in (add_to, d_output))
        total.baddbmm_(back[:, :, 0, 0].expand(len(pixels), -1, -1), pixels)
        return add_to
    return add_to.add_(convolve(d_output, back, None))


def _by_kernel(d_output: Tensor, frames: Tensor, kernel: Tensor) -> Tensor:
    """A product of pixels, fast with the narrow side on the left."""
    narrows = d_output.shape[1] < frames.shape[1]
    left, right = (d_output, frames) if narrows else (frames, d_output)
    if left.is_contiguous() and right.is_contiguous():
        left, right = (rearrange(x, "n c h w -> n c (h w)") for x in (left, right))
        product = (left @ right.mT).sum(dim=0)
    else:
        left, right = (rearrange(x, "n c h w -> (n h w) c") for x in (left, right))
        product = left.mT @ right
    return (product if narrows else product.mT)[..., None, None]
