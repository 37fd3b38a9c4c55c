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
def test_the_map_has_one_row_a_frame_that_sums_to_one(options):
    weights = MotionAttention(TemporalDifference(), **options).attention_map(clips())
    assert weights.shape == (2, 4, 4)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4))


def test_what_is_added_is_the_map_times_the_motion():
    module = MotionAttention(TemporalDifference(), temperature=20.0)
    motion = temporal_difference(normalize_frames(clips()))
    gathered = torch.einsum("bst,btchw->bschw", module.attention_map(clips()), motion)
    torch.testing.assert_close(module(clips()) - clips(), gathered)


@pytest.mark.parametrize("heads", [1, 2])
def test_without_its_skip_it_gives_what_is_gathered_alone(heads):
    with_skip, alone = (
        MotionAttention(TemporalDifference(), heads=heads, skip=skip) for skip in (True, False)
    )
    torch.testing.assert_close(alone(clips()), with_skip(clips()) - clips())


def test_motion_of_frames_near_their_norm_and_the_frames_add_up_to_the_next_frames():
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


def test_the_cosine_map_knows_angles_only():
    motion = temporal_difference(normalize_frames(clips())).flatten(2)
    cosines = torch.cosine_similarity(motion[:, :, None], motion[:, None], dim=-1)
    module = MotionAttention(TemporalDifference(), cosine=True, temperature=0.2)
    torch.testing.assert_close(module.attention_map(clips()), (cosines / 0.2).softmax(dim=-1))


def test_heads_that_do_not_share_the_channels_are_refused():
    with pytest.raises(
        ValueError, match="heads = 3 do not share 8 channels evenly; take a divisor"
    ):
        MotionAttention(heads=3)(clips())


def test_a_saturated_map_comes_to_the_skip():
    attended = MotionAttention(TemporalDifference(), temperature=1e-3)(clips())
    torch.testing.assert_close(attended, MotionSkip(TemporalDifference())(clips()))


def test_both_directions_still_tell_before_from_after():
    motion = TemporalDifference(both_directions=True)
    assert not torch.allclose(motion(clips().flip(1)), motion(clips()).flip(1))


def test_a_clip_played_backwards_moves_the_other_way_in_the_other_half():
    motion = TemporalDifference(both_directions=True)
    forth, back = motion(clips()).chunk(2, dim=2)
    swapped = clips().flip(1).roll(4, dims=2)
    forth_again, back_again = motion(swapped).chunk(2, dim=2)
    torch.testing.assert_close(forth_again, -back.flip(1))
    torch.testing.assert_close(back_again, -forth.flip(1))


def test_a_hook_on_the_motion_sees_it():
    module = MotionAttention(TemporalDifference())
    seen = []
    module.motion.register_forward_hook(lambda _, inputs, output: seen.append(output))
    watched = module(clips())
    torch.testing.assert_close(seen, [temporal_difference(normalize_frames(clips()))])
    torch.testing.assert_close(watched, MotionAttention(TemporalDifference())(clips()))


@pytest.mark.parametrize("last", ["neg", "zero"])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_module_is_the_formula_of_its_paper(options, last):
    motion = temporal_difference(normalize_frames(clips()), last=last)
    wanted = clips() + gather_over_time(motion, time_attention_map(motion, **options))
    module = MotionAttention(TemporalDifference(last=last), **options)
    torch.testing.assert_close(module(clips()), wanted)
