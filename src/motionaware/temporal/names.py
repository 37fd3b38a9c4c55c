"""Makes temporal modules from their names.

A temporal module maps clips to clips of the same shape. A string chooses it, or any callable that
makes it:

| name | meaning |
|---|---|
| `none` | no temporal module: frames are averaged (TSN) |
| `m2a`, `tea`, `tsm`, ... | one entry of the table in table.py |
| `motion+attention`, `tea+tam`, ... | a gate in which a motion module feeds an attention module |
| `m2a,tsm` | several modules at a site, in that order |
| `m2a(reduction=4)` | options, passed to the parts whose constructors have these keywords |
| `m2a(causal=true)` | looks at past frames only; see causal_modules.py |
| `tea@official` | as in the M2A authors' code, where it differs from the paper |
| `mix.py:Mix(kernel=5)` | your own class or function in a file; see own.py for the path |
| `my_package.mix:Mix` | your own class or function in a module |
| `lambda *, channels, num_frames: ...` | your own callable, from Python |

Your own class or function gets `channels` and `num_frames` if it has these keywords, and the
options. Terms of your own join others by `,`, not by `+`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from motionaware.errors import UsageError
from motionaware.messages import did_you_mean
from motionaware.temporal.gate import Gate, narrow_width
from motionaware.temporal.grammar import Term, parse_options, split_terms
from motionaware.temporal.own import import_own
from motionaware.temporal.own_maker import OwnSequential, own_maker
from motionaware.temporal.table import CAUSAL, TEMPORAL, Maker, Mechanism


def site_maker(
    temporal: str | Maker, *, causal: bool = False, own: Maker | None = None
) -> Maker | None:
    """Return the function that makes the module of each site; None for `none`.

    Args:
        temporal: A temporal name, or a callable.
        causal: Make all modules look at past frames only; callables get `causal=True`.
        own: Use this callable for the user's own code in the name, and import nothing.

    Raises:
        UsageError: The name does not follow the grammar, an option is unknown, a module has no
            causal variant, the callable makes no modules, or a user's own code cannot be imported.

    >>> site_maker("m2a")(channels=64, num_frames=8).down
    Conv2d(64, 8, kernel_size=(1, 1), stride=(1, 1))
    >>> site_maker("m2b")
    Traceback (most recent call last):
    ...
    motionaware.errors.UsageError: temporal 'm2b' is unknown; did you mean 'm2a'? Known: action, \
attention, identity, m2a, motion, patch, patch@official, tam, tam@official, tdn, tdn@official, \
tdn_stem, tea, tea@official, tsm, none; join with '+' (motion feeds attention) and ',' (one after \
the other)
    """
    if not isinstance(temporal, str):
        return own_maker(temporal, causal=causal)
    if temporal.strip() == "none":
        return None
    terms = _read_terms(temporal, causal=causal, own=own)
    has_own = any(isinstance(term, _OwnTerm) for term in terms)

    def make(*, channels: int, num_frames: int) -> nn.Module:
        modules = [term.make(channels=channels, num_frames=num_frames) for term in terms]
        if len(modules) == 1:
            return modules[0]
        return (OwnSequential if has_own else nn.Sequential)(*modules)

    return make


def is_causal(temporal: str | Maker, *, own: Maker | None = None) -> bool:
    """Return True if all modules of a name look at past frames only.

    Args:
        temporal: A temporal name; a callable counts as not causal.
        own: See `site_maker`.
    """
    if not isinstance(temporal, str) or temporal.strip() == "none":
        return False
    return all(term.causal for term in _read_terms(temporal, causal=False, own=own))


def _read_terms(
    temporal: str, *, causal: bool, own: Maker | None = None
) -> list["_TableTerm | _OwnTerm"]:
    return [
        _TableTerm.read(term, causal=causal)
        if term.attribute is None
        else _OwnTerm.read(term, causal=causal, own=own)
        for term in split_terms(temporal)
    ]


@dataclass(frozen=True)
class _OwnTerm:
    """A term that names a user's own code."""

    make: Maker
    causal: bool

    @classmethod
    def read(cls, term: Term, *, causal: bool, own: Maker | None) -> "_OwnTerm":
        options = parse_options(term)
        causal = _resolve_causal(term.name, options.pop("causal", causal), all_causal=causal)
        make = import_own(term) if own is None else own
        return cls(own_maker(make, causal=causal, name=term.name, options=options), causal)


@dataclass(frozen=True)
class _TableTerm:
    """A term that names entries of the table.

    Attributes:
        makers: Constructors, the innermost module first.
        gated: The modules are inside a `Gate`.
        options: Values by keyword.
        causal: The modules look at past frames only.
    """

    makers: tuple[Maker, ...]
    gated: bool
    options: Mapping[str, Any]
    causal: bool

    @classmethod
    def read(cls, term: Term, *, causal: bool) -> "_TableTerm":
        names = term.names
        parts = [part.strip() for part in names.split("+")]
        options = parse_options(term)
        causal = _resolve_causal(names, options.pop("causal", causal), all_causal=causal)
        gated = True
        match [entry for part in parts for entry in _look_up(part, term=names, causal=causal)]:
            case [alone]:
                makers, gated = [alone.site or alone.gate], alone.site is None
            case [before, after]:
                makers = [before.motion, after.attention]
            case _:
                makers = []
        chosen = tuple(maker for maker in makers if maker is not None)
        if not chosen or len(chosen) < len(makers):
            raise UsageError(
                f"temporal {names!r} is not a possible combination: before a '+' write one of "
                f"{_names_with_role('motion')}; after it one of {_names_with_role('attention')}; "
                f"alone one of {_names_with_role('site', 'gate')}. Join other modules with ','"
            )
        read = cls(chosen, gated, options, causal)
        read._check_options(names)
        return read

    def make(self, *, channels: int, num_frames: int) -> nn.Module:
        self._check_reduction(channels)
        if not self.gated:
            return self._build(self.makers[0], channels=channels, num_frames=num_frames)
        gate_options = {key: self.options[key] for key in _GATE_OPTIONS & self.options.keys()}
        width = narrow_width(channels, reduction=gate_options.get("reduction", _GATE_REDUCTION))
        first, *others = self.makers
        inner = self._build(first, channels=width, num_frames=num_frames)
        for maker in others:
            inner = self._build(maker, inner, channels=width, num_frames=num_frames)
        return Gate(inner, channels=channels, **gate_options)

    def _build(self, maker: Maker, *motion: nn.Module, **arguments: int) -> nn.Module:
        available = {**arguments, **self.options}
        return maker(
            *motion, **{key: available[key] for key in _keywords(maker) & available.keys()}
        )

    def _check_options(self, names: str) -> None:
        known = set().union(*(_keywords(maker) for maker in self.makers))
        if self.gated:
            known |= _GATE_OPTIONS
        known -= {"channels", "num_frames"}
        for option in self.options:
            if option not in known:
                raise UsageError(
                    f"temporal {names!r} has no option {option!r}"
                    f"{' in its causal variant' if self.causal else ''}; "
                    f"its options are {', '.join(sorted(known)) or 'none'}"
                )
        makers = (*self.makers, Gate) if self.gated else self.makers
        for maker in makers:
            for option, parameter in inspect.signature(maker).parameters.items():
                if option in self.options:
                    _check_type(names, option, self.options[option], parameter.default)

    def _check_reduction(self, channels: int) -> None:
        """Refuse an explicit reduction that leaves no channel; the default is limited instead."""
        reduction = self.options.get("reduction", 1)
        if reduction > channels:
            raise UsageError(
                f"{reduction = } leaves no channel of the {channels} at a site; choose {channels} "
                "or less, or leave out such sites by where= or stages="
            )


_VALUE_TYPES = {  # type of the default -> accepted types, and their name in messages
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    str: ((str,), "a word"),
}


def _check_type(names: str, option: str, value: object, default: object) -> None:
    types, wanted = _VALUE_TYPES.get(type(default), ((object,), ""))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UsageError(
            f"temporal {names!r} has {option}={value!r}, wanted {wanted}, "
            f"for example {option}={default}"
        )


def _keywords(maker: Maker) -> set[str]:
    parameters = inspect.signature(maker).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


_GATE_OPTIONS = _keywords(Gate) - {"channels"}
_GATE_REDUCTION = inspect.signature(Gate).parameters["reduction"].default


def _names_with_role(*roles: str) -> str:
    """Return the names of the table that have one of these roles; an alias has the role `site`."""
    return ", ".join(
        name
        for name, entry in sorted(TEMPORAL.items())
        if any(getattr(entry, role, isinstance(entry, str) and role == "site") for role in roles)
    )


def _look_up(name: str, *, term: str, causal: bool) -> tuple[Mechanism, ...]:
    """Return the entries of the table for a name: one, or several for an alias.

    Args:
        name: One name of the term.
        term: The whole term, for messages.
        causal: Return the causal variants.

    Raises:
        UsageError: The name is unknown or has no causal variant.
    """
    entry = TEMPORAL.get(name)
    if name == "none":
        raise UsageError("temporal 'none' cannot be joined with other modules; leave it out")
    if entry is None:
        listed = f"known: {', '.join(sorted(TEMPORAL))}, none"
        hint = did_you_mean(name, [*TEMPORAL, "none"], then=listed)
        inside = "" if name == term else f" in {term!r}"
        raise UsageError(
            f"temporal {name!r}{inside} is unknown; {hint}; "
            "join with '+' (motion feeds attention) and ',' (one after the other)"
        )
    if isinstance(entry, str):
        parts = entry.split("+")
        return tuple(m for p in parts for m in _look_up(p, term=term, causal=causal))
    if causal and name not in CAUSAL:
        raise UsageError(
            f"temporal {name!r} reads future frames and has no causal variant; "
            f"choose one of {', '.join(sorted(CAUSAL))}, m2a, or leave causal out"
        )
    return (CAUSAL[name] if causal else entry,)


def _resolve_causal(name: str, value: object, *, all_causal: bool) -> bool:
    """Return the value of the option `causal` of a term.

    Raises:
        UsageError: It is not a bool, or false although all terms must be causal.
    """
    if not isinstance(value, bool):
        raise UsageError(f"temporal {name!r} has causal={value!r}; choose true or false")
    if all_causal and not value:
        raise UsageError(
            f"temporal {name!r} has causal=false, but causal=True holds for all modules; "
            "remove one of the two"
        )
    return value
