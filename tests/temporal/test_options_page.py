"""docs/options.md lists every option there is, with the value that it has if nobody writes it."""

import inspect
import re
from pathlib import Path

from motionaware.temporal.gate import Gate
from motionaware.temporal.table import TEMPORAL, Maker

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
FACTS = {"channels", "num_frames"}


def options_of(maker: Maker, name: str) -> set[tuple[str, str, str]]:
    return {
        (one.name, name, str(one.default).lower())
        for one in inspect.signature(maker).parameters.values()
        if one.kind is one.KEYWORD_ONLY and one.name not in FACTS
    }


def test_the_page_and_the_constructors_have_the_same_options():
    there = options_of(Gate, "every gate")
    for name, entry in TEMPORAL.items():
        if isinstance(entry, str):
            continue
        for maker in (entry.site, entry.gate, entry.motion, entry.attention):
            there |= options_of(maker, name) if maker is not None else set()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    written = {(option, of.strip().strip("`"), default) for option, of, default in rows}
    assert written == there
