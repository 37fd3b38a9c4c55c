"""The grammar of temporal names."""

from typing import Any

import pytest
import torch
from torch import nn

from motionaware.temporal import site_maker
from motionaware.temporal.gate import Gate
from motionaware.temporal.m2a import MotionAttention, TemporalDifference
from motionaware.temporal.tsm import TemporalShift


def make(name: str, *, channels: int = 16, num_frames: int = 8) -> Any:
    maker = site_maker(name)
    assert maker is not None
    return maker(channels=channels, num_frames=num_frames)


def test_none_puts_nothing_in():
    assert site_maker("none") is None


@pytest.mark.parametrize("spelling", ["m2a", "motion+attention", " motion + attention "])
def test_m2a_is_motion_that_feeds_attention_in_one_gate(spelling):
    module = make(spelling)
    assert isinstance(module, Gate)
    assert isinstance(module.inner, MotionAttention)
    assert isinstance(module.inner.motion, TemporalDifference)


def test_a_comma_puts_modules_one_after_the_other():
    first, second = make("m2a,tsm")
    assert isinstance(first, Gate)
    assert isinstance(second, TemporalShift)
    first, second = make("tsm, m2a")
    assert isinstance(first, TemporalShift)
    assert isinstance(second, Gate)


def test_a_gate_has_an_eighth_of_the_channels():
    assert make("m2a", channels=64).down.out_channels == 8
    assert make("m2a(reduction=4)", channels=64).down.out_channels == 16
    assert make("m2a", channels=4).down.out_channels == 1


def test_options_reach_the_part_that_names_them():
    module = make("m2a(reduction=4, last=zero), tsm(fold=4)")
    assert module[0].inner.motion.last == "zero"
    assert module[1].num_channels == 4
    assert make("m2a(last='zero')").inner.motion.last == "zero"


def test_a_maker_of_ones_own_needs_no_registration():
    def mine(*, channels: int, num_frames: int) -> nn.Module:
        return nn.Identity()

    assert site_maker(mine) is mine


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m2b", "temporal 'm2b' is unknown; did you mean 'm2a'?"),
        ("motion+atention", "'atention' in 'motion+atention' is unknown; did you mean 'attention'"),
        ("", "cannot be read"),
        ("m2a,", "cannot be read"),
        ("m2a(reduction=4", "cannot be read from 'm2a(reduction=4' on"),
        ("m2a;tsm", "cannot be read"),
        ("attention+motion", "joins attention and motion; '+' takes one motion mechanism and"),
        ("tsm+attention", "Put a module after another with ','"),
        ("m2a+tsm", "joins motion and attention and site"),
        ("m2a(reduce=4)", "has no option 'reduce'; its options are last, reduction"),
        ("tsm(reduction=4)", "has no option 'reduction'; its options are fold"),
        ("m2a(4)", "write name=value pairs"),
        ("m2a(reduction=)", "write name=value pairs"),
        ("none,m2a", "temporal 'none' stands alone; leave it out where modules are named"),
        ("m2a+none", "temporal 'none' stands alone"),
    ],
)
def test_a_name_outside_the_grammar_says_what_is_wrong(name, words):
    with pytest.raises(ValueError) as error:
        site_maker(name)
    assert words in str(error.value)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="last = 'same'; choose 'neg' or 'zero'"):
        make("m2a(last=same)")
    with pytest.raises(ValueError, match="reduction = 0; it divides the channels and starts at 1"):
        make("m2a(reduction=0)")
    with pytest.raises(ValueError, match="fold = 8 with 4 channels"):
        make("tsm", channels=4)


def test_the_gate_lies_between_one_and_two():
    torch.manual_seed(0)
    clips = torch.rand(2, 8, 16, 5, 5) + 0.1
    factor = make("m2a")(clips) / clips
    assert factor.min() > 1
    assert factor.max() < 2
