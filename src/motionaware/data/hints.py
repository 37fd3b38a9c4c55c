"""Find likely mistakes in a readable data set: similar or empty classes, repeated videos."""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from motionaware.data.annotations.split import ExampleArrays, Split
from motionaware.messages import count

_MAX_LISTED = 8  # names in one hint


def similar_classes(class_names: Sequence[str]) -> list[str]:
    """Return a hint for each group of class names that differ only in case or white space.

    Names are compared after Unicode normalisation (NFKC): macOS and Linux encode "é" differently.

    >>> similar_classes(["Walk", "run", "walk "])
    ["classes 'Walk' and 'walk ' differ only in case or blanks; if they are one, use one name"]
    """
    groups: dict[str, list[str]] = {}
    for name in class_names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(key, []).append(name)
    return [
        f"classes {' and '.join(map(repr, names))} differ only in case or blanks; if they are one, "
        "use one name"
        for names in groups.values()
        if len(names) > 1
    ]


def empty_classes(split: Split) -> str | None:
    """Return a hint that lists the classes without a video in the split; None if there are none."""
    used = set(split.labels())
    empty = [name for label, name in enumerate(split.class_names) if label not in used]
    if not empty:
        return None
    more = f" and {len(empty) - _MAX_LISTED} more" if len(empty) > _MAX_LISTED else ""
    return f"{split.name} has no video of {', '.join(empty[:_MAX_LISTED])}{more}"


def untrained_classes(training: Split) -> str | None:
    """Return a hint that lists the classes without a training video; None if there are none."""
    hint = empty_classes(training)
    return hint and (
        f"{hint}: a model has an output for each class and cannot learn these; add videos, or "
        "remove the classes from the class folders, lists and classes.txt"
    )


def repeated_videos(split: Split) -> tuple[str, bool] | None:
    """Return a hint on videos that a split lists several times, and True if their classes differ.

    Returns None if no video is listed several times, and for shards, which do not store paths.
    """
    if isinstance(split.examples, ExampleArrays) and not split.examples.has_duplicates():
        return None
    labels_by_path: dict[Path, list[int]] = {}
    for example in split.examples:
        labels_by_path.setdefault(example.path, []).append(example.label)
    repeated = {path: labels for path, labels in labels_by_path.items() if len(labels) > 1}
    if not repeated:
        return None
    start = f"{split.name} lists {count(len(repeated), 'video')} several times"
    path = next((path for path, labels in repeated.items() if len(set(labels)) > 1), None)
    if path is None:
        return f"{start}, first {next(iter(repeated))}", False
    classes = " and ".join(split.class_names[label] for label in sorted(set(repeated[path])))
    return f"{start}, {path} as {classes}; keep one line for each", True


def hints_on_training(training: Split, validation: Split) -> Iterator[str]:
    """Yield hints on the training and validation videos of a run, one line each."""
    yield from similar_classes(training.class_names)
    if hint := untrained_classes(training):
        yield hint
    if hint := empty_classes(validation):
        yield f"{hint}: its accuracy there is not measured"
    for split in (training, validation):
        if found := repeated_videos(split):
            yield found[0]
