"""The table of temporal modules: the constructors for each name, by its role in a temporal name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from motionaware.temporal.action import Action
from motionaware.temporal.causal_modules import (
    PastAlignedDifference,
    PastDifference,
    PastLongTermDifference,
    PastMotionAttention,
    PastMotionExcitation,
    PastShift,
    backward_difference,
)
from motionaware.temporal.m2a import MotionAttention, MotionSkip, TemporalDifference
from motionaware.temporal.official import (
    OfficialDifference,
    OfficialExcitation,
    OfficialPatchAttention,
)
from motionaware.temporal.patch import PatchMotionAttention
from motionaware.temporal.tam import MotionAdaptation, TemporalAdaptation, narrow_adaptation
from motionaware.temporal.tdn import LongTermDifference, ShortTermStem, bidirectional_difference
from motionaware.temporal.tea import AlignedDifference, MotionExcitation
from motionaware.temporal.tsm import TemporalShift

Maker = Callable[..., nn.Module]
"""Makes a module from clips `b t c h w` to clips of the same shape.

It gets the keywords `channels` and `num_frames` if it names them."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One entry of the table: the constructor for each role of a name; None if it has no such role.

    A constructor gets `channels`, `num_frames` and options if it has these keywords.

    Attributes:
        site: Alone, with all channels of the site.
        gate: Alone, inside a `Gate`, on its narrow channels.
        motion: Before a `+`, inside a `Gate`.
        attention: After a `+`, inside a `Gate`; gets the motion module as its first argument.
    """

    site: Maker | None = None
    gate: Maker | None = None
    motion: Maker | None = None
    attention: Maker | None = None


TEMPORAL: dict[str, Mechanism | str] = {  # a string is an alias
    "m2a": "motion+attention",
    "motion": Mechanism(gate=TemporalDifference, motion=TemporalDifference),
    "attention": Mechanism(gate=MotionAttention, attention=MotionAttention),
    "identity": Mechanism(attention=MotionSkip),
    "patch": Mechanism(gate=PatchMotionAttention),
    "tea": Mechanism(site=MotionExcitation, motion=AlignedDifference),
    "tdn": Mechanism(site=LongTermDifference, motion=bidirectional_difference),
    "tdn_stem": Mechanism(site=ShortTermStem),
    "tam": Mechanism(site=TemporalAdaptation, attention=MotionAdaptation),
    "tsm": Mechanism(site=TemporalShift),
    "action": Mechanism(site=Action),
    "patch@official": Mechanism(gate=OfficialPatchAttention),
    "tea@official": Mechanism(gate=OfficialExcitation, motion=OfficialExcitation),
    "tdn@official": Mechanism(gate=OfficialDifference, motion=OfficialDifference),
    "tam@official": Mechanism(gate=narrow_adaptation, attention=MotionAdaptation),
}

CAUSAL: dict[str, Mechanism] = {  # the same names, looking at past frames only
    "motion": Mechanism(gate=PastDifference, motion=PastDifference),
    "attention": Mechanism(gate=PastMotionAttention, attention=PastMotionAttention),
    "identity": Mechanism(attention=MotionSkip),  # looks at no other frame
    "tea": Mechanism(site=PastMotionExcitation, motion=PastAlignedDifference),
    "tdn": Mechanism(site=PastLongTermDifference, motion=backward_difference),
    "tsm": Mechanism(site=PastShift),
}
