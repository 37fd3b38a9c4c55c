"""Parses a temporal name: `m2a(reduction=4),mix.py:Mix` has two terms, the first with an option.

names.py makes modules from the terms.
"""

import ast
import re
from typing import Any, NamedTuple

from motionaware.errors import UsageError

_BRACKETS = r"(?:\(((?:[^()]|\([^()]*\))*)\))?"
_TABLE_TERM = re.compile(rf"\s*([\w@+\s]+?)\s*{_BRACKETS}\s*(,|$)")
_OWN_TERM = re.compile(rf"\s*(\S.*?)\s*:\s*([^\W\d][\w.]*)\s*{_BRACKETS}\s*(,|$)")
_BOOLEANS = {"true": True, "false": False}


class Term(NamedTuple):
    """The text of one term.

    Attributes:
        names: Names of the table joined by `+`; for a user's own code its file or dotted path.
        attribute: Name of the class or function in the user's own code; None for names of the
            table.
        options: Text between the brackets.
    """

    names: str
    attribute: str | None
    options: str

    def __str__(self) -> str:
        """Return the term as a user writes it."""
        return f"{self.name}({self.options})" if self.options else self.name

    @property
    def name(self) -> str:
        """The term without its options."""
        return self.names if self.attribute is None else f"{self.names}:{self.attribute}"


def split_terms(temporal: str) -> list[Term]:
    """Split a temporal name at the commas outside of brackets.

    Raises:
        UsageError: The name does not follow the grammar.

    >>> split_terms("motion+attention(reduction=4), my code/mix.py:Mix(kernel=5)")
    [Term(names='motion+attention', attribute=None, options='reduction=4'), \
Term(names='my code/mix.py', attribute='Mix', options='kernel=5')]
    """
    terms, end = [], 0
    while True:
        if match := _TABLE_TERM.match(temporal, end):
            terms.append(Term(match[1], None, match[2] or ""))
        elif match := _OWN_TERM.match(temporal, end):
            terms.append(Term(match[1], match[2], match[3] or ""))
        else:
            raise UsageError(
                f"temporal {temporal!r} cannot be parsed from {temporal[end:]!r} on; "
                "write for example 'm2a', 'motion+attention', 'm2a,tsm', 'm2a(reduction=4)', or "
                "'mix.py:Mix(kernel=5)' for your own module; join your own modules by ',' only"
            )
        end = match.end()
        if match[match.re.groups] == "":
            return terms


def parse_options(term: Term) -> dict[str, Any]:
    """Return the options of a term as keywords and values; bare words are strings.

    Raises:
        UsageError: The options are not `name=value` pairs.

    >>> parse_options(Term("m2a", None, "reduction=4, last=zero, cosine=true"))
    {'reduction': 4, 'last': 'zero', 'cosine': True}
    """
    try:
        call = ast.parse(f"f({term.options})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return {
            keyword.arg: _BOOLEANS.get(keyword.value.id, keyword.value.id)
            if isinstance(keyword.value, ast.Name)
            else ast.literal_eval(keyword.value)
            for keyword in call.keywords
            if keyword.arg
        }
    except (AssertionError, SyntaxError, ValueError):
        raise UsageError(
            f"the options of temporal {term.name!r} cannot be parsed: {term.options!r}; "
            "write name=value pairs, e.g. 'm2a(reduction=4, last=zero)'"
        ) from None
