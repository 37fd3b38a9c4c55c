"""The table of temporal modules: a name -> what it makes, alone and as a part of others."""

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
"""Makes a module of clips, `b t c h w` -> the same; handed `channels=`, `num_frames=` if named."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One line of the table: what a name makes, by where it is written.

    A constructor is handed `channels`, `num_frames` and options where it names them.

    Attributes:
        site: Alone, at the full width of the site.
        gate: Alone, inside a `Gate`, on its few channels.
        motion: Before a `+`, inside a `Gate`.
        attention: After a `+`, inside a `Gate`; takes the motion module as its first argument.
    """

    site: Maker | None = None
    gate: Maker | None = None
    motion: Maker | None = None
    attention: Maker | None = None


TEMPORAL: dict[str, Mechanism | str] = {  # a string is another spelling
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

CAUSAL: dict[str, Mechanism] = {  # the same names, looking backwards only
    "motion": Mechanism(gate=PastDifference, motion=PastDifference),
    "attention": Mechanism(gate=PastMotionAttention, attention=PastMotionAttention),
    "identity": Mechanism(attention=MotionSkip),  # it looks at no other frame
    "tea": Mechanism(site=PastMotionExcitation, motion=PastAlignedDifference),
    "tdn": Mechanism(site=PastLongTermDifference, motion=backward_difference),
    "tsm": Mechanism(site=PastShift),
}
