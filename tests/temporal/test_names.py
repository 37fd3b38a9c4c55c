"""Modules made from temporal names."""

from typing import Any

import pytest
from torch import nn

from motionaware.temporal.gate import Gate
from motionaware.temporal.m2a import MotionAttention, MotionSkip, TemporalDifference
from motionaware.temporal.names import site_maker
from motionaware.temporal.tam import MotionAdaptation, TemporalAdaptation
from motionaware.temporal.tdn import BidirectionalDifference, LongTermDifference
from motionaware.temporal.tea import AlignedDifference, MotionExcitation
from motionaware.temporal.tsm import TemporalShift


def make(name: str, *, channels: int = 16, num_frames: int = 8) -> Any:
    maker = site_maker(name)
    assert maker is not None
    return maker(channels=channels, num_frames=num_frames)


def test_none_makes_no_module():
    assert site_maker("none") is None


@pytest.mark.parametrize("spelling", ["m2a", "motion+attention", " motion + attention "])
def test_m2a_is_motion_that_feeds_attention_in_one_gate(spelling):
    module = make(spelling)
    assert isinstance(module, Gate)
    assert isinstance(module.inner, MotionAttention)
    assert isinstance(module.inner.motion, TemporalDifference)


def test_a_comma_joins_modules_in_order():
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


def test_options_are_passed_to_the_part_that_has_them():
    module = make("m2a(reduction=4, last=zero), tsm(fold=4)")
    assert module[0].inner.motion.last == "zero"
    assert module[1].num_channels == 4
    assert make("m2a(last='zero')").inner.motion.last == "zero"


def test_a_name_alone_makes_the_papers_module_and_before_a_plus_its_motion():
    assert isinstance(make("tea"), MotionExcitation)
    assert isinstance(make("tea+attention").inner.motion, AlignedDifference)
    assert isinstance(make("tdn"), LongTermDifference)
    assert isinstance(make("tdn+attention").inner.motion, BidirectionalDifference)
    assert isinstance(make("tam"), TemporalAdaptation)
    assert isinstance(make("motion+tam").inner, MotionAdaptation)
    assert isinstance(make("motion+identity").inner, MotionSkip)
    assert isinstance(make("tea@official"), Gate)


def test_after_a_plus_tam_and_tam_official_are_the_same():
    assert repr(make("motion+tam")) == repr(make("motion+tam@official"))


def test_no_part_in_a_gate_reduces_the_channels_again():
    for name in ("tea+tam", "tdn+tam"):
        convolutions = [m for m in make(name).inner.modules() if hasattr(m, "out_channels")]
        assert {m.out_channels for m in convolutions} == {2}


def test_a_callable_needs_no_registration():
    def make_identity(*, channels: int, num_frames: int) -> nn.Module:
        return nn.Identity()

    assert isinstance(site_maker(make_identity)(channels=8, num_frames=4), nn.Identity)  # pyright: ignore[reportOptionalCall]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m2b", "temporal 'm2b' is unknown; did you mean 'm2a'?"),
        ("motion+atention", "'atention' in 'motion+atention' is unknown; did you mean 'attention'"),
        ("", "cannot be parsed"),
        ("m2a,", "cannot be parsed"),
        ("m2a(reduction=4", "cannot be parsed from 'm2a(reduction=4' on"),
        ("m2a;tsm", "cannot be parsed"),
        (
            "attention+motion",
            "before a '+' write one of motion, tdn, tdn@official, tea, tea@official",
        ),
        ("motion+tea", "after it one of attention, identity, tam, tam@official"),
        ("tsm+attention", "Join other modules with ','"),
        ("m2a+tsm", "'m2a+tsm' is not a possible combination"),
        ("identity", "alone one of action, attention, m2a, motion, patch"),
        (
            "m2a(reduce=4)",
            "no option 'reduce'; its options are both_directions, combine, cosine, h",
        ),
        ("tea(channels=4)", "has no option 'channels'; its options are reduction"),
        ("tea+attention(patch_size=4)", "has no option 'patch_size'"),
        ("tsm(reduction=4)", "has no option 'reduction'; its options are fold"),
        ("m2a(4)", "write name=value pairs"),
        ("m2a(reduction=)", "write name=value pairs"),
        ("none,m2a", "temporal 'none' cannot be joined with other modules; leave it out"),
        ("m2a+none", "temporal 'none' cannot be joined"),
    ],
)
def test_an_invalid_name_is_an_error_that_says_what_is_wrong(name, message):
    with pytest.raises(ValueError) as error:
        site_maker(name)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m2a(reduction=x)", "'m2a' has reduction='x', wanted an integer, for example reduction=8"),
        ("m2a(reduction=2.5)", "reduction=2.5, wanted an integer"),
        ("m2a(reduction=true)", "reduction=True, wanted an integer"),
        ("m2a(temperature=hot)", "temperature='hot', wanted a number, for example temperature=1.0"),
        ("m2a(cosine=1)", "cosine=1, wanted true or false"),
        ("m2a(last=3)", "last=3, wanted a word"),
        ("tsm(fold=few)", "fold='few', wanted an integer"),
        ("tea(reduction=x)", "'tea' has reduction='x', wanted an integer"),
    ],
)
def test_an_option_of_the_wrong_type_is_an_error_before_a_module_is_made(name, message):
    with pytest.raises(ValueError) as error:
        site_maker(name)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["m2a", "tea"])
def test_an_explicit_reduction_is_never_limited(name):
    message = "reduction = 1000 leaves no channel of the 16 at a site; choose 16 or less"
    with pytest.raises(ValueError, match=message):
        make(f"{name}(reduction=1000)")
    make(f"{name}(reduction=16)")
    make(name, channels=4)  # the default is limited: at least one channel


def test_values_out_of_range_are_errors():
    with pytest.raises(ValueError, match="last = 'same'; choose 'neg' or 'zero'"):
        make("m2a(last=same)")
    with pytest.raises(ValueError, match="reduction = 0; it divides the channels and must be"):
        make("m2a(reduction=0)")
    with pytest.raises(ValueError, match="fold = 8 with 4 channels"):
        make("tsm", channels=4)
    with pytest.raises(ValueError, match="start = 'zero'; choose 'half' or 'identity'"):
        make("m2a(start=zero)")
    with pytest.raises(ValueError, match="combine = 'sum'; choose 'multiply' or 'add'"):
        make("m2a(combine=sum)")
    with pytest.raises(ValueError, match="heads = 0; it divides the channels and must be"):
        make("m2a(heads=0)")
    with pytest.raises(ValueError, match="heads = 3 do not divide 2 channels evenly"):
        make("m2a(heads=3)")
    with pytest.raises(
        ValueError, match="temperature = 0.0; it divides the logits and must be above"
    ):
        make("m2a(temperature=0.0)")
    with pytest.raises(ValueError, match="patch_size = 0; it is a number of pixels"):
        make("patch(patch_size=0)")
    with pytest.raises(ValueError, match="channels = 16; tdn_stem takes images of .*where='conv1'"):
        make("tdn_stem")


class OfChannels(nn.Module):
    def __init__(self, channels: int, width: int = 2) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "width": width}


class Bare(nn.Module):
    pass


def test_a_callable_gets_the_keywords_that_it_names():
    def of_frames(num_frames: int) -> Any:
        return num_frames

    def of_all(**arguments: int) -> Any:
        return arguments

    def of_none() -> Any:
        return "nothing"

    def made(make: Any) -> Any:
        return site_maker(make)(channels=8, num_frames=4)  # pyright: ignore[reportOptionalCall]

    assert made(OfChannels).arguments == {"channels": 8, "width": 2}
    assert made(of_frames) == 4
    assert made(of_all) == {"channels": 8, "num_frames": 4}
    assert made(of_none) == "nothing"
    assert isinstance(made(Bare), Bare)


def test_a_callable_that_needs_other_arguments_is_an_error():
    make = site_maker(lambda c, num_frames: nn.Identity())
    message = "cannot be called: missing a required argument: 'c'; it gets .* channels, num_fr"
    with pytest.raises(ValueError, match=message):
        make(channels=8, num_frames=4)  # pyright: ignore[reportOptionalCall]


def test_an_instance_in_place_of_a_callable_is_an_error():
    message = "is a Identity instance, .*: give its class or a function that makes it"
    with pytest.raises(ValueError, match=message):
        site_maker(nn.Identity())
