"""docs/options.md lists every option with its default."""

import inspect
import re
from pathlib import Path

from motionaware.temporal.gate import Gate
from motionaware.temporal.table import TEMPORAL, Maker

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
SITE_ARGUMENTS = {"channels", "num_frames"}


def options_of(maker: Maker, name: str) -> set[tuple[str, str, str]]:
    return {
        (one.name, name, str(one.default).lower())
        for one in inspect.signature(maker).parameters.values()
        if one.kind is one.KEYWORD_ONLY and one.name not in SITE_ARGUMENTS
    }


def test_the_page_lists_the_options_of_the_constructors():
    existing = options_of(Gate, "every gate")
    for name, entry in TEMPORAL.items():
        if isinstance(entry, str):
            continue
        for maker in (entry.site, entry.gate, entry.motion, entry.attention):
            existing |= options_of(maker, name) if maker is not None else set()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    documented = {(option, of.strip().strip("`"), default) for option, of, default in rows}
    assert documented == existing
