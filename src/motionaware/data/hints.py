"""What is suspicious in the videos and classes of a split, though it can be read."""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from motionaware.data.annotations.split import ExampleArrays, Split

_SHOWN = 8  # names in one hint


def similar_classes(class_names: Sequence[str]) -> list[str]:
    """Return a hint for each group of class names that differ only in case or blanks.

    Two spellings of one character (as macOS and Linux write "é") count as the same.

    >>> similar_classes(["Walk", "run", "walk "])
    ["classes 'Walk' and 'walk ' differ only in case or blanks: if they are one, write them alike"]
    """
    groups: dict[str, list[str]] = {}
    for name in class_names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(key, []).append(name)
    return [
        f"classes {' and '.join(map(repr, names))} differ only in case or blanks: if they are one, "
        "write them alike"
        for names in groups.values()
        if len(names) > 1
    ]


def empty_classes(split: Split) -> str | None:
    """Return a hint that names the classes without a video in the split; None if each has one."""
    used = set(split.labels())
    empty = [name for label, name in enumerate(split.class_names) if label not in used]
    if not empty:
        return None
    more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
    return f"{split.name} has no video of {', '.join(empty[:_SHOWN])}{more}"


def untrained_classes(training: Split) -> str | None:
    """Return a hint that names the classes which training cannot learn; None if there are none."""
    hint = empty_classes(training)
    return hint and (
        f"{hint}: a model has an output for each class, and cannot learn these; add videos, or "
        "take them out of the class folders, lists and classes.txt"
    )


def repeated_videos(split: Split) -> tuple[str, bool] | None:
    """Return a hint about the videos that a split lists several times, if there are any.

    The second value says whether one of them has several classes. Shards do not say.
    """
    if isinstance(split.examples, ExampleArrays) and not split.examples.has_duplicates():
        return None
    labels: dict[Path, list[int]] = {}
    for example in split.examples:
        labels.setdefault(example.path, []).append(example.label)
    repeated = {path: of for path, of in labels.items() if len(of) > 1}
    if not repeated:
        return None
    number = f"{len(repeated)} video{'s' * (len(repeated) > 1)} several times"
    path = next((path for path, of in repeated.items() if len({*of}) > 1), None)
    if path is None:
        return f"{split.name} lists {number}, first {next(iter(repeated))}", False
    classes = " and ".join(split.class_names[label] for label in sorted({*repeated[path]}))
    return f"{split.name} lists {number}, {path} as {classes}; leave one line for each", True


def hints_on_training(training: Split, validation: Split) -> Iterator[str]:
    """Yield what is suspicious in the videos of a run, one line each."""
    yield from similar_classes(training.class_names)
    if hint := untrained_classes(training):
        yield hint
    if hint := empty_classes(validation):
        yield f"{hint}: its accuracy there is not measured"
    for split in (training, validation):
        if found := repeated_videos(split):
            yield found[0]
