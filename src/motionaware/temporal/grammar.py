"""Split a temporal name into its terms: `m2a(reduction=4),mix.py:Mix` has two."""

import re
from typing import NamedTuple

from motionaware.errors import UsageError

_BRACKETS = r"(?:\(((?:[^()]|\([^()]*\))*)\))?"
_TERM = re.compile(rf"\s*([\w@+\s]+?)\s*{_BRACKETS}\s*(,|$)")
_OWN = re.compile(rf"\s*(\S.*?)\s*:\s*([^\W\d][\w.]*)\s*{_BRACKETS}\s*(,|$)")


class Written(NamedTuple):
    """One term as it is written.

    Attributes:
        names: Names of the table joined by `+`; of an own module the file or dotted path.
        attribute: Name of the class or function of an own module; None for names of the table.
        options: What the brackets hold.
    """

    names: str
    attribute: str | None
    options: str

    def __str__(self) -> str:
        """The term as a user would write it."""
        name = self.names if self.attribute is None else f"{self.names}:{self.attribute}"
        return f"{name}({self.options})" if self.options else name


def split_terms(temporal: str) -> list[Written]:
    """Split a name at the commas outside of brackets.

    Raises:
        ValueError: The name does not follow the grammar.

    >>> split_terms("motion+attention(reduction=4), my code/mix.py:Mix(kernel=5)")
    [Written(names='motion+attention', attribute=None, options='reduction=4'), \
Written(names='my code/mix.py', attribute='Mix', options='kernel=5')]
    """
    terms, end = [], 0
    while True:
        if match := _TERM.match(temporal, end):
            terms.append(Written(match[1], None, match[2] or ""))
        elif match := _OWN.match(temporal, end):
            terms.append(Written(match[1], match[2], match[3] or ""))
        else:
            raise UsageError(
                f"temporal {temporal!r} cannot be read from {temporal[end:]!r} on; "
                "write e.g. 'm2a', 'motion+attention', 'm2a,tsm', 'm2a(reduction=4)', or "
                "'mix.py:Mix(kernel=5)' for a module of your own, which joins others by ',' only"
            )
        end = match.end()
        if match[match.re.groups] == "":
            return terms
