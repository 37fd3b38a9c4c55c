"""Split: list the videos of class folders as training, validation and test."""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from motionaware.data.annotations.folders_and_csv import is_video, read_class_list
from motionaware.data.annotations.split import SPLITS
from motionaware.data.annotations.stratified_split import Video, class_quotas, stratified_split
from motionaware.errors import DataError, UsageError
from motionaware.files import write_atomically


@dataclass(frozen=True)
class Listed:
    """What the lists hold.

    Attributes:
        counts: How many videos of each class each split has.
        left_out: What else lies in the class folders: no videos by their names.
    """

    counts: dict[str, Counter[str]]
    left_out: list[Path]


def prepare_split(
    root: str | Path,
    *,
    val_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    group: str | None = None,
) -> Listed:
    """List `ROOT/CLASS/VIDEO` in train.csv, val.csv and test.csv, which `data.kind: csv` reads.

    Every class is split alike, by chance, and has a video at least in each split. Nothing is moved.
    The same videos, shares and seed give the same lists on any machine.

    Args:
        root: The folder of class folders.
        val_share: Part of the videos for validation.
        test_share: Part of the videos for the test; with 0 there is no such list.
        seed: Of the chance.
        group: A regular expression that finds the source of a video (a person, a film) in
            `CLASS/VIDEO`; what its first parentheses hold, or all that it matches. Videos of one
            source come into one split, so that shares are kept as nearly as sources allow.

    Raises:
        DataError: There is no such folder, it has no class folders, one holds no video or too few,
            its name cannot be written in a list, two are the same folder, a list is there already,
            classes.txt has other classes, or the expression finds nothing in a name.
        ValueError: A share is out of range, or the expression is none.
    """
    shares = {"val": val_share, "test": test_share}
    _check_shares(val=val_share, test=test_share)
    splits = [name for name in SPLITS if shares.get(name, 1) > 0]
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give one that holds CLASS/VIDEO")
    for path in (root / f"{name}.csv" for name in SPLITS):
        if path.exists():
            raise DataError(f"{path} is there already; delete it to split anew")
    videos, left_out = _videos(root)
    sizes = Counter(name for _, name in videos)
    listed = read_class_list(root)
    if listed is not None and sorted(listed) != sorted(sizes):
        raise DataError(
            f"{root}/classes.txt and the class folders differ in "
            f"{', '.join(sorted({*listed} ^ sizes.keys()))}; correct the list, or delete it"
        )
    for name, size in sizes.items():
        if size < len(splits):
            raise DataError(
                f"{root / name} holds {size} of the {len(splits)} videos that {len(splits)} splits "
                "need; add some, or take the folder out"
            )
    held_back = {split: shares[split] for split in splits if split != "train"}
    chosen = stratified_split(_sources(videos, group), class_quotas(sizes, held_back), seed=seed)
    counts = {split: Counter(name for _, name in found) for split, found in chosen.items()}
    for split, found in counts.items():
        if lacking := sorted(sizes.keys() - found.keys()):
            raise DataError(
                f"no video of {', '.join(lacking)} would come into {split}; choose smaller shares"
                + (", another group, or another seed" if group else "")
            )
    if listed is None:
        classes = "".join(f"{name}\n" for name in sorted(sizes))
        write_atomically(root / "classes.txt", classes.encode())
    for split in splits:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("path", "label"), *sorted(chosen[split])])
        write_atomically(root / f"{split}.csv", text.getvalue().encode())
    return Listed(counts, left_out)


def _check_shares(*, val: float, test: float) -> None:
    if not 0 < val < 1:
        raise UsageError(f"val_share is {val}; wanted more than 0, and less than 1")
    if not 0 <= test < 1:
        raise UsageError(f"test_share is {test}; wanted 0 or more, and less than 1")
    if val + test >= 1:
        raise UsageError(
            f"val_share and test_share are {val} and {test}, which leaves nothing to train on; "
            "wanted less than 1 together"
        )


def _videos(root: Path) -> tuple[list[Video], list[Path]]:
    """The videos in class folders, and what else lies there."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if found := [one.name for one in folders if one.name in SPLITS]:
        raise DataError(
            f"{root} holds {', '.join(found)}, which are names of splits and not of classes; if it "
            f"is split, use it as it is; to split {root / found[0]}, give that folder"
        )
    real: dict[Path, Path] = {}
    videos, left_out = [], []
    for folder in folders:
        if not folder.name.isprintable() or folder.name != folder.name.strip():
            raise DataError(
                f"class folder {str(folder)!r}: its name has blanks at an end, or what "
                "cannot be printed; rename it"
            )
        if (twin := real.setdefault(folder.resolve(), folder)) != folder:
            raise DataError(f"{folder} and {twin} are the same folder; take one out")
        there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        found = [path for path in there if is_video(path)]
        if not found:
            raise DataError(
                f"class folder {folder} holds no video; wanted {root}/CLASS/VIDEO, a file or a "
                "folder of frames. If its videos are in folders below it, move them up; else take "
                "the folder out"
            )
        videos += [(path.relative_to(root).as_posix(), folder.name) for path in found]
        left_out += sorted({*there} - {*found})
    if not videos:
        raise DataError(f"{root} holds no class folders; wanted {root}/CLASS/VIDEO")
    return videos, left_out


def _sources(videos: list[Video], group: str | None) -> list[list[Video]]:
    """Videos that belong together."""
    if group is None:
        return [[video] for video in videos]
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UsageError(f"group {group} is no regular expression: {error}") from error
    sources: dict[str, list[Video]] = {}
    for video in videos:
        found = pattern.search(video[0])
        source = found and found[1 if pattern.groups else 0]
        if not source:
            raise DataError(f"group {group} finds no source in {video[0]!r}; wanted one in each")
        sources.setdefault(source, []).append(video)
    return list(sources.values())
