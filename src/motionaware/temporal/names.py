"""Temporal modules, clip -> clip of the same shape; the grammar of their names (see table.py).

A temporal module is chosen by one string, or by any callable that makes one:

| written | means |
|---|---|
| `none` | no temporal module: frames are averaged (TSN) |
| `m2a`, `tea`, `tsm`, ... | one entry of the table |
| `motion+attention`, `tea+tam`, ... | one gate in which a motion mechanism feeds an attention |
| `m2a,tsm` | several modules at a site, in that order |
| `m2a(reduction=4)` | options in brackets, handed to the parts whose constructors name them |
| `m2a(causal=true)` | looking backwards only; see causal.py |
| `tea@official` | as the M2A authors' code has it, where that is not as its paper has it |
| `mix.py:Mix(kernel=5)` | your own class or function in a file; see own.py for the path |
| `my_package.mix:Mix` | your own class or function in a module; likewise |
| `lambda *, channels, num_frames: ...` | your own module, handed in from Python |

An own module is handed `channels` and `num_frames` if its constructor names them, and the options
in brackets. It joins others by `,`, not by `+`.
"""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from motionaware.errors import UsageError
from motionaware.messages import did_you_mean
from motionaware.temporal.gate import Gate, narrow_width
from motionaware.temporal.grammar import Written, split_terms
from motionaware.temporal.own import (
    import_own,
)
from motionaware.temporal.table import CAUSAL, TEMPORAL, Maker, Mechanism


def site_maker(
    temporal: str | Maker, *, causal: bool = False, own: Maker | None = None
) -> Maker | None:
    """Read a temporal name; give what makes its module at each site, or None for `none`.

    Args:
        temporal: The name, or a maker.
        causal: All modules look backwards only; a maker is told so by the keyword `causal`.
        own: Stands for the own module that the name refers to; nothing is imported then.

    Raises:
        ValueError: The name does not follow the grammar, an option is unknown, something has no
            causal variant, what is given makes no modules, or an own module cannot be imported.

    >>> site_maker("m2a")(channels=64, num_frames=8).down
    Conv2d(64, 8, kernel_size=(1, 1), stride=(1, 1))
    >>> site_maker("m2b")
    Traceback (most recent call last):
    ...
    ValueError: temporal 'm2b' is unknown; did you mean 'm2a'? Known: action, attention, identity, \
m2a, motion, patch, patch@official, tam, tam@official, tdn, tdn@official, tdn_stem, tea, \
tea@official, tsm, none; join with '+' (motion feeds attention) and ',' (one after the other)
    """
    if not isinstance(temporal, str):
        return _own_maker(temporal, causal=causal)
    if temporal.strip() == "none":
        return None
    terms = _read(temporal, causal=causal, own=own)

    def make(*, channels: int, num_frames: int) -> nn.Module:
        modules = [term.make(channels=channels, num_frames=num_frames) for term in terms]
        return modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    return make


_FACTS = ("channels", "num_frames", "causal")  # handed in; no options


def _own_maker(
    make: Any, *, causal: bool, name: str = "", options: Mapping[str, Any] | None = None
) -> Maker:
    """Hand a callable the options, and the facts that it names or all where it takes any keyword.

    Args:
        make: A class or function.
        causal: Modules look backwards only.
        name: As a user wrote it, for errors; that of the callable by default.
        options: Further keywords, by a user's name.
    """
    name, options = name or str(make), options or {}
    if isinstance(make, nn.Module):
        raise UsageError(
            f"temporal is one {type(make).__name__}, wanted what makes one for each site: "
            "give its class or a function that makes it, not an instance"
        )
    if not callable(make):
        raise UsageError(
            f"temporal {name} is {make!r}, a {type(make).__name__}; wanted a class or a function "
            "that makes a module"
        )
    try:
        signature = inspect.signature(make)
    except ValueError as error:
        raise UsageError(
            f"temporal {name} does not say which arguments it takes ({error}); wrap it into a "
            "function that makes the module"
        ) from error
    if causal and "causal" not in signature.parameters:
        raise UsageError(
            f"{causal = }, but {name} takes no keyword 'causal'; let it take one, and then "
            "make a module that looks backwards only (docs/streaming.md)"
        )
    takes_any = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    takes_any &= make.__init__ is not nn.Module.__init__  # which writes **kwargs and refuses them
    by_keyword = [
        one.name
        for one in signature.parameters.values()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    for option in options:
        if option in _FACTS or not (takes_any or option in by_keyword):
            known = sorted(set(by_keyword) - set(_FACTS))
            raise UsageError(
                f"temporal {name} has no option {option!r}; its options are "
                f"{', '.join(known) or 'none'}"
            )

    def made(*, channels: int, num_frames: int) -> Any:  # `insert` looks at what it is
        facts = {"channels": channels, "num_frames": num_frames}
        facts |= {"causal": True} if causal else {}
        named = {key: facts[key] for key in facts if takes_any or key in signature.parameters}
        named |= options
        try:
            signature.bind(**named)
        except TypeError as error:
            raise UsageError(
                f"temporal {name} cannot be called: {error}; handed in are, where it names them, "
                f"the keywords {', '.join(facts)}, and the options in brackets; give all else a "
                "default"
            ) from error
        return make(**named)

    return made


def is_causal(temporal: str | Maker, *, own: Maker | None = None) -> bool:
    """Tell whether a name makes modules that look backwards only; `own` as for `site_maker`."""
    if not isinstance(temporal, str) or temporal.strip() == "none":
        return False
    return all(term.causal for term in _read(temporal, causal=False, own=own))


def _read(temporal: str, *, causal: bool, own: Maker | None = None) -> list["_Term | _OwnTerm"]:
    return [
        _Term.read(term.names, term.options, causal=causal)
        if term.attribute is None
        else _OwnTerm.read(term, causal=causal, own=own)
        for term in split_terms(temporal)
    ]


@dataclass(frozen=True)
class _OwnTerm:
    """One own module at a site."""

    make: Maker
    causal: bool

    @classmethod
    def read(cls, term: Written, *, causal: bool, own: Maker | None) -> "_OwnTerm":
        name = f"{term.names}:{term.attribute}"
        options = _read_options(name, term.options)
        causal = _choose_causal(name, options.pop("causal", causal), asked=causal)
        make = import_own(term) if own is None else own
        return cls(_own_maker(make, causal=causal, name=name, options=options), causal)


@dataclass(frozen=True)
class _Term:
    """One module at a site: its makers, the innermost first, and the options in its brackets."""

    makers: tuple[Maker, ...]
    gated: bool
    options: Mapping[str, Any]
    causal: bool

    @classmethod
    def read(cls, names: str, written_options: str, *, causal: bool) -> "_Term":
        parts = [part.strip() for part in names.split("+")]
        options = _read_options(names, written_options)
        causal = _choose_causal(names, options.pop("causal", causal), asked=causal)
        gated = True
        match [found for part in parts for found in _look_up(part, written=names, causal=causal)]:
            case [alone]:
                makers, gated = [alone.site or alone.gate], alone.site is None
            case [before, after]:
                makers = [before.motion, after.attention]
            case _:
                makers = []
        chosen = tuple(maker for maker in makers if maker is not None)
        if not chosen or len(chosen) < len(makers):
            raise UsageError(
                f"temporal {names!r} cannot be put together: before a '+' goes one of "
                f"{_having('motion')}; after it one of {_having('attention')}; alone one of "
                f"{_having('site', 'gate')}. Put a module after another with ','"
            )
        term = cls(chosen, gated, options, causal)
        term._check_options(names)
        return term

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

    def _build(self, maker: Maker, *motion: nn.Module, **facts: int) -> nn.Module:
        given = {**facts, **self.options}
        return maker(*motion, **{key: given[key] for key in _keywords(maker) & given.keys()})

    def _check_options(self, names: str) -> None:
        known = set().union(*(_keywords(maker) for maker in self.makers))
        if self.gated:
            known |= _GATE_OPTIONS
        known -= {"channels", "num_frames"}
        for option in self.options:
            if option not in known:
                raise UsageError(
                    f"temporal {names!r} has no option {option!r}"
                    f"{' where it is causal' if self.causal else ''}; "
                    f"its options are {', '.join(sorted(known)) or 'none'}"
                )
        makers = (*self.makers, Gate) if self.gated else self.makers
        for maker in makers:
            for option, parameter in inspect.signature(maker).parameters.items():
                if option in self.options:
                    _check_kind(names, option, self.options[option], parameter.default)

    def _check_reduction(self, channels: int) -> None:
        """Refuse what was asked for and would be cut to one channel; the defaults are cut."""
        reduction = self.options.get("reduction", 1)
        if reduction > channels:
            raise UsageError(
                f"{reduction = } leaves no channel of the {channels} at a site; choose {channels} "
                "or less, or leave out such sites by where= or stages="
            )


_KINDS = {  # of a default -> what may stand for it, and in words
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a word"),
}


def _check_kind(names: str, option: str, value: object, default: object) -> None:
    kinds, words = _KINDS.get(type(default), ((object,), ""))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UsageError(
            f"temporal {names!r} has {option}={value!r}, wanted {words}, "
            f"{option}={default} for example"
        )


def _keywords(maker: Maker) -> set[str]:
    parameters = inspect.signature(maker).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


_GATE_OPTIONS = _keywords(Gate) - {"channels"}
_GATE_REDUCTION = inspect.signature(Gate).parameters["reduction"].default


def _having(*roles: str) -> str:
    """Names in the table that can be written there; other spellings stand alone."""
    return ", ".join(
        name
        for name, entry in sorted(TEMPORAL.items())
        if any(getattr(entry, role, isinstance(entry, str) and role == "site") for role in roles)
    )


def _look_up(name: str, *, written: str, causal: bool) -> tuple[Mechanism, ...]:
    entry = TEMPORAL.get(name)
    if name == "none":
        raise UsageError("temporal 'none' stands alone; leave it out where modules are named")
    if entry is None:
        hint = did_you_mean(name, [*TEMPORAL, "none"])
        inside = "" if name == written else f" in {written!r}"
        raise UsageError(
            f"temporal {name!r}{inside} is unknown; {hint}Known: {', '.join(sorted(TEMPORAL))}, "
            "none; join with '+' (motion feeds attention) and ',' (one after the other)"
        )
    if isinstance(entry, str):
        parts = entry.split("+")
        return tuple(m for p in parts for m in _look_up(p, written=written, causal=causal))
    if causal and name not in CAUSAL:
        raise UsageError(
            f"temporal {name!r} looks at frames still to come and has no causal variant; "
            f"choose among {', '.join(sorted(CAUSAL))}, m2a, or leave causal out"
        )
    return (CAUSAL[name] if causal else entry,)


def _choose_causal(names: str, own: object, *, asked: bool) -> bool:
    """What `causal` in a term's brackets says, held against what is asked of all terms."""
    if not isinstance(own, bool):
        raise UsageError(f"temporal {names!r} has causal={own!r}; choose true or false")
    if asked and not own:
        raise UsageError(f"temporal {names!r} has causal=false, but causal=True is asked of all")
    return own


_WORDS = {"true": True, "false": False}


def _read_options(names: str, options: str) -> dict[str, Any]:
    """`reduction=4, last=zero` -> {"reduction": 4, "last": "zero"}; bare words are strings."""
    try:
        call = ast.parse(f"f({options})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return {
            keyword.arg: _WORDS.get(keyword.value.id, keyword.value.id)
            if isinstance(keyword.value, ast.Name)
            else ast.literal_eval(keyword.value)
            for keyword in call.keywords
            if keyword.arg
        }
    except (AssertionError, SyntaxError, ValueError):
        raise UsageError(
            f"the options of temporal {names!r} cannot be read: {options!r}; "
            "write name=value pairs, e.g. 'm2a(reduction=4, last=zero)'"
        ) from None
