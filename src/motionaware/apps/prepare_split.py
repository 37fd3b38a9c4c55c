"""Split: list the videos of class folders as training, validation and test."""

import csv
import io
import random
import re
from collections import Counter
from pathlib import Path

from motionaware.data.annotations import SPLITS, DataError, is_video, listed_classes
from motionaware.files import write_atomically

Video = tuple[str, str]  # its path below the root, its class


def prepare_split(
    root: str | Path,
    *,
    val_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    group: str | None = None,
) -> dict[str, Counter[str]]:
    """List `ROOT/CLASS/VIDEO` in train.csv, val.csv and test.csv, which `data.kind: csv` reads.

    Every class is split alike, by chance, and has a video in each split. Nothing is moved. The
    same videos, shares and seed give the same lists on any machine.

    Args:
        root: The folder of class folders.
        val_share: Part of the videos for validation; with 0 there is no such list.
        test_share: Part of the videos for the test; with 0 there is no such list.
        seed: Of the chance.
        group: A regular expression that finds the source of a video (a person, a film) in
            `CLASS/VIDEO`; what its first parentheses hold, or all that it matches. Videos of one
            source come into one split, so that shares are kept as nearly as sources allow.

    Returns:
        How many videos of each class each split has.

    Raises:
        DataError: There are no class folders with videos, a class is too small to be split, a list
            is there already, classes.txt has other classes, or the expression finds nothing in a
            name.
        ValueError: A share is out of range, or the expression is none.
    """
    shares = {"val": val_share, "test": test_share}
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name}_share is {share}; wanted 0 or more, and less than 1")
    if val_share + test_share >= 1:
        raise ValueError(
            f"val_share and test_share are {val_share} and {test_share}, which leaves nothing to "
            "train on; wanted less than 1 together"
        )
    splits = [name for name in SPLITS if shares.get(name, 1) > 0]
    root = Path(root)
    lists = {name: root / f"{name}.csv" for name in splits}
    for path in (root / f"{name}.csv" for name in SPLITS):
        if path.exists():
            raise DataError(f"{path} is there already; delete it to split anew")
    videos = _videos(root)
    sizes = Counter(name for _, name in videos)
    listed = listed_classes(root)
    if listed is not None and sorted(listed) != sorted(sizes):
        raise DataError(
            f"{root}/classes.txt and the class folders differ in "
            f"{', '.join(sorted({*listed} ^ sizes.keys()))}; correct the list, or delete it"
        )
    for name, size in sizes.items():
        if size < len(splits):
            raise DataError(
                f"{root / name} holds {size} of the {len(splits)} videos that {len(splits)} splits "
                "need; add some, take the folder out, or set a share to 0"
            )
    held_back = {split: shares[split] for split in splits if split != "train"}
    chosen = _deal(_sources(videos, group), _quotas(sizes, held_back), seed=seed)
    counts = {split: Counter(name for _, name in found) for split, found in chosen.items()}
    for split, found in counts.items():
        if lacking := sorted(sizes.keys() - found.keys()):
            raise DataError(
                f"no video of {', '.join(lacking)} would come into {split}, for want of sources; "
                "use another group, or another seed"
            )
    if listed is None:
        classes = "".join(f"{name}\n" for name in sorted(sizes))
        write_atomically(root / "classes.txt", classes.encode())
    for split, path in lists.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("path", "label"), *sorted(chosen[split])])
        write_atomically(path, text.getvalue().encode())
    return counts


def _videos(root: Path) -> list[Video]:
    folders = [one for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")]
    if found := sorted(one.name for one in folders if one.name in SPLITS):
        raise DataError(f"{root} is split already: it holds {', '.join(found)}; use it as it is")
    videos = [
        (path.relative_to(root).as_posix(), folder.name)
        for folder in folders
        for path in folder.iterdir()
        if is_video(path)
    ]
    if not videos:
        raise DataError(f"{root} holds no videos in class folders; wanted {root}/CLASS/VIDEO")
    return sorted(videos)


def _sources(videos: list[Video], group: str | None) -> list[list[Video]]:
    """Videos that belong together."""
    if group is None:
        return [[video] for video in videos]
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ValueError(f"group {group} is no regular expression: {error}") from error
    sources: dict[str, list[Video]] = {}
    for video in videos:
        found = pattern.search(video[0])
        source = found and found[1 if pattern.groups else 0]
        if not source:
            raise DataError(f"group {group} finds no source in {video[0]!r}; wanted one in each")
        sources.setdefault(source, []).append(video)
    return list(sources.values())


def _quotas(sizes: Counter[str], held_back: dict[str, float]) -> dict[str, dict[str, float]]:
    """How many videos of each class each split is to have; training has what the others leave."""
    others = {
        split: {name: max(1.0, share * size) for name, size in sizes.items()}
        for split, share in held_back.items()
    }
    left = {
        name: size - sum(part[name] for part in others.values()) for name, size in sizes.items()
    }
    return {"train": left, **others}


def _deal(
    sources: list[list[Video]], wanted: dict[str, dict[str, float]], *, seed: int
) -> dict[str, list[Video]]:
    """Give each source, the largest first, to the split that lacks most of what it has."""
    random.Random(seed).shuffle(sources)
    dealt: dict[str, list[Video]] = {split: [] for split in wanted}
    for source in sorted(sources, key=len, reverse=True):
        held = Counter(name for _, name in source)
        split = max(wanted, key=lambda split: sum(n * wanted[split][c] for c, n in held.items()))
        dealt[split] += source
        for name, number in held.items():
            wanted[split][name] -= number
    return dealt
