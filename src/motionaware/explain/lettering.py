"""Fonts for the texts of pictures: every character from a font that has it, and no mathtext.

matplotlib draws a box where its font lacks a character, and warns. Class names may be in any
script, so fonts that have their characters are looked for among those that are installed.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

_UNFIT = re.compile("Last ?Resort|Color|Blank|Bitmap", re.IGNORECASE)  # boxes, or no outlines
_NO_GLYPH = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})  # categories that need none
_MOST_SHOWN = 12  # characters that a note lists
_PACKAGES = {  # first word of a character's name in Unicode -> Debian's package
    "CJK": "fonts-noto-cjk",
    "HIRAGANA": "fonts-noto-cjk",
    "KATAKANA": "fonts-noto-cjk",
    "HANGUL": "fonts-noto-cjk",
    "IDEOGRAPHIC": "fonts-noto-cjk",
    "FULLWIDTH": "fonts-noto-cjk",
}
_OTHER_PACKAGE = "fonts-noto-core"
_SYMBOL_PACKAGE = "fonts-symbola"  # emoji in outlines; matplotlib cannot draw fonts in colour


class Face(NamedTuple):
    """An installed font.

    Attributes:
        family: Its name.
        characters: Gives the code points that it has; reading them takes a moment.
    """

    family: str
    characters: Callable[[], Set[int]]


def text_width(text: str) -> int:
    """Width of a line of text in columns: Chinese, Japanese and Korean characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def shortened(name: str, width: int) -> str:
    """A name of at most so many columns, on one line; an ellipsis stands for its middle.

    Names of one data set often begin alike, so their ends are kept too.

    >>> shortened("Pretending to put something behind something", 24)
    'Pretending t…d something'
    """
    name = " ".join(name.split())
    if text_width(name) <= width:
        return name
    start, end = len(name) // 2, len(name) // 2
    while text_width(name[:start] + name[end:]) > width - 1:
        start, end = (start - 1, end) if start > len(name) - end else (start, end + 1)
    return f"{name[:start]}…{name[end:]}"


@contextmanager
def lettering(texts: Iterable[str]) -> Iterator[str | None]:
    """Let matplotlib draw texts with fonts that have their characters, and `$` and `_` as they are.

    Holds for what is drawn and saved inside the `with` block. Yields a sentence for the user where
    no installed font has some characters, else None.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context, rcParams

    needed = characters_to_draw(texts) - {chr(code) for code in _base_characters()}
    families, missing = choose_families(needed, _installed_faces(needed)) if needed else ([], set())
    if missing and _add_new_fonts():
        families, missing = choose_families(needed, _installed_faces(needed))
    settings: dict[Any, Any] = {
        "font.family": [*rcParams["font.family"], *families],
        "text.parse_math": False,
        "text.usetex": False,
    }
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the note says so
        yield missing_words(missing) if missing else None


def characters_to_draw(texts: Iterable[str]) -> set[str]:
    r"""The characters of texts that need a glyph.

    >>> sorted(characters_to_draw(["a b\n", "b\u200d"]))
    ['a', 'b']
    """
    return {
        one
        for text in texts
        for one in text
        if unicodedata.category(one) not in _NO_GLYPH
        and not unicodedata.name(one, "").startswith("VARIATION SELECTOR")
    }


def choose_families(needed: Set[str], faces: Iterable[Face]) -> tuple[list[str], set[str]]:
    """The first fonts that have the characters, and the characters that none has.

    Args:
        needed: Characters.
        faces: Installed fonts, the preferred ones first; no more are read than are needed.
    """
    families: list[str] = []
    missing = set(needed)
    for face in faces:
        if not missing:
            break
        found = {one for one in missing if ord(one) in face.characters()}
        if found:
            families.append(face.family)
            missing -= found
    return families, missing


def missing_words(missing: Set[str]) -> str:
    """A sentence that says which characters no font has, and what to install."""
    shown = sorted(missing)
    more = "" if len(shown) <= _MOST_SHOWN else f" and {len(shown) - _MOST_SHOWN} more"
    packages = " and ".join(sorted({_package_of(one) for one in missing}))
    return (
        f"no installed font has the characters {''.join(shown[:_MOST_SHOWN])}{more}: pictures show "
        f"boxes in their place; install a font that has them, on Debian or Ubuntu {packages}, "
        "elsewhere one of the Noto fonts"
    )


def _package_of(character: str) -> str:
    if unicodedata.category(character) == "So":
        return _SYMBOL_PACKAGE
    return _PACKAGES.get(unicodedata.name(character, "").partition(" ")[0], _OTHER_PACKAGE)


def _base_characters() -> Set[int]:
    from matplotlib.font_manager import FontProperties, findfont

    return _read_characters(findfont(FontProperties()), 0)


def _installed_faces(needed: Set[str]) -> list[Face]:
    """Upright fonts of normal weight, one a family, the preferred ones for these characters first.

    Chinese, Japanese and Korean share code points but not shapes: kana ask for a Japanese font,
    hangul for a Korean one.
    """
    from matplotlib.font_manager import fontManager

    names = [unicodedata.name(one, "") for one in needed]
    region = "SC"
    for script, wanted in (("HANGUL", "KR"), ("HIRAGANA", "JP"), ("KATAKANA", "JP")):
        if any(name.startswith(script) for name in names):
            region = wanted

    def place(entry: "FontEntry") -> tuple[bool, bool, bool, str]:
        name = entry.name
        return (
            re.search("Mono|Serif|Code", name) is not None,
            not re.search(rf"\b{region}\b", name),
            not name.startswith("Noto Sans"),
            name,
        )

    usual = {
        entry.name: entry
        for entry in fontManager.ttflist
        if entry.style == "normal"
        and entry.weight in (400, "normal", "regular", "book")
        and entry.size == "scalable"
        and not _UNFIT.search(entry.name)
    }
    return [_face(entry) for entry in sorted(usual.values(), key=place)]


def _face(entry: "FontEntry") -> Face:
    index = getattr(entry, "index", 0)  # of a collection's fonts; matplotlib 3.11 and later
    return Face(entry.name, lambda: _read_characters(entry.fname, index))


@cache
def _read_characters(path: str, index: int) -> Set[int]:
    """The code points of a font; none of one that matplotlib cannot draw."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path, face_index=index) if index else FT2Font(path)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, TypeError):
        return frozenset()


def _add_new_fonts() -> bool:
    """Tell matplotlib of fonts installed after it made its list; whether there are any."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    added = False
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
                added = True
            except (OSError, RuntimeError):
                continue  # a bitmap font, or a damaged file
    return added
