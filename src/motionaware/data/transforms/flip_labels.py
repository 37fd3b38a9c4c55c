"""Decides which class a horizontally flipped clip shows, from the text of its label.

"left" and "right" are exchanged wherever they occur: the flip of "from left to right" is "from
right to left". Words that only contain these letters ("upright") and idioms that name no side
("pulling it right out") are left alone. A class that names a side, and whose exchanged label is not
a class, is never flipped: the class of its flipped clips is unknown.

Changed  "clockwise" and "counterclockwise" are exchanged too. The index tables in common use for
         Jester omit them: flipped clips of "Turning Hand Clockwise" then have a wrong label.
"""

import re
from collections.abc import Sequence
from typing import Literal

Flip = bool | Literal["swap", "skip"]

# Idioms that name no side. A doubtful phrase is not listed: a class that is not flipped costs
# little, a flipped clip with a wrong label is harmful.
_IDIOMS = (
    r"\bright (?:out|away|now|here|there|after|before|angles?|side up)\b",
    r"\ball right\b",
    r"\bleft (?:over|behind|alone)\b",
)
_OPPOSITE_SIDE = {"left": "right", "right": "left"}
# All spellings of the opposite rotation.
_OPPOSITE_ROTATION = {
    "clockwise": ("counterclockwise", "counter-clockwise", "anticlockwise", "anti-clockwise"),
    "counterclockwise": ("clockwise",),
    "counter-clockwise": ("clockwise",),
    "anticlockwise": ("clockwise",),
    "anti-clockwise": ("clockwise",),
}
# A side begins after a non-letter, or with a capital ("SwipeLeft"). It ends before a non-letter, a
# capital, or "ward(s)".
_SIDE = r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT)|(?<=[a-z])(?:Left|Right)"
_PATTERN = re.compile(
    "|".join(
        [
            f"(?P<idiom>(?i:{'|'.join(_IDIOMS)}))",
            rf"(?P<side>{_SIDE})(?=(?i:wards?)\b|(?![A-Za-z])|(?<=[a-z])[A-Z])",
            r"(?P<rotation>(?i:\b(?:counter-?|anti-?)?clockwise\b))",
        ]
    )
)


def names_side(label: str) -> bool:
    """True if a label names a side or a rotation, so that a flip changes its meaning.

    >>> names_side("Pushing something from left to right"), names_side("Putting it upright")
    (True, False)
    """
    return any(match.lastgroup != "idiom" for match in _PATTERN.finditer(label))


def flipped_labels(label: str) -> tuple[str, ...]:
    """Return the label of flipped clips in all its spellings; the label itself if it names no side.

    >>> flipped_labels("Turning the camera left, pulling it right out")
    ('Turning the camera right, pulling it right out',)
    """
    rotations = (match["rotation"] for match in _PATTERN.finditer(label) if match["rotation"])
    num_spellings = max((len(_OPPOSITE_ROTATION[word.lower()]) for word in rotations), default=1)
    return tuple(
        _PATTERN.sub(lambda match, i=i: _opposite(match, i), label) for i in range(num_spellings)
    )


def _opposite(match: re.Match[str], spelling: int) -> str:
    word = match[0]
    if match["idiom"]:
        return word
    if match["side"]:
        opposite = _OPPOSITE_SIDE[word.lower()]
    else:
        spellings = _OPPOSITE_ROTATION[word.lower()]
        opposite = spellings[min(spelling, len(spellings) - 1)]
    if word.isupper():
        return opposite.upper()
    return opposite.capitalize() if word[0].isupper() else opposite


def flipped_classes(class_names: Sequence[str], flip: Flip) -> tuple[int | None, ...]:
    """Return for each class the class of its flipped clips; None if its clips must not be flipped.

    Args:
        class_names: The names of all classes.
        flip: `swap` (or True) exchanges classes that name opposite sides; `skip` flips only classes
            that name no side; False flips none.

    >>> flipped_classes(["left", "right", "up", "turning left"], "swap")
    (1, 0, 2, None)
    >>> flipped_classes(["left", "right", "up", "turning left"], "skip")
    (None, None, 2, None)
    """
    if flip is False:
        return (None,) * len(class_names)
    class_of_name = {name: index for index, name in enumerate(class_names)}
    flipped: list[int | None] = []
    for index, name in enumerate(class_names):
        if not names_side(name):
            flipped.append(index)
        elif flip == "skip":
            flipped.append(None)
        else:
            candidates = (class_of_name.get(label) for label in flipped_labels(name))
            flipped.append(next((found for found in candidates if found is not None), None))
    return tuple(flipped)
