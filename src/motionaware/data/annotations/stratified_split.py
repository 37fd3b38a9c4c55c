"""Dealing: give videos to splits by chance, so that each split has its share of every class."""

import random
from collections import Counter

Video = tuple[str, str]  # its path below the root, its class

_HANDS = 10  # enough to keep to the shares, few enough to leave the choice to chance


def quotas_of(sizes: Counter[str], held_back: dict[str, float]) -> dict[str, dict[str, float]]:
    """How many videos of each class each split is to have; training has what the others leave."""
    others = {
        split: {name: max(1.0, share * size) for name, size in sizes.items()}
        for split, share in held_back.items()
    }
    left = {
        name: size - sum(part[name] for part in others.values()) for name, size in sizes.items()
    }
    return {"train": left, **others}


def deal(
    sources: list[list[Video]], quotas: dict[str, dict[str, float]], *, seed: int
) -> dict[str, list[Video]]:
    """Deal in several orders by chance; take the hand that keeps most nearly to the quotas."""
    chance = random.Random(seed)
    hands = []
    for _ in range(_HANDS):
        chance.shuffle(sources)
        hands.append(_deal_in_order(sources, quotas))
    return min(hands, key=lambda hand: _distance(hand, quotas))


def _deal_in_order(
    sources: list[list[Video]], quotas: dict[str, dict[str, float]]
) -> dict[str, list[Video]]:
    """Give one source after the other to the split that lacks most of what it has."""
    wanted = {split: dict(of_classes) for split, of_classes in quotas.items()}
    dealt: dict[str, list[Video]] = {split: [] for split in wanted}
    for source in sources:
        held = Counter(name for _, name in source)
        split = max(wanted, key=lambda split: sum(n * wanted[split][c] for c, n in held.items()))
        dealt[split] += source
        for name, number in held.items():
            wanted[split][name] -= number
    return dealt


def _distance(
    hand: dict[str, list[Video]], quotas: dict[str, dict[str, float]]
) -> tuple[int, float]:
    """How many classes lack a split, and how far all are from what they were to have."""
    counts = {split: Counter(name for _, name in videos) for split, videos in hand.items()}
    numbers = [(counts[split][c], quota) for split in quotas for c, quota in quotas[split].items()]
    return sum(n == 0 for n, _ in numbers), sum((n - quota) ** 2 for n, quota in numbers)
