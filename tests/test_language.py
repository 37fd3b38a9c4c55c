"""Phrases to avoid in source, docs and recipes: plain technical English reads faster.

This is a reminder, not a complete check. To keep such a phrase, for example in a quotation, end the
line with the comment `language: ok` (in Markdown: `<!-- language: ok -->`).
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = "docs/results/*/*"  # reports of finished comparisons
KEEP = "language: ok"

PHRASES = {
    # phrase: plain English
    "anew": "again",
    "as it is": "unchanged",
    "as it was": "unchanged",
    "as they are": "unchanged",
    "as they were": "unchanged",
    "asks for": "requires, selects",
    "at the door": "at the start; in the public function",
    "by birth": "by class",
    "by heart": "(say what happens)",
    "for whoever": "for a caller that",
    "forth": "forward",
    "held against": "compared with",
    "in company": "in the same batch",
    "in its company": "in the same batch",
    "in words": "as text",
    "is said": "is logged, is reported",
    "is told": "is logged, is reported",
    "are told": "are logged, are reported",
    "its word": "(say what is trusted)",
    "their word": "(say what is trusted)",
    "judge": "evaluate",
    "judged": "evaluated",
    "judges": "evaluates",
    "just now": "currently",
    "keep company": "are in the same batch",
    "likewise": "also, the same",
    "naught": "zero, nothing",
    "nobody": "(name the subject)",
    "of its own": "separate, a separate",
    "of one's own": "of the user",
    "of their own": "separate",
    "one's own": "the user's",
    "poured out": "printed",
    "put into words": "describe",
    "so has it": "(write a full sentence)",
    "speaks of": "refers to",
    "the way back": "the backward pass",
    "the way forth": "the forward pass",
    "told apart": "distinguished",
    "told from": "distinguished from",
    "what comes": "(name the input)",
    "whoever": "a caller that, code that",
}
PATTERN = re.compile(rf"\b({'|'.join(map(re.escape, PHRASES))})\b", re.IGNORECASE)


def files() -> list[Path]:
    found = [ROOT / "README.md"]
    for folder, suffixes in (
        ("src", (".py", ".html", ".jinja")),
        ("docs", (".md",)),
        ("recipes", ()),
    ):
        paths = sorted((ROOT / folder).rglob("*"))
        found += [path for path in paths if path.suffix in (suffixes or (".yaml", ".md"))]
    return [path for path in found if not path.relative_to(ROOT).match(GENERATED)]


def find_phrases(text: str) -> list[tuple[int, str]]:
    """Return line number and phrase of each phrase to avoid, also across line breaks."""
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        following = lines[number].strip().lstrip("#").strip() if number < len(lines) else ""
        if KEEP in line:
            continue
        for match in PATTERN.finditer(f"{line.rstrip()} {following}"):
            if match.start() < len(line.rstrip()):
                found.append((number, match[0].lower()))
    return found


def test_phrases_are_found_in_any_case_and_across_line_breaks():
    text = "Whoever reads\nit as\n# it is. The judgement of an expert\nstands anew  # language: ok"
    assert find_phrases(text) == [(1, "whoever"), (2, "as it is")]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrases_to_avoid(path: Path):
    name = path.relative_to(ROOT)
    found = [
        f"{name}:{number}: {phrase!r}, write: {PHRASES[phrase]}"
        for number, phrase in find_phrases(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
