"""Assign videos to splits at random, so that each split gets its share of every class.

Videos of one source (a person, a film) form a group that goes to one split.
"""

import random
from collections import Counter

Video = tuple[str, str]
"""Path of a video below the root, and its class."""

_NUM_TRIALS = 10  # enough to come near the quotas, few enough to keep the choice random


def class_quotas(
    class_sizes: Counter[str], held_out_shares: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Return how many videos of each class each split should have.

    Args:
        class_sizes: Number of videos of each class.
        held_out_shares: Share in (0, 1) of each split but `train`, which gets the rest. A split
            gets at least one video of each class.
    """
    held_out = {
        split: {name: max(1.0, share * size) for name, size in class_sizes.items()}
        for split, share in held_out_shares.items()
    }
    train = {
        name: size - sum(quota[name] for quota in held_out.values())
        for name, size in class_sizes.items()
    }
    return {"train": train, **held_out}


def stratified_split(
    groups: list[list[Video]], quotas: dict[str, dict[str, float]], *, seed: int
) -> dict[str, list[Video]]:
    """Return the videos of each split.

    The groups are assigned in several random orders; the result nearest to the quotas is returned.
    `groups` is shuffled in place.

    Args:
        groups: Videos that must stay together.
        quotas: Number of videos of each class wanted in each split, by `class_quotas`.
        seed: Seed of the random orders.
    """
    rng = random.Random(seed)
    trials = []
    for _ in range(_NUM_TRIALS):
        rng.shuffle(groups)
        trials.append(_assign_in_order(groups, quotas))
    return min(trials, key=lambda trial: _distance_to_quotas(trial, quotas))


def _assign_in_order(
    groups: list[list[Video]], quotas: dict[str, dict[str, float]]
) -> dict[str, list[Video]]:
    """Assign each group in turn to the split that lacks most of the group's classes."""
    lacking = {split: dict(quota) for split, quota in quotas.items()}
    assigned: dict[str, list[Video]] = {split: [] for split in quotas}
    for group in groups:
        sizes = Counter(name for _, name in group)
        split = max(
            lacking, key=lambda split: sum(n * lacking[split][name] for name, n in sizes.items())
        )
        assigned[split] += group
        for name, number in sizes.items():
            lacking[split][name] -= number
    return assigned


def _distance_to_quotas(
    assigned: dict[str, list[Video]], quotas: dict[str, dict[str, float]]
) -> tuple[int, float]:
    """Return how many classes are absent from a split, and the sum of squared differences."""
    sizes = {split: Counter(name for _, name in videos) for split, videos in assigned.items()}
    pairs = [
        (sizes[split][name], quota) for split in quotas for name, quota in quotas[split].items()
    ]
    return sum(size == 0 for size, _ in pairs), sum((size - quota) ** 2 for size, quota in pairs)
