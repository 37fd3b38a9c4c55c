"""Prepare data: check a download, write its frames where asked, and index it for quick starts."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from motionaware.data.annotations.index import (
    MISSING,
    UNREADABLE,
    fingerprint_lists,
    list_files,
    write_index,
    write_index_file,
)
from motionaware.data.annotations.overlap import find_overlap, overlap_of
from motionaware.data.annotations.split import SPLITS, Overlap, Split
from motionaware.data.annotations.table import read_lists, unlisted_videos
from motionaware.data.processes import run_in_processes
from motionaware.data.video.base import DAMAGED_FILE_HINT
from motionaware.data.video.extract_frames import extract_frames
from motionaware.data.video.open import open_video
from motionaware.errors import DataError, SplitAbsent, VideoError
from motionaware.files import check_folder, write_atomically

_COLUMNS = ("split", "video", "why")
_SIGNATURE = ".motionaware/frames.json"


@dataclass(frozen=True)
class Prepared:
    """What was found and written.

    Attributes:
        root: The folder that is ready: the data set's own, or that of its frames.
        counts: For each split that there is, its videos and how many of them are missing and
            unreadable.
        problems: Split, video and reason of each of those.
        unlisted: Videos that lie among the listed ones, and that no list names.
        shared: How many videos two splits both list, for each two that share some.
        report: The file that lists the problems, if there are any.
    """

    root: Path
    counts: dict[str, Counter[str]]
    problems: list[tuple[str, str, str]]
    unlisted: list[Path]
    shared: Overlap
    report: Path | None


@dataclass(frozen=True)
class _Seen:
    """How many frames a video has, or UNREADABLE or MISSING and why."""

    num_frames: int
    why: str = ""


def prepare_data(
    kind: str,
    root: str | Path,
    *,
    frames_to: str | Path | None = None,
    short_side: int | None = None,
    num_workers: int | None = None,
    progress: bool = False,
) -> Prepared:
    """Open every video of a data set, and index what is there.

    With `frames_to`, the frames of every video are written there as JPEG files, in a folder that
    has the video's own name and place, beside a copy of the lists: that folder is then a root of
    the same kind. Called again after an interruption, it continues. The frames of one video appear
    whole or not at all.

    Args:
        kind: The layout; see `motionaware.data.annotations.table`.
        root: The folder of the data set. Nothing in it changes but `.motionaware`.
        frames_to: Where frames go, if they are wanted as files.
        short_side: Pixels of a frame's shorter side; smaller videos keep their size.
        num_workers: Processes; 0 works in this one, and by default there is one a CPU.
        progress: Show a bar on the error stream.

    Raises:
        DataError: The lists are not as the kind wants them, or `frames_to` cannot take the frames.
        OSError: The index, the report or the frames cannot be written.
    """
    root = Path(root)
    if short_side is not None and (frames_to is None or short_side < 1):
        raise DataError(f"{short_side = } is of frames; wanted 1 pixel or more, with frames_to")
    splits = read_all(kind, root)
    if frames_to is None:
        target, work = root, _look
    else:
        target = Path(frames_to)
        check_folder(target)
        paths = (example.path for split in splits for example in split.examples)
        _begin(kind, root, target, paths, short_side=short_side)
        work = partial(_extract, root=root, target=target, short_side=short_side)
    facts = {split.name: fingerprint_lists(kind, root, split) for split in splits}
    seen = _see(splits, work, num_workers=num_workers, progress=progress)
    problems = [
        (split.name, str(example.path), one.why)
        for split in splits
        for example in split.examples
        if (one := seen[example.path]).why
    ]
    report = _report(target, kind, problems)
    unlisted = unlisted_videos(splits)
    counts = {split.name: _count(split, seen) for split in splits}
    shared = find_overlap(splits)
    if frames_to is not None:
        moved = {_moved(path, root, target): one for path, one in seen.items()}
        splits = read_all(kind, target)
        facts = {split.name: fingerprint_lists(kind, target, split) for split in splits}
        seen = {
            example.path: moved.get(example.path, _Seen(MISSING))
            for split in splits
            for example in split.examples
        }
    for split in splits:
        frames = [seen[example.path].num_frames for example in split.examples]
        if frames_to is not None:  # what cannot be read has no frames there
            frames = [number or MISSING for number in frames]
        write_index(
            kind,
            target,
            split,
            frames,
            fingerprint=facts[split.name],
            overlap=overlap_of(split.name, shared, facts),
        )
    return Prepared(target, counts, problems, unlisted, shared, report)


def read_all(kind: str, root: Path) -> list[Split]:
    """Every split that there is, from its lists.

    Raises:
        DataError: There is none, or one is not as the kind wants it.
    """
    splits, absent = [], None
    for name in SPLITS:
        try:
            splits.append(read_lists(kind, root, name))
        except SplitAbsent as error:
            absent = absent or error
    if absent and not splits:
        raise absent
    return splits


def _see(
    splits: list[Split], work: Callable[[Path], _Seen], *, num_workers: int | None, progress: bool
) -> dict[Path, _Seen]:
    paths = dict.fromkeys(example.path for split in splits for example in split.examples)
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    results = run_in_processes(work, paths, num_workers=workers, on_crash=_died)
    seen = dict(tqdm(results, "prepare", total=len(paths), unit="video", disable=not progress))
    return {path: seen[path] for path in paths}


def _look(path: Path) -> _Seen:
    if not path.exists():
        return _Seen(MISSING, "does not exist")
    try:
        return _Seen(open_video(path).num_frames)
    except (VideoError, OSError) as error:
        return _Seen(UNREADABLE, str(error))


def _extract(path: Path, *, root: Path, target: Path, short_side: int | None) -> _Seen:
    if not path.exists():
        return _Seen(MISSING, "does not exist")
    try:
        return _Seen(extract_frames(path, _moved(path, root, target), short_side=short_side))
    except VideoError as error:  # a full disk is no fault of the video: that ends the work
        return _Seen(UNREADABLE, str(error))


def _died(path: Path) -> _Seen:
    return _Seen(UNREADABLE, f"{path} ends the process that reads it; {DAMAGED_FILE_HINT}")


def _moved(path: Path, root: Path, target: Path) -> Path:
    return target / path.relative_to(root)


def _begin(
    kind: str, root: Path, target: Path, paths: Iterable[Path], *, short_side: int | None
) -> None:
    """Copy the lists to where the frames go, and note how they are made.

    Raises:
        DataError: The folder cannot take them.
    """
    outside = next((path for path in paths if not path.is_relative_to(root)), None)
    if outside is not None:
        raise DataError(
            f"{outside} does not lie in {root}, so its frames have no place in {target}; give the "
            "folder that holds all videos as root, and paths in the lists that begin there"
        )
    if target.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{target} lies in {root}, which it would change; choose another folder")
    facts = {
        "kind": kind,
        "short_side_pixels": short_side,
        "square_pixels": True,  # folders without this fact have frames as their videos store them
        "from": str(root.resolve()),
    }
    signature = target / _SIGNATURE
    noted = json.loads(signature.read_text(encoding="utf-8")) if signature.is_file() else facts
    if noted != facts:
        raise DataError(
            f"{target} holds frames made with {noted}, not with {facts}; choose another folder, or "
            "delete this one"
        )
    if target.is_dir() and any(target.iterdir()) and not signature.is_file():
        raise DataError(f"{target} holds something else already; choose a new or empty folder")
    write_atomically(signature, json.dumps(facts).encode())
    for path in list_files(root):
        write_atomically(_moved(path, root, target), path.read_bytes())


def _count(split: Split, seen: dict[Path, _Seen]) -> Counter[str]:
    numbers = [seen[example.path].num_frames for example in split.examples]
    return Counter(
        videos=len(numbers), missing=numbers.count(MISSING), unreadable=numbers.count(UNREADABLE)
    )


def _report(root: Path, kind: str, problems: list[tuple[str, str, str]]) -> Path | None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows(problems)
    path = write_index_file(root, f"{kind}-problems.csv", text.getvalue().encode())
    return path if problems else None
