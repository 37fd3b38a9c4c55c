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


def did_you_mean(name: str, known: Iterable[str], *, num: int = 1, then: str = "") -> str:
    """Return the hint of an error about an unknown name, followed by `then`.

    Args:
        name: The unknown name.
        known: The names that exist. Those that begin with `name` come first.
        num: At most this many are offered; none if no known name resembles it.
        then: What follows, with a small first letter. After a hint it starts a new sentence.

    >>> did_you_mean("m2b", ["m2a", "tsm"], then="known: m2a, tsm")
    "did you mean 'm2a'? Known: m2a, tsm"
    >>> did_you_mean("convolution", ["m2a", "tsm"], then="known: m2a, tsm")
    'known: m2a, tsm'
    """
    known = list(known)
    longer = [one for one in known if name and one.startswith(name)]
    near = (longer or difflib.get_close_matches(name, known, n=num))[:num]
    if not near:
        return then
    return f"did you mean {' or '.join(map(repr, near))}? {then[:1].upper()}{then[1:]}".strip()
