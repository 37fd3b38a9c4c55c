"""Words that all verbs use alike."""


def count(number: int, word: str) -> str:
    """A number and what it counts.

    >>> count(1, "class"), count(2, "class"), count(0, "video")
    ('1 class', '2 classes', '0 videos')
    """
    if number == 1:
        return f"1 {word}"
    return f"{number} {word}{'es' if word.endswith('s') else 's'}"
