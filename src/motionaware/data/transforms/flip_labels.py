"""Mirroring: which class a clip shows once its left is its right, told by the text of its label.

Side words turn into each other wherever they stand, all at once: "from left to right" is mirrored
to "from right to left". Words that merely contain the letters ("upright") and idioms in which no
side is meant ("pulling it right out") are no side words. A class that names a side and whose
mirrored label is no class is never mirrored: nothing says what its mirror image shows.

Changed  Clockwise turns into counterclockwise too. The index tables in circulation for Jester leave
         it out, and so teach a mirrored "Turning Hand Clockwise" under the wrong name.
"""

import re
from collections.abc import Sequence
from typing import Literal

Flip = bool | Literal["swap", "skip"]

# In these, no side is meant. Where one is in doubt it is no idiom: a class too many stays
# unmirrored, which costs little; mirrored under a wrong name it would teach what is false.
_IDIOMS = (
    r"\bright (?:out|away|now|here|there|after|before|angles?|side up)\b",
    r"\ball right\b",
    r"\bleft (?:over|behind|alone)\b",
)
_SIDES = {"left": "right", "right": "left"}
_TURNS = {
    "clockwise": ("counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise"),
    "counterclockwise": ("clockwise",),
    "counter-clockwise": ("clockwise",),
    "anticlockwise": ("clockwise",),
    "anti-clockwise": ("clockwise",),
}
# A side begins where no letter precedes it, or with a capital ("SwipeLeft"), and ends likewise.
_SIDE = r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT)|(?<=[a-z])(?:Left|Right)"
_WORDS = re.compile(
    "|".join(
        [
            f"(?P<idiom>(?i:{'|'.join(_IDIOMS)}))",
            rf"(?P<side>{_SIDE})(?=(?i:wards?)\b|(?![A-Za-z])|(?<=[a-z])[A-Z])",
            r"(?P<turn>(?i:\b(?:counter-?|anti-?)?clockwise\b))",
        ]
    )
)


def names_side(name: str) -> bool:
    """Whether the label's truth depends on which side is which.

    >>> names_side("Pushing something from left to right"), names_side("Putting it upright")
    (True, False)
    """
    return any(found.lastgroup != "idiom" for found in _WORDS.finditer(name))


def mirrored_names(name: str) -> tuple[str, ...]:
    """How the label of the mirror image may be spelt; the label itself where no side is named.

    >>> mirrored_names("Turning the camera left, pulling it right out")
    ('Turning the camera right, pulling it right out',)
    """
    turns = (found for found in _WORDS.finditer(name) if found["turn"])
    spellings = range(max((len(_TURNS[found["turn"].lower()]) for found in turns), default=1))
    return tuple(_WORDS.sub(lambda found, i=i: _mirrored(found, i), name) for i in spellings)


def _mirrored(found: re.Match[str], spelling: int) -> str:
    word = found[0]
    if found["idiom"]:
        return word
    if found["side"]:
        other = _SIDES[word.lower()]
    else:
        others = _TURNS[word.lower()]
        other = others[min(spelling, len(others) - 1)]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other


def mirrored_positions(class_names: Sequence[str], flip: Flip) -> tuple[int | None, ...]:
    """The class that a mirrored clip of each class shows; None where no clip is to be mirrored.

    Args:
        class_names: All classes.
        flip: `swap` (or True) turns classes that name a side into their mirrored partners, `skip`
            mirrors clips of the other classes only, False mirrors none.

    >>> mirrored_positions(["left", "right", "up", "turning left"], "swap")
    (1, 0, 2, None)
    >>> mirrored_positions(["left", "right", "up", "turning left"], "skip")
    (None, None, 2, None)
    """
    if flip is False:
        return (None,) * len(class_names)
    positions = {name: place for place, name in enumerate(class_names)}
    found: list[int | None] = []
    for place, name in enumerate(class_names):
        if not names_side(name):
            found.append(place)
        elif flip == "skip":
            found.append(None)
        else:
            partners = (positions.get(other) for other in mirrored_names(name))
            found.append(next((one for one in partners if one is not None), None))
    return tuple(found)
