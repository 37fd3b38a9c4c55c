"""Overlap: the videos that two splits share, whose accuracy is too high after training on them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from motionaware.data.annotations.index import IndexedExamples
from motionaware.data.annotations.split import Overlap, Split


def shared_videos(first: Split, second: Split) -> list[Path]:
    """Return the videos that both of two splits list."""
    in_first = {example.path for example in first.examples}
    return sorted(in_first.intersection(example.path for example in second.examples))


def find_overlap(splits: Sequence[Split]) -> Overlap:
    """Return how many videos each two splits share; pairs that share none are absent.

    The numbers are those stored in the indices of the splits, if all have them. Else the paths are
    compared.
    """
    counts = _stored_counts(splits)
    if counts is None:
        counts = _count_shared_paths(splits)
    return {pair: number for pair, number in counts.items() if number}


def overlap_of(name: str, overlap: Overlap, others: Iterable[str]) -> dict[str, int]:
    """Return how many videos a split shares with each of the others, for its index."""
    return {
        other: overlap.get((name, other), overlap.get((other, name), 0))
        for other in others
        if other != name
    }


def _stored_counts(splits: Sequence[Split]) -> Overlap | None:
    """Return the overlaps that the indices store; None if one lacks them or two disagree."""
    stored: dict[str, Mapping[str, int]] = {}
    for split in splits:
        examples = split.examples
        if not isinstance(examples, IndexedExamples) or examples.overlap is None:
            return None
        stored[split.name] = examples.overlap
    counts = {}
    for first, second in combinations(stored, 2):
        number = stored[first].get(second)
        if number is None or number != stored[second].get(first):
            return None
        counts[first, second] = number
    return counts


def _count_shared_paths(splits: Sequence[Split]) -> Overlap:
    examples = [split.examples for split in splits]
    indexed = [one for one in examples if isinstance(one, IndexedExamples)]
    paths: Sequence[set[bytes] | set[str]]
    if len(indexed) == len(examples):  # creates no Example
        paths = [one.distinct_paths() for one in indexed]
    else:
        paths = [{str(example.path) for example in one} for one in examples]
    names = [split.name for split in splits]
    pairs = combinations(zip(names, paths, strict=True), 2)
    return {(first, second): len(a & b) for (first, a), (second, b) in pairs}
