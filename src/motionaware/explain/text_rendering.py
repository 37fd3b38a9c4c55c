"""Choose fonts for the texts in pictures, and shorten texts to a width.

matplotlib draws a box for a character that its font lacks, and warns. Class names may be in any
script, so the installed fonts are searched for their characters.
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

_UNSUITABLE = re.compile("Last ?Resort|Color|Blank|Bitmap", re.IGNORECASE)  # draw boxes or nothing
_WITHOUT_GLYPH = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})  # Unicode categories
_MAX_LISTED = 12  # characters in a note
_PACKAGES = {  # first word of a character's Unicode name -> Debian package
    "CJK": "fonts-noto-cjk",
    "HIRAGANA": "fonts-noto-cjk",
    "KATAKANA": "fonts-noto-cjk",
    "HANGUL": "fonts-noto-cjk",
    "IDEOGRAPHIC": "fonts-noto-cjk",
    "FULLWIDTH": "fonts-noto-cjk",
}
_OTHER_PACKAGE = "fonts-noto-core"
_SYMBOL_PACKAGE = "fonts-symbola"  # emoji as outlines; matplotlib cannot draw colour fonts


class Font(NamedTuple):
    """An installed font.

    Attributes:
        family: Name of the font family.
        characters: Reads the code points of the font from its file; slow.
    """

    family: str
    characters: Callable[[], Set[int]]


def text_width(text: str) -> int:
    """Return the width of a line of text in columns; CJK characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def shorten(name: str, width: int) -> str:
    """Shorten a name to one line of at most `width` columns; an ellipsis replaces its middle.

    The end is kept because many class names of a data set share their beginning.

    >>> shorten("Pretending to put something behind something", 24)
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
def fonts_for(texts: Iterable[str]) -> Iterator[str | None]:
    """Set matplotlib's fonts so that they have all characters of the texts; turn mathtext off.

    The settings hold for drawing and saving inside the `with` block. Without mathtext `$` and `_`
    are drawn literally. Yields a note for the user if no installed font has some characters, else
    None.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context, rcParams

    needed = characters_to_draw(texts) - {chr(code) for code in _base_characters()}
    families, missing = choose_families(needed, _installed_fonts(needed)) if needed else ([], set())
    if missing and _add_new_fonts():
        families, missing = choose_families(needed, _installed_fonts(needed))
    settings: dict[Any, Any] = {
        "font.family": [*rcParams["font.family"], *families],
        "text.parse_math": False,
        "text.usetex": False,
    }
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the note reports it
        yield missing_glyphs_note(missing) if missing else None


def characters_to_draw(texts: Iterable[str]) -> set[str]:
    r"""Return the characters of texts that need a glyph.

    >>> sorted(characters_to_draw(["a b\n", "b\u200d"]))
    ['a', 'b']
    """
    return {
        one
        for text in texts
        for one in text
        if unicodedata.category(one) not in _WITHOUT_GLYPH
        and not unicodedata.name(one, "").startswith("VARIATION SELECTOR")
    }


def choose_families(needed: Set[str], fonts: Iterable[Font]) -> tuple[list[str], set[str]]:
    """Return the families of the first fonts that have the characters, and the missing characters.

    Args:
        needed: The characters to draw.
        fonts: Installed fonts, the preferred ones first. Reading stops once all characters are
            found.
    """
    families: list[str] = []
    missing = set(needed)
    for font in fonts:
        if not missing:
            break
        found = {one for one in missing if ord(one) in font.characters()}
        if found:
            families.append(font.family)
            missing -= found
    return families, missing


def missing_glyphs_note(missing: Set[str]) -> str:
    """Return a sentence that lists the characters without a font and the packages to install."""
    characters = sorted(missing)
    more = "" if len(characters) <= _MAX_LISTED else f" and {len(characters) - _MAX_LISTED} more"
    packages = " and ".join(sorted({_package_of(one) for one in missing}))
    return (
        f"no installed font has the characters {''.join(characters[:_MAX_LISTED])}{more}: pictures "
        f"show boxes in their place; install a font that has them: {packages} on Debian or Ubuntu, "
        "elsewhere one of the Noto fonts"
    )


def _package_of(character: str) -> str:
    if unicodedata.category(character) == "So":
        return _SYMBOL_PACKAGE
    return _PACKAGES.get(unicodedata.name(character, "").partition(" ")[0], _OTHER_PACKAGE)


def _base_characters() -> Set[int]:
    from matplotlib.font_manager import FontProperties, findfont

    return _read_characters(findfont(FontProperties()), 0)


def _installed_fonts(needed: Set[str]) -> list[Font]:
    """Return one upright font of normal weight a family, sorted by preference.

    Chinese, Japanese and Korean share code points but not glyph shapes. Japanese fonts come first
    if the characters include kana, Korean ones if they include hangul, else Chinese ones.
    """
    from matplotlib.font_manager import fontManager

    names = [unicodedata.name(one, "") for one in needed]
    region = "SC"
    for script, region_of_script in (("HANGUL", "KR"), ("HIRAGANA", "JP"), ("KATAKANA", "JP")):
        if any(name.startswith(script) for name in names):
            region = region_of_script

    def preference(entry: "FontEntry") -> tuple[bool, bool, bool, str]:
        name = entry.name
        return (
            re.search("Mono|Serif|Code", name) is not None,
            not re.search(rf"\b{region}\b", name),
            not name.startswith("Noto Sans"),
            name,
        )

    regular = {
        entry.name: entry
        for entry in fontManager.ttflist
        if entry.style == "normal"
        and entry.weight in (400, "normal", "regular", "book")
        and entry.size == "scalable"
        and not _UNSUITABLE.search(entry.name)
    }
    return [_font_of(entry) for entry in sorted(regular.values(), key=preference)]


def _font_of(entry: "FontEntry") -> Font:
    index = getattr(entry, "index", 0)  # place in a font collection, from matplotlib 3.11 on
    return Font(entry.name, lambda: _read_characters(entry.fname, index))


@cache
def _read_characters(path: str, index: int) -> Set[int]:
    """Return the code points of a font; an empty set if matplotlib cannot read it."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path, face_index=index) if index else FT2Font(path)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, TypeError):
        return frozenset()


def _add_new_fonts() -> bool:
    """Add fonts installed after matplotlib cached its list; return True if there are any."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    added = False
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
                added = True
            except (OSError, RuntimeError):
                continue  # a bitmap font or a damaged file
    return added
