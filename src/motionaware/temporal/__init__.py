"""Temporal modules, clip -> clip of the same shape; the table of their names and its grammar.

A temporal module is chosen by one string, or by any callable that makes one:

| written | means |
|---|---|
| `none` | no temporal module: frames are averaged (TSN) |
| `m2a` | one entry of the table |
| `motion+attention` | one gate in which a motion mechanism feeds an attention |
| `m2a,tsm` | several modules at a site, in that order |
| `m2a(reduction=4)` | options in brackets, handed to the parts whose constructors name them |
| `lambda *, channels, num_frames: ...` | your own module; nothing to register |
"""

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from motionaware.temporal.gate import Gate, narrow_width
from motionaware.temporal.m2a import MotionAttention, TemporalDifference
from motionaware.temporal.tsm import TemporalShift


Maker = Callable[..., nn.Module]
"""Called with `channels=` and `num_frames=`, makes the module of one site: `b t c h w` -> the same."""


@dataclass(frozen=True)
class Mechanism:
    """One line of the table.

    Attributes:
        make: Its constructor; `channels` and `num_frames` are handed in where it names them.
        role: `motion` and `attention` run in a `Gate`, alone or one feeding the other (an
            attention takes the motion module as its first argument); `site` stands on its own.
    """

    make: Callable[..., nn.Module]
    role: Literal["motion", "attention", "site"]


TEMPORAL: dict[str, Mechanism | str] = {  # a string is another spelling
    "m2a": "motion+attention",
    "motion": Mechanism(TemporalDifference, role="motion"),
    "attention": Mechanism(MotionAttention, role="attention"),
    "tsm": Mechanism(TemporalShift, role="site"),
}

_WORD = re.compile(r"[\w@]+")
_TERM = re.compile(r"\s*([\w@+\s]+?)\s*(?:\(([^()]*)\))?\s*(,|$)")


def site_maker(temporal: str | Maker) -> Maker | None:
    """Read a temporal name; give what makes its module at each site, or None for `none`.

    Raises:
        ValueError: The name does not follow the grammar, or an option is unknown.

    >>> site_maker("m2a")(channels=64, num_frames=8).down
    Conv2d(64, 8, kernel_size=(1, 1), stride=(1, 1))
    >>> site_maker("m2b")
    Traceback (most recent call last):
    ...
    ValueError: temporal 'm2b' is unknown; did you mean 'm2a'? Known: attention, m2a, motion, tsm, \
none; join with '+' (motion feeds attention) and ',' (one after the other)
    """
    if not isinstance(temporal, str):
        return temporal
    if temporal.strip() == "none":
        return None
    terms = [_Term.read(names, options) for names, options in _split(temporal)]

    def make(*, channels: int, num_frames: int) -> nn.Module:
        modules = [term.make(channels=channels, num_frames=num_frames) for term in terms]
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    return make


def _split(temporal: str) -> list[tuple[str, str]]:
    """`a+b(x=1),c` -> [("a+b", "x=1"), ("c", "")]."""
    terms, end = [], 0
    while True:
        match = _TERM.match(temporal, end)
        if match is None:
            raise ValueError(
                f"temporal {temporal!r} cannot be read from {temporal[end:]!r} on; "
                "write e.g. 'm2a', 'motion+attention', 'm2a,tsm' or 'm2a(reduction=4)'"
            )
        terms.append((match[1], match[2] or ""))
        end = match.end()
        if match[3] == "":
            return terms


@dataclass(frozen=True)
class _Term:
    """One module at a site: its mechanisms, the motion first, and the options in its brackets."""

    mechanisms: tuple[Mechanism, ...]
    options: Mapping[str, Any]

    @classmethod
    def read(cls, names: str, options: str) -> "_Term":
        parts = [part.strip() for part in names.split("+")]
        mechanisms = tuple(
            mechanism for part in parts for mechanism in _look_up(part, written=names)
        )
        roles = [mechanism.role for mechanism in mechanisms]
        if len(roles) > 1 and roles != ["motion", "attention"]:
            raise ValueError(
                f"temporal {names!r} joins {' and '.join(roles)}; '+' takes one motion mechanism "
                "and the attention that it feeds. Put a module after another with ','"
            )
        term = cls(mechanisms, _read_options(names, options))
        term._check_options(names)
        return term

    def make(self, *, channels: int, num_frames: int) -> nn.Module:
        if self.mechanisms[0].role == "site":
            return self._build(self.mechanisms[0].make, channels=channels, num_frames=num_frames)
        gate_options = {key: self.options[key] for key in _GATE_OPTIONS & self.options.keys()}
        width = narrow_width(channels, **{"reduction": _GATE_REDUCTION, **gate_options})
        inner: nn.Module = nn.Identity()
        for mechanism in self.mechanisms:
            first = (inner,) if mechanism.role == "attention" else ()
            inner = self._build(mechanism.make, *first, channels=width, num_frames=num_frames)
        return Gate(inner, channels=channels, **gate_options)

    def _build(self, make: Callable[..., nn.Module], *args: nn.Module, **facts: int) -> nn.Module:
        given = {**facts, **self.options}
        return make(*args, **{key: given[key] for key in _keywords(make) & given.keys()})

    def _check_options(self, names: str) -> None:
        known = set().union(*(_keywords(mechanism.make) for mechanism in self.mechanisms))
        if self.mechanisms[0].role != "site":
            known |= _GATE_OPTIONS
        known -= {"channels", "num_frames"}
        for option in self.options:
            if option not in known:
                raise ValueError(
                    f"temporal {names!r} has no option {option!r}; "
                    f"its options are {', '.join(sorted(known)) or 'none'}"
                )


def _keywords(make: Callable[..., nn.Module]) -> set[str]:
    parameters = inspect.signature(make).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


_GATE_OPTIONS = _keywords(Gate) - {"channels"}
_GATE_REDUCTION = inspect.signature(Gate).parameters["reduction"].default


def _look_up(name: str, *, written: str) -> tuple[Mechanism, ...]:
    entry = TEMPORAL.get(name)
    if name == "none":
        raise ValueError("temporal 'none' stands alone; leave it out where modules are named")
    if entry is None:
        near = difflib.get_close_matches(name, [*TEMPORAL, "none"], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        inside = "" if name == written else f" in {written!r}"
        raise ValueError(
            f"temporal {name!r}{inside} is unknown; {hint}Known: {', '.join(sorted(TEMPORAL))}, "
            "none; join with '+' (motion feeds attention) and ',' (one after the other)"
        )
    if isinstance(entry, str):
        return tuple(m for part in entry.split("+") for m in _look_up(part, written=written))
    return (entry,)


def _read_options(names: str, options: str) -> dict[str, Any]:
    """`reduction=4, last=zero` -> {"reduction": 4, "last": "zero"}; bare words are strings."""
    try:
        call = ast.parse(f"f({options})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return {
            keyword.arg: keyword.value.id
            if isinstance(keyword.value, ast.Name)
            else ast.literal_eval(keyword.value)
            for keyword in call.keywords
            if keyword.arg
        }
    except (AssertionError, SyntaxError, ValueError):
        raise ValueError(
            f"the options of temporal {names!r} cannot be read: {options!r}; "
            "write name=value pairs, e.g. 'm2a(reduction=4, last=zero)'"
        ) from None
