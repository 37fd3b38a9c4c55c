from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from motionaware.ops.attention import (
    MotionKind,
    add_attended_motion,
    add_attended_motion_plainly,
    attend_over_time,
    gather_over_time,
    normalize_frames,
    time_attention_map,
)

OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 30.0},
    {"cosine": True, "temperature": 0.2},
    {"skip": False},
]
MOTIONS: tuple[MotionKind, ...] = ("neg", "zero", "frames")


def with_gradient(function: Any, clips: Tensor, **options: Any) -> list[Tensor]:
    clips = clips.detach().requires_grad_()
    output = function(clips, **options)
    d_output = torch.randn(clips.shape, generator=torch.Generator().manual_seed(2)).to(clips)
    output.backward(d_output)
    assert clips.grad is not None
    return [output.detach(), clips.grad]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_every_frame_is_normalised_independently():
    clips = 5 + 3 * torch.randn(2, 4, 3, 6, 6)
    normal = normalize_frames(clips)
    torch.testing.assert_close(normal.mean(dim=(2, 3, 4)), torch.zeros(2, 4), atol=1e-6, rtol=0)
    variance = normal.var(dim=(2, 3, 4), unbiased=False)
    torch.testing.assert_close(variance, torch.ones(2, 4), atol=1e-4, rtol=0)


def test_each_frames_attention_sums_to_one():
    weights = time_attention_map(torch.randn(2, 5, 3, 4, 4))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 1, 5))


def test_attention_is_softmax_of_scaled_products():
    clips = torch.randn(1, 3, 2, 2, 2)
    tokens = clips.reshape(3, 8)
    weights = torch.softmax(tokens @ tokens.T / 8**0.5, dim=-1)
    torch.testing.assert_close(attend_over_time(clips).reshape(3, 8), weights @ tokens)


def test_equal_frames_get_equal_attention():
    clip = torch.randn(1, 1, 3, 4, 4).expand(1, 4, 3, 4, 4)
    torch.testing.assert_close(time_attention_map(clip), torch.full((1, 1, 4, 4), 0.25))


def test_frames_that_differ_much_attend_to_themselves():
    torch.manual_seed(0)
    weights = time_attention_map(torch.randn(1, 6, 16, 16, 16))
    torch.testing.assert_close(weights, torch.eye(6)[None, None], atol=1e-6, rtol=0)


def test_each_head_compares_its_own_channels():
    clips = torch.randn(2, 5, 6, 4, 4)
    weights = time_attention_map(clips, heads=3)
    apart = [time_attention_map(part) for part in clips.chunk(3, dim=2)]
    torch.testing.assert_close(weights, torch.cat(apart, dim=1))
    gathered = [attend_over_time(part) for part in clips.chunk(3, dim=2)]
    torch.testing.assert_close(gather_over_time(clips, weights), torch.cat(gathered, dim=2))


def test_cosine_similarity_does_not_depend_on_lengths():
    clips = torch.randn(1, 4, 3, 5, 5)
    longer = clips * torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)
    torch.testing.assert_close(
        time_attention_map(longer, cosine=True), time_attention_map(clips, cosine=True)
    )


def test_the_temperature_divides_the_logits():
    clips = torch.randn(1, 3, 2, 2, 2)
    torch.testing.assert_close(
        time_attention_map(clips, temperature=4.0), time_attention_map(clips / 2)
    )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(2, 8, 6, 5, 7), (1, 1, 6, 3, 3), (3, 5, 6, 1, 1)])
@pytest.mark.parametrize("kind", MOTIONS)
def test_the_closed_form_equals_the_formula_and_its_gradient(options, shape, kind):
    clips = random(*shape, dtype=torch.float64)
    ours = with_gradient(add_attended_motion, clips, kind=kind, **options)
    direct = with_gradient(add_attended_motion_plainly, clips, kind=kind, **options)
    torch.testing.assert_close(ours, direct, rtol=1e-9, atol=1e-9)


def test_an_empty_batch_has_gradients():
    output, gradient = with_gradient(add_attended_motion, torch.zeros(0, 4, 6, 5, 5))
    assert output.shape == gradient.shape == (0, 4, 6, 5, 5)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("change", [1.0, 0.1, 0.01, 0.001])
def test_the_closed_form_is_as_exact_as_the_formula_for_slow_motion(options, change):
    """Compares both in float32 with the formula in float64, at the largest site of a ResNet-18."""
    clips = random(1, 1, 8, 56, 56) + change * random(1, 8, 8, 56, 56)
    exact = with_gradient(add_attended_motion_plainly, clips.double(), **options)
    formula = with_gradient(add_attended_motion_plainly, clips, **options)
    ours = with_gradient(add_attended_motion, clips, **options)
    for closed, plain, right in zip(ours, formula, exact, strict=True):
        error, plain_error = ((x.double() - right).abs().max() for x in (closed, plain))
        assert error < 2 * plain_error + 1e-6


@pytest.mark.parametrize("mean", [1e3, -1e3])
def test_means_far_from_zero_lose_no_more_digits_than_the_input(mean):
    clips = mean + random(2, 4, 8, 14, 14)
    exact = with_gradient(add_attended_motion_plainly, clips.double())
    ours = with_gradient(add_attended_motion, clips)
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=0, atol=2e-4)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1e3])
@pytest.mark.parametrize("num_frames", [1, 4])
def test_constant_frames_have_no_motion_and_finite_gradients(options, value, num_frames):
    clips = torch.full((1, num_frames, 6, 5, 5), value)
    output, gradient = with_gradient(add_attended_motion, clips, **options)
    torch.testing.assert_close(output, clips if options.get("skip", True) else 0 * clips)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    clips = (100 + random(1, 4, 8, 28, 28)).to(dtype)
    exact = with_gradient(add_attended_motion_plainly, clips.double())
    with torch.autocast("cpu", dtype=dtype):
        ours = with_gradient(add_attended_motion, clips)
    assert [one.dtype for one in ours] == [dtype, dtype]
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other.to(dtype), rtol=0.01, atol=0.01)


def test_channels_last_frames_keep_their_layout_and_give_the_same_numbers():
    clips = random(2, 4, 6, 5, 7)
    last = clips.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    ours = with_gradient(add_attended_motion, last)
    for one, other in zip(ours, with_gradient(add_attended_motion, clips), strict=True):
        torch.testing.assert_close(one, other)
        assert one.stride() == last.stride()


def test_one_tensor_of_the_size_of_the_clip_is_kept_for_the_gradient():
    clips = random(2, 4, 6, 5, 7).requires_grad_()
    kept: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda same: same):
        add_attended_motion(clips)
    assert sum(one.numel() == clips.numel() for one in kept) == 1


@pytest.mark.parametrize("loss", [torch.sum, lambda y: y.square().sum()])
def test_a_second_derivative_raises_an_error(loss):
    clips = random(1, 3, 2, 2, 2).requires_grad_()
    output = loss(add_attended_motion(clips))
    (gradient,) = torch.autograd.grad(output, clips, create_graph=True)
    with pytest.raises(RuntimeError, match="hand-written and has no derivative; take both"):
        gradient.sum().backward()


def test_the_same_clip_gives_identical_bits():
    clips = random(2, 8, 6, 28, 28)
    for one, other in zip(
        with_gradient(add_attended_motion, clips),
        with_gradient(add_attended_motion, clips),
        strict=True,
    ):
        assert torch.equal(one, other)
