"""1x1 convolutions for the gate (gating.py), computed by the fastest method for CPU and layout.

    frames                              forward                          gradients
    large, channels first               matrix product per frame         matrix products
    large, channels last                oneDNN's convolution             matrix products
    small, or not on a CPU              torch's convolution              torch's convolution

Frames are large from 14 x 14 pixels on. For large frames with channels first, oneDNN copies its
input to another layout; a matrix product does not. For large frames with channels last, torch does
not choose oneDNN in calls with few frames on one thread. oneDNN's gradient of a 1x1 kernel is slow
in both layouts.

Gain over torch's convolution, median [quartiles] of 25 rounds, with kernels between c and c/8
channels:

    site (c, pixels)   layout           frames   forward up   gradients down
    64, 28 x 28        channels first   32       4.3 [2.1-6.7]   2.4 [2.2-2.6]
    128, 14 x 14       channels first   32       1.4 [1.3-1.6]   1.7 [1.4-1.8]
    64, 56 x 56        channels last    8        1.6 [1.5-1.7]   1.8 [1.5-2.1]
    256, 56 x 56       channels last    8        2.1 [2.1-2.3]   1.7 [1.6-1.7]
    512, 28 x 28       channels last    8        1.6 [1.5-1.9]   1.3 [1.3-1.3]

Measured 2026-11-27 on an Intel Xeon (Sapphire Rapids, 2 cores, other work running), torch 2.14.1,
one thread, CPU time: `python benchmarks/fast_paths.py --parts pointwise`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

_LARGE_PIXELS = 14 * 14  # pixels of a frame from which on matrix products are faster
_PIECE_BYTES = 2**21  # a few tensors of this size fit into the cache


def memory_layout(frames: Float[Tensor, "n c h w"]) -> torch.memory_format:
    """Return channels first or channels last, whichever the strides of the frames fit better."""
    if frames.is_contiguous() or frames.stride(1) != 1:
        return torch.contiguous_format
    return torch.channels_last


def is_large(frames: Float[Tensor, "n c h w"]) -> bool:
    """Return True for frames in the first two rows of the table above."""
    return (
        frames.shape[2] * frames.shape[3] >= _LARGE_PIXELS
        and frames.device.type == "cpu"
        and frames.dtype in (torch.float32, torch.float64)
    )


def num_pieces(frames: Float[Tensor, "n c h w"]) -> int:
    """Return into how many pieces along `n` to split frames so that each piece fits into the cache.

    Small frames are not split: 1. Splitting large frames with channels first gains 1.04x to 1.17x
    (64 channels, 56 x 56 pixels, 32 frames: inference 1.13 [1.09-1.17], training step 1.17
    [1.14-1.27]). With channels last it gains nothing in time, and the backward pass needs less
    memory.
    """
    if not is_large(frames):
        return 1
    return -(-frames.numel() * frames.element_size() // _PIECE_BYTES)


def convolve(
    frames: Float[Tensor, "n c h w"],
    kernel: Float[Tensor, "c2 c 1 1"],
    bias: Float[Tensor, "c2"] | None,
) -> Float[Tensor, "n c2 h w"]:
    """Return the 1x1 convolution of frames, in their memory layout. Autograd cannot follow it."""
    if not is_large(frames):
        return F.conv2d(frames, kernel, bias)
    if not frames.is_contiguous():
        return _convolve_with_onednn(frames, kernel, bias)
    matrices = kernel[:, :, 0, 0].expand(len(frames), -1, -1)
    pixels = rearrange(frames, "n c h w -> n c (h w)")
    wide = matrices @ pixels if bias is None else torch.baddbmm(bias[:, None], matrices, pixels)
    return rearrange(wide, "n c (h w) -> n c h w", h=frames.shape[2])


def _convolve_with_onednn(frames: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    onednn = torch.backends.mkldnn
    if frames.dtype != torch.float32 or not (onednn.is_available() and onednn.enabled):
        return F.conv2d(frames, kernel, bias)
    return torch.ops.aten.mkldnn_convolution(frames, kernel, bias, [0, 0], [1, 1], [1, 1], 1)


def convolve_backward(
    d_output: Float[Tensor, "n c2 h w"],
    frames: Float[Tensor, "n c h w"],
    kernel: Float[Tensor, "c2 c 1 1"],
    wanted: Sequence[bool],
    *,
    add_to: Float[Tensor, "n c h w"] | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of the frames, the kernel and the bias of `convolve`.

    Args:
        d_output: Gradient of the output.
        frames: Input of the convolution.
        kernel: Kernel of the convolution.
        wanted: Which of the three gradients to compute; the others are None.
        add_to: The gradient of the frames is added to this tensor in place, and it is returned.
    """
    if not is_large(frames):
        d_frames, d_kernel, d_bias = torch.ops.aten.convolution_backward(
            d_output, frames, kernel, kernel.shape[:1],
            [1, 1], [0, 0], [1, 1], False, [0, 0], 1, list(wanted),
        )  # fmt: skip
        if d_frames is not None and add_to is not None:
            d_frames = add_to.add_(d_frames)
        return d_frames, d_kernel, d_bias
    return (
        _gradient_of_frames(d_output, kernel, add_to) if wanted[0] else None,
        _gradient_of_kernel(d_output, frames) if wanted[1] else None,
        d_output.sum(dim=(0, 2, 3)) if wanted[2] else None,
    )


def _gradient_of_frames(d_output: Tensor, kernel: Tensor, add_to: Tensor | None) -> Tensor:
    transposed = kernel.transpose(0, 1)
    if add_to is None:
        return convolve(d_output, transposed, None)
    if d_output.is_contiguous() and add_to.is_contiguous():
        total, pixels = (rearrange(x, "n c h w -> n c (h w)") for x in (add_to, d_output))
        total.baddbmm_(transposed[:, :, 0, 0].expand(len(pixels), -1, -1), pixels)
        return add_to
    return add_to.add_(convolve(d_output, transposed, None))


def _gradient_of_kernel(d_output: Tensor, frames: Tensor) -> Tensor:
    """Return d_output times frames, summed over all pixels; the factor with fewer channels is left.

    That order is the faster one.
    """
    output_is_narrower = d_output.shape[1] < frames.shape[1]
    left, right = (d_output, frames) if output_is_narrower else (frames, d_output)
    if left.is_contiguous() and right.is_contiguous():
        left, right = (rearrange(x, "n c h w -> n c (h w)") for x in (left, right))
        product = (left @ right.mT).sum(dim=0)
    else:
        left, right = (rearrange(x, "n c h w -> (n h w) c") for x in (left, right))
        product = left.mT @ right
    return (product if output_is_narrower else product.mT)[..., None, None]
