"""Brace expansion of shard names, as in a shell."""

import re
from collections.abc import Iterator

from motionaware.errors import UsageError

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern with `{a,b}` and `{00..12}` stands for.

    Braces may be nested. If an end of a range starts with 0, all its numbers have as many digits as
    the longer end.

    Raises:
        UsageError: Braces are not balanced, or contain neither a comma nor a range.

    >>> expand_braces("{train,val}-{08..10}.tar")[:4]
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar']
    >>> expand_braces("{train-{0..1},val-0}.tar")
    ['train-0.tar', 'train-1.tar', 'val-0.tar']
    """
    begin = pattern.find("{")
    if begin < 0:
        if "}" in pattern:
            raise UsageError(f"{pattern!r} has a closing brace without an opening one")
        return [pattern]
    end, commas = _matching_brace(pattern, begin)
    inside = pattern[begin + 1 : end]
    if limits := _RANGE.fullmatch(inside):
        middles = list(_numbers(*limits.groups()))
    elif commas:
        starts = [begin, *commas]
        parts = [pattern[a + 1 : b] for a, b in zip(starts, [*commas, end], strict=True)]
        middles = [name for part in parts for name in expand_braces(part)]
    else:
        raise UsageError(f"{{{inside}}} is neither a list {{a,b}} nor a range {{00..12}}")
    tails = expand_braces(pattern[end + 1 :])
    return [f"{pattern[:begin]}{middle}{tail}" for middle in middles for tail in tails]


def _matching_brace(pattern: str, begin: int) -> tuple[int, list[int]]:
    """Return the position of the brace that closes another, and of the commas between them."""
    depth, commas = 0, []
    for position in range(begin, len(pattern)):
        match pattern[position]:
            case "{":
                depth += 1
            case "}":
                depth -= 1
            case "," if depth == 1:
                commas.append(position)
        if depth == 0:
            return position, commas
    raise UsageError(f"{pattern!r} has an opening brace without a closing one")


def _numbers(first: str, last: str) -> Iterator[str]:
    is_padded = any(number.startswith("0") and number != "0" for number in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    low, high = sorted((int(first), int(last)))
    yield from (f"{number:0{width}d}" for number in range(low, high + 1))
