import pytest
import torch
from torch import Tensor

from motionaware.ops.attention import gather_over_time, normalize_frames, time_attention_map
from motionaware.ops.motion import temporal_difference
from motionaware.ops.motion_attention import add_attended_motion

OPTIONS = [
    {},
    {"last": "zero"},
    {"last": None},
    {"heads": 2},
    {"temperature": 0.3},
    {"cosine": True, "temperature": 0.2},
    {"cosine": True, "heads": 4, "last": "zero"},
]
SHAPES = [(2, 8, 8, 6, 6), (1, 5, 4, 7, 3), (3, 16, 4, 1, 1), (2, 1, 8, 5, 5), (1, 3, 8, 13, 2)]


def directly(clips: Tensor, *, last: str | None = "neg", **options) -> Tensor:
    """The formula as the paper writes it."""
    motion = normalize_frames(clips)
    if last is not None:
        motion = temporal_difference(motion, last=last)  # pyright: ignore[reportArgumentType]
    return clips + gather_over_time(motion, time_attention_map(motion, **options))


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def channels_last(clips: Tensor) -> Tensor:
    return clips.movedim(2, -1).contiguous().movedim(-1, 2)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [Tensor.contiguous, channels_last])
def test_the_closed_form_is_the_direct_formula_and_so_are_its_gradients(options, shape, layout):
    clips = layout(draw(*shape, dtype=torch.float64)).requires_grad_()
    grad = torch.randn_like(clips)
    ours, wanted = add_attended_motion(clips, **options), directly(clips, **options)
    torch.testing.assert_close(ours, wanted)
    (d_ours,) = torch.autograd.grad(ours, clips, grad)
    (d_wanted,) = torch.autograd.grad(wanted, clips, grad)
    torch.testing.assert_close(d_ours, d_wanted)


@pytest.mark.parametrize("options", OPTIONS)
def test_in_float32_it_is_as_close_to_the_exact_numbers_as_the_direct_formula(options):
    clips = draw(2, 8, 8, 14, 14)
    exact = directly(clips.double(), **options)
    torch.testing.assert_close(
        add_attended_motion(clips, **options).double(), exact, atol=1e-5, rtol=1e-5
    )


def test_means_far_from_zero_cost_no_more_than_the_clips_own_rounding():
    clips = 1e3 + draw(2, 8, 8, 14, 14)
    added = add_attended_motion(clips, temperature=50.0) - clips
    exact = directly(clips.double(), temperature=50.0) - clips.double()
    torch.testing.assert_close(added.double(), exact, atol=5e-4, rtol=0)  # 1e3 has steps of 6e-5


@pytest.mark.parametrize("value", [0.0, 1.0, 1000.1])
def test_constant_frames_gather_nothing_and_have_modest_gradients(value):
    clips = torch.full((2, 4, 8, 5, 5), value).requires_grad_()
    output = add_attended_motion(clips)
    torch.testing.assert_close(output, clips, rtol=1e-5, atol=1e-5)
    output.sum().backward()
    assert clips.grad is not None
    assert clips.grad.abs().max() < 1e3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_computed_in_float32_and_given_back(dtype):
    clips = draw(2, 8, 8, 6, 6, dtype=dtype).requires_grad_()
    output = add_attended_motion(clips)
    assert output.dtype == dtype
    assert torch.equal(output, add_attended_motion(clips.float()).to(dtype))
    output.sum().backward()
    assert clips.grad is not None and clips.grad.dtype == dtype


def test_autocast_does_not_shorten_the_products():
    clips = draw(2, 8, 8, 6, 6).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = add_attended_motion(clips)
        (grad,) = torch.autograd.grad(output.square().sum(), clips)
    plain = add_attended_motion(clips)
    assert torch.equal(output, plain)
    assert torch.equal(grad, torch.autograd.grad(plain.square().sum(), clips)[0])


def test_no_layout_is_changed():
    clips = draw(2, 8, 8, 6, 6)
    assert add_attended_motion(clips).is_contiguous()
    assert add_attended_motion(channels_last(clips)).movedim(2, -1).is_contiguous()


def test_one_normalised_clip_is_all_that_is_large_and_kept_for_backward():
    clips = draw(2, 4, 8, 16, 16).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        add_attended_motion(clips)
    assert [tensor.numel() for tensor in kept if tensor.numel() > 100] == [clips.numel()]


def test_a_gradient_of_the_gradient_is_refused():
    clips = draw(1, 4, 4, 3, 3).requires_grad_()
    (grad,) = torch.autograd.grad(
        add_attended_motion(clips).square().sum(), clips, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_gradients_by_functional_transforms_are_the_same():
    clips = draw(2, 4, 4, 3, 3).requires_grad_()
    by_function = torch.func.grad(lambda x: add_attended_motion(x).square().sum())(clips.detach())
    (eager,) = torch.autograd.grad(add_attended_motion(clips).square().sum(), clips)
    torch.testing.assert_close(by_function, eager)
