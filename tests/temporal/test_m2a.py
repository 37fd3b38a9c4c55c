import pytest
import torch
from torch import Tensor

from motionaware.ops.attention import gather_over_time, normalize_frames, time_attention_map
from motionaware.ops.motion import temporal_difference
from motionaware.temporal.m2a import MotionAttention, MotionSkip, TemporalDifference

OPTIONS = [{}, {"heads": 2}, {"temperature": 0.5}, {"cosine": True, "heads": 4}]


def clips() -> Tensor:
    return torch.randn(2, 4, 8, 3, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", OPTIONS)
def test_each_row_of_the_map_sums_to_one(options):
    weights = MotionAttention(TemporalDifference(), **options).attention_map(clips())
    assert weights.shape == (2, 4, 4)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4))


def test_the_map_times_the_motion_is_added():
    module = MotionAttention(TemporalDifference(), temperature=20.0)
    motion = temporal_difference(normalize_frames(clips()))
    gathered = torch.einsum("bst,btchw->bschw", module.attention_map(clips()), motion)
    torch.testing.assert_close(module(clips()) - clips(), gathered)


@pytest.mark.parametrize("heads", [1, 2])
def test_without_skip_it_returns_the_attended_motion_only(heads):
    with_skip, alone = (
        MotionAttention(TemporalDifference(), heads=heads, skip=skip) for skip in (True, False)
    )
    torch.testing.assert_close(alone(clips()), with_skip(clips()) - clips())


def test_normalised_frames_plus_their_motion_are_the_next_frames():
    frames = normalize_frames(clips())
    added = MotionSkip(TemporalDifference())(frames)
    torch.testing.assert_close(added[:, :-1], frames[:, 1:], rtol=0, atol=1e-4)


def test_the_map_of_several_heads_is_their_mean():
    motion = temporal_difference(normalize_frames(clips()))
    halves = [part.flatten(2) for part in motion.chunk(2, dim=2)]
    maps = [(m @ m.mT / m.shape[-1] ** 0.5).softmax(dim=-1) for m in halves]
    module = MotionAttention(TemporalDifference(), heads=2)
    torch.testing.assert_close(module.attention_map(clips()), (maps[0] + maps[1]) / 2)


def test_temperature_softens_the_map():
    maps = [
        MotionAttention(TemporalDifference(), temperature=temperature).attention_map(clips())
        for temperature in (0.5, 1.0, 4.0)
    ]
    sharpest = [weights.amax(dim=-1).mean() for weights in maps]
    assert sharpest[0] > sharpest[1] > sharpest[2]


def test_the_cosine_map_is_the_softmax_of_cosine_similarities():
    motion = temporal_difference(normalize_frames(clips())).flatten(2)
    cosines = torch.cosine_similarity(motion[:, :, None], motion[:, None], dim=-1)
    module = MotionAttention(TemporalDifference(), cosine=True, temperature=0.2)
    torch.testing.assert_close(module.attention_map(clips()), (cosines / 0.2).softmax(dim=-1))


def test_heads_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(
        ValueError, match="heads = 3 do not divide 8 channels evenly; choose a divisor"
    ):
        MotionAttention(heads=3)(clips())


def test_a_saturated_map_is_the_identity():
    attended = MotionAttention(TemporalDifference(), temperature=1e-3)(clips())
    torch.testing.assert_close(attended, MotionSkip(TemporalDifference())(clips()))


def test_both_directions_distinguish_a_clip_from_its_reverse():
    motion = TemporalDifference(both_directions=True)
    assert not torch.allclose(motion(clips().flip(1)), motion(clips()).flip(1))


def test_a_reversed_clip_has_the_negative_motion_in_the_other_half_of_the_channels():
    motion = TemporalDifference(both_directions=True)
    forward, backward = motion(clips()).chunk(2, dim=2)
    swapped = clips().flip(1).roll(4, dims=2)
    forward_reversed, backward_reversed = motion(swapped).chunk(2, dim=2)
    torch.testing.assert_close(forward_reversed, -backward.flip(1))
    torch.testing.assert_close(backward_reversed, -forward.flip(1))


def test_a_hook_on_the_motion_module_gets_the_motion():
    module = MotionAttention(TemporalDifference())
    outputs = []
    module.motion.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    hooked = module(clips())
    torch.testing.assert_close(outputs, [temporal_difference(normalize_frames(clips()))])
    torch.testing.assert_close(hooked, MotionAttention(TemporalDifference())(clips()))


@pytest.mark.parametrize("last", ["neg", "zero"])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_module_equals_the_formula_of_its_paper(options, last):
    motion = temporal_difference(normalize_frames(clips()), last=last)
    wanted = clips() + gather_over_time(motion, time_attention_map(motion, **options))
    module = MotionAttention(TemporalDifference(last=last), **options)
    torch.testing.assert_close(module(clips()), wanted)
