"""Split the videos of class folders into training, validation and test."""

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
class PreparedSplit:
    """The result of `prepare_split`.

    Attributes:
        counts: Number of videos of each class, for each split.
        ignored: Files in class folders whose names are not those of videos.
    """

    counts: dict[str, Counter[str]]
    ignored: list[Path]


def prepare_split(
    root: str | Path,
    *,
    val_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
    group: str | None = None,
) -> PreparedSplit:
    """List `ROOT/CLASS/VIDEO` in train.csv, val.csv and test.csv, which `data.kind: csv` reads.

    The split is random and stratified: each class has the same shares, and at least one video in
    each split. No video is moved. The same videos, shares and seed give the same lists on any
    machine.

    Args:
        root: Folder of the class folders.
        val_share: Share of the videos for validation, in (0, 1).
        test_share: Share of the videos for the test, in [0, 1); 0 writes no test.csv.
        seed: Seed of the random draws.
        group: Regular expression that matches the source of a video (a person, a film) in
            `CLASS/VIDEO`: its first group, or else the whole match. All videos of one source come
            into the same split; the shares are then approximate.

    Raises:
        DataError: The folder or a class folder is unsuitable, a list already exists, classes.txt
            has other classes, or the expression does not match a video.
        UsageError: A share is out of range, or `group` is not a regular expression.
    """
    shares = {"val": val_share, "test": test_share}
    _check_shares(val=val_share, test=test_share)
    splits = [name for name in SPLITS if shares.get(name, 1) > 0]
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give one that holds CLASS/VIDEO")
    for path in (root / f"{name}.csv" for name in SPLITS):
        if path.exists():
            raise DataError(f"{path} already exists; delete it to split again")
    videos, ignored = _find_videos(root)
    sizes = Counter(name for _, name in videos)
    listed = _check_classes(root, sizes, num_splits=len(splits))
    held_out_shares = {split: shares[split] for split in splits if split != "train"}
    quotas = class_quotas(sizes, held_out_shares)
    chosen = stratified_split(_group_by_source(videos, group), quotas, seed=seed)
    counts = {split: Counter(name for _, name in found) for split, found in chosen.items()}
    for split, found in counts.items():
        if lacking := sorted(sizes.keys() - found.keys()):
            raise DataError(
                f"{split} would have no video of {', '.join(lacking)}; choose smaller shares"
                + (", another group, or another seed" if group else "")
            )
    if not listed:
        classes = "".join(f"{name}\n" for name in sorted(sizes))
        write_atomically(root / "classes.txt", classes.encode())
    for split in splits:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("path", "label"), *sorted(chosen[split])])
        write_atomically(root / f"{split}.csv", text.getvalue().encode())
    return PreparedSplit(counts, ignored)


def _check_shares(*, val: float, test: float) -> None:
    if not 0 < val < 1:
        raise UsageError(f"val_share is {val}; wanted more than 0 and less than 1")
    if not 0 <= test < 1:
        raise UsageError(f"test_share is {test}; wanted 0 or more and less than 1")
    if val + test >= 1:
        raise UsageError(
            f"val_share and test_share are {val} and {test}, which leaves no training videos; "
            "wanted a sum less than 1"
        )


def _find_videos(root: Path) -> tuple[list[Video], list[Path]]:
    """Return the videos in class folders, and the other files there.

    Raises:
        DataError: There are no class folders, or one is unsuitable.
    """
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if found := [folder.name for folder in folders if folder.name in SPLITS]:
        raise DataError(
            f"{root} holds {', '.join(found)}, which are names of splits, not of classes; if it "
            f"is already split, use it unchanged; to split {root / found[0]}, give that folder"
        )
    resolved: dict[Path, Path] = {}
    videos, ignored = [], []
    for folder in folders:
        if not folder.name.isprintable() or folder.name != folder.name.strip():
            raise DataError(
                f"class folder {str(folder)!r}: its name starts or ends with a blank, or has a "
                "character that cannot be printed; rename it"
            )
        if (same := resolved.setdefault(folder.resolve(), folder)) != folder:
            raise DataError(f"{folder} and {same} are the same folder; remove one of them")
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        found = [path for path in files if is_video(path)]
        if not found:
            raise DataError(
                f"class folder {folder} holds no video; wanted {root}/CLASS/VIDEO, a file or a "
                "folder of frames. If its videos are in subfolders, move them up; otherwise remove "
                "the folder"
            )
        videos += [(path.relative_to(root).as_posix(), folder.name) for path in found]
        ignored += sorted({*files} - {*found})
    if not videos:
        raise DataError(f"{root} holds no class folders; wanted {root}/CLASS/VIDEO")
    return videos, ignored


def _check_classes(root: Path, sizes: Counter[str], *, num_splits: int) -> bool:
    """Check the classes against classes.txt; return True if that file exists.

    Raises:
        DataError: They differ, or a class has fewer videos than there are splits.
    """
    listed = read_class_list(root)
    if listed is not None and sorted(listed) != sorted(sizes):
        raise DataError(
            f"{root}/classes.txt and the class folders differ in "
            f"{', '.join(sorted({*listed} ^ sizes.keys()))}; correct the file, or delete it"
        )
    for name, size in sizes.items():
        if size < num_splits:
            raise DataError(
                f"{root / name} holds {size} of the {num_splits} videos that {num_splits} splits "
                "need; add some, or remove the folder"
            )
    return listed is not None


def _group_by_source(videos: list[Video], group: str | None) -> list[list[Video]]:
    """Return lists of videos that must come into the same split.

    Raises:
        DataError: The expression does not match a video.
        UsageError: `group` is not a regular expression.
    """
    if group is None:
        return [[video] for video in videos]
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UsageError(f"group {group} is not a regular expression: {error}") from error
    sources: dict[str, list[Video]] = {}
    for video in videos:
        match = pattern.search(video[0])
        source = match and match[1 if pattern.groups else 0]
        if not source:
            raise DataError(
                f"the regular expression {group} (--group) does not match {video[0]!r}; it must "
                "match the path of every video"
            )
        sources.setdefault(source, []).append(video)
    return list(sources.values())
