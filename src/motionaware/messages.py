"""Parts of messages to users: counted nouns, and the nearest known name."""

import difflib
from collections.abc import Iterable


def count(number: int, noun: str) -> str:
    """Return a number and the noun that it counts, in the plural where needed.

    >>> count(1, "class"), count(2, "class"), count(0, "video")
    ('1 class', '2 classes', '0 videos')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def did_you_mean(name: str, known: Iterable[str], *, num: int = 1) -> str:
    """Return the hint of an error about an unknown name, or "" where no known name resembles it.

    The hint ends with a space, so that the next sentence can follow it directly.

    Args:
        name: The unknown name.
        known: The names that exist. Those that begin with `name` come first.
        num: At most this many are offered.

    >>> did_you_mean("m2b", ["m2a", "tsm"])
    "did you mean 'm2a'? "
    >>> did_you_mean("convolution", ["m2a", "tsm"])
    ''
    """
    known = list(known)
    longer = [one for one in known if name and one.startswith(name)]
    near = (longer or difflib.get_close_matches(name, known, n=num))[:num]
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""
