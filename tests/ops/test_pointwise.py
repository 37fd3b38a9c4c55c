"""1x1 convolutions by each method equal torch's, with their gradients."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from motionaware.ops.pointwise import convolve, convolve_backward, memory_layout, num_pieces

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pixels", [3, 14])
@pytest.mark.parametrize(("c", "c2"), [(16, 2), (2, 16)])
def test_convolutions_and_gradients_equal_torch_s(dtype, layout, pixels, c, c2):
    frames = random(4, c, pixels, pixels, dtype=dtype).contiguous(memory_format=layout)
    kernel, bias = random(c2, c, 1, 1, dtype=dtype), random(c2, dtype=dtype)
    leaves = tuple(one.clone().requires_grad_() for one in (frames, kernel, bias))
    wanted = F.conv2d(leaves[0], leaves[1], leaves[2])
    output = convolve(frames, kernel, bias)
    tolerance: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    if dtype == torch.bfloat16:
        tolerance = {"rtol": 2e-2, "atol": 0.5}
    torch.testing.assert_close(output, wanted, **tolerance)
    assert output.is_contiguous(memory_format=layout)
    d_output = random(*wanted.shape, dtype=dtype).contiguous(memory_format=layout)
    gradients = convolve_backward(d_output, frames, kernel, [True, True, True])
    for ours, theirs in zip(gradients, torch.autograd.grad(wanted, leaves, d_output), strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pixels", [3, 14])
def test_the_gradient_of_the_frames_is_added_to_a_tensor_in_place(layout, pixels):
    frames = random(4, 8, pixels, pixels).contiguous(memory_format=layout)
    kernel, d_output = random(2, 8, 1, 1), random(4, 2, pixels, pixels)
    d_output = d_output.contiguous(memory_format=layout)
    alone, _, _ = convolve_backward(d_output, frames, kernel, [True, False, False])
    assert alone is not None
    total = random(4, 8, pixels, pixels).contiguous(memory_format=layout)
    wanted = total + alone
    added, d_kernel, d_bias = convolve_backward(
        d_output, frames, kernel, [True, False, False], add_to=total
    )
    assert added is total and d_kernel is None and d_bias is None
    torch.testing.assert_close(total, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_that_are_not_wanted_are_none(layout):
    frames = random(4, 8, 14, 14).contiguous(memory_format=layout)
    d_output = random(4, 2, 14, 14).contiguous(memory_format=layout)
    assert convolve_backward(d_output, frames, random(2, 8, 1, 1), [False] * 3) == (None,) * 3


class Operations(TorchDispatchMode):
    """Records the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("enabled", [True, False])
def test_onednn_is_used_for_large_frames_with_channels_last_if_it_is_enabled(monkeypatch, enabled):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", enabled)
    frames, kernel = random(4, 8, 14, 14).contiguous(memory_format=LAYOUTS[1]), random(2, 8, 1, 1)
    with Operations() as operations:
        output = convolve(frames, kernel, None)
    assert ("aten::mkldnn_convolution" in operations.names) == enabled
    torch.testing.assert_close(output, F.conv2d(frames, kernel))


def test_the_layout_is_read_from_the_strides():
    frames = random(2, 4, 5, 5)
    assert memory_layout(frames) == torch.contiguous_format
    assert memory_layout(frames.contiguous(memory_format=torch.channels_last)) == LAYOUTS[1]
    assert memory_layout(frames[:, :, ::2]) == torch.contiguous_format


def test_only_large_frames_are_split():
    assert num_pieces(torch.zeros(64, 256, 7, 7)) == 1
    assert num_pieces(torch.zeros(64, 256, 14, 14)) == 7
