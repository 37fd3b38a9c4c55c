"""Parts of messages to users: counted nouns and suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def count(number: int, noun: str) -> str:
    """Return a number with a noun in the singular or plural.

    >>> count(1, "class"), count(2, "class"), count(0, "video")
    ('1 class', '2 classes', '0 videos')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def did_you_mean(name: str, known: Iterable[str], *, num: int = 1) -> str:
    """Return a hint with the known names most similar to an unknown name, or "".

    The hint ends with a space, so that a sentence can follow it directly.

    Args:
        name: The unknown name.
        known: The names that exist. Names that begin with `name` are preferred.
        num: Maximum number of names in the hint.

    >>> did_you_mean("m2b", ["m2a", "tsm"])
    "did you mean 'm2a'? "
    >>> did_you_mean("convolution", ["m2a", "tsm"])
    ''
    """
    known = list(known)
    longer = [candidate for candidate in known if name and candidate.startswith(name)]
    similar = (longer or difflib.get_close_matches(name, known, n=num))[:num]
    return f"did you mean {' or '.join(map(repr, similar))}? " if similar else ""
