"""Check every video of a data set, write an index, and optionally extract all frames."""

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
_SETTINGS = ".motionaware/frames.json"


@dataclass(frozen=True)
class PreparedIndex:
    """The result of `prepare_index`.

    Attributes:
        root: The indexed folder: that of the data set, or that of its frames.
        counts: Numbers of videos, missing videos and unreadable videos of each split.
        problems: Split, path and reason of each missing or unreadable video.
        unlisted: Videos in the same folders as listed ones that are in no list.
        shared: Number of common videos of each two splits that share any.
        report: The file that lists the problems; None if there are none.
    """

    root: Path
    counts: dict[str, Counter[str]]
    problems: list[tuple[str, str, str]]
    unlisted: list[Path]
    shared: Overlap
    report: Path | None


@dataclass(frozen=True)
class _FrameCount:
    """Number of frames of a video, or MISSING or UNREADABLE with the reason."""

    num_frames: int
    reason: str = ""


def prepare_index(
    kind: str,
    root: str | Path,
    *,
    frames_to: str | Path | None = None,
    short_side: int | None = None,
    num_workers: int | None = None,
    progress: bool = False,
) -> PreparedIndex:
    """Open every video of a data set and write an index.

    With `frames_to`, write the frames of each video as JPEG files to a folder with the name and
    relative path of the video, and copy the lists: `frames_to` is then a data set of the same kind.
    An interrupted call can be repeated and continues. The frames of a video appear all at once.

    Args:
        kind: Kind of the data set; see `motionaware.data.annotations.table`.
        root: Folder of the data set. Only `.motionaware` in it is changed.
        frames_to: Folder for frames; None writes none.
        short_side: Height or width of a frame in pixels, whichever is smaller. Frames are scaled
            down to it, never up. None keeps their size.
        num_workers: Worker processes; 0 works in this process, None takes one per CPU.
        progress: Show a progress bar on standard error.

    Raises:
        DataError: The lists are invalid, or `frames_to` cannot hold the frames.
        OSError: The index, the report or the frames cannot be written.
    """
    root = Path(root)
    if short_side is not None and (frames_to is None or short_side < 1):
        raise DataError(f"{short_side = }; wanted 1 pixel or more, together with frames_to")
    splits = read_all_lists(kind, root)
    if frames_to is None:
        target, count_frames = root, _open_and_count
    else:
        target = Path(frames_to)
        check_folder(target)
        paths = (example.path for split in splits for example in split.examples)
        _start_frames_folder(kind, root, target, paths, short_side=short_side)
        count_frames = partial(_extract_and_count, root=root, target=target, short_side=short_side)
    fingerprints = {split.name: fingerprint_lists(kind, root, split) for split in splits}
    found = _count_all(splits, count_frames, num_workers=num_workers, progress=progress)
    problems = [
        (split.name, str(example.path), result.reason)
        for split in splits
        for example in split.examples
        if (result := found[example.path]).reason
    ]
    report = _write_report(target, kind, problems)
    unlisted = unlisted_videos(splits)
    counts = {split.name: _summarize(split, found) for split in splits}
    shared = find_overlap(splits)
    if frames_to is not None:
        found = {_frames_path(path, root, target): result for path, result in found.items()}
        splits = read_all_lists(kind, target)
        fingerprints = {split.name: fingerprint_lists(kind, target, split) for split in splits}
    for split in splits:
        missing = _FrameCount(MISSING)
        frames = [found.get(example.path, missing).num_frames for example in split.examples]
        if frames_to is not None:  # an unreadable video has no folder of frames
            frames = [number or MISSING for number in frames]
        write_index(
            kind,
            target,
            split,
            frames,
            fingerprint=fingerprints[split.name],
            overlap=overlap_of(split.name, shared, fingerprints),
        )
    return PreparedIndex(target, counts, problems, unlisted, shared, report)


def read_all_lists(kind: str, root: Path) -> list[Split]:
    """Read the lists of all splits that the data set has.

    Raises:
        DataError: There is no split, or a list is invalid.
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


def _count_all(
    splits: list[Split],
    count_frames: Callable[[Path], _FrameCount],
    *,
    num_workers: int | None,
    progress: bool,
) -> dict[Path, _FrameCount]:
    """Apply `count_frames` to each video once, in worker processes."""
    paths = dict.fromkeys(example.path for split in splits for example in split.examples)
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    results = run_in_processes(count_frames, paths, num_workers=workers, on_crash=_crashed)
    found = dict(tqdm(results, "prepare", total=len(paths), unit="video", disable=not progress))
    return {path: found[path] for path in paths}


def _open_and_count(path: Path) -> _FrameCount:
    if not path.exists():
        return _FrameCount(MISSING, "does not exist")
    try:
        return _FrameCount(open_video(path).num_frames)
    except (VideoError, OSError) as error:
        return _FrameCount(UNREADABLE, str(error))


def _extract_and_count(
    path: Path, *, root: Path, target: Path, short_side: int | None
) -> _FrameCount:
    if not path.exists():
        return _FrameCount(MISSING, "does not exist")
    frames = _frames_path(path, root, target)
    try:
        return _FrameCount(extract_frames(path, frames, short_side=short_side))
    except VideoError as error:  # an OSError, such as a full disk, is no fault of the video
        return _FrameCount(UNREADABLE, str(error))


def _crashed(path: Path) -> _FrameCount:
    return _FrameCount(UNREADABLE, f"{path} crashes the process that reads it; {DAMAGED_FILE_HINT}")


def _frames_path(path: Path, root: Path, target: Path) -> Path:
    return target / path.relative_to(root)


def _start_frames_folder(
    kind: str, root: Path, target: Path, paths: Iterable[Path], *, short_side: int | None
) -> None:
    """Copy the lists to the folder of frames, and store how its frames are made.

    Raises:
        DataError: The folder cannot hold the frames.
    """
    outside = next((path for path in paths if not path.is_relative_to(root)), None)
    if outside is not None:
        raise DataError(
            f"{outside} is not inside {root}, so its frames have no place in {target}; give the "
            "folder that holds all videos as root, and paths relative to it in the lists"
        )
    if target.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{target} is inside {root}, which must not change; choose another folder")
    settings = {
        "kind": kind,
        "short_side_pixels": short_side,
        "square_pixels": True,  # folders without this key have frames as their videos store them
        "from": str(root.resolve()),
    }
    file = target / _SETTINGS
    existing = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else settings
    if existing != settings:
        raise DataError(
            f"{target} holds frames made with {existing}, not with {settings}; choose another "
            "folder, or delete this one"
        )
    if target.is_dir() and any(target.iterdir()) and not file.is_file():
        raise DataError(f"{target} is not empty; choose a new or empty folder")
    write_atomically(file, json.dumps(settings).encode())
    for path in list_files(root):
        write_atomically(_frames_path(path, root, target), path.read_bytes())


def _summarize(split: Split, found: dict[Path, _FrameCount]) -> Counter[str]:
    numbers = [found[example.path].num_frames for example in split.examples]
    return Counter(
        videos=len(numbers), missing=numbers.count(MISSING), unreadable=numbers.count(UNREADABLE)
    )


def _write_report(root: Path, kind: str, problems: list[tuple[str, str, str]]) -> Path | None:
    """Write the list of problems, even if it is empty: an earlier list may exist."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows(problems)
    path = write_index_file(root, f"{kind}-problems.csv", text.getvalue().encode())
    return path if problems else None
