"""Check the installation and a data set, and name every broken video. Nothing is changed."""

import importlib.util
import os
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from pathlib import Path

from tqdm import tqdm

from motionaware.clip import ClipSpec
from motionaware.data.annotations.folders_and_csv import detect_kind, is_video
from motionaware.data.annotations.index import IndexUnusable, missing_examples, open_index
from motionaware.data.annotations.overlap import shared_videos
from motionaware.data.annotations.split import SPLITS, Overlap, Split
from motionaware.data.annotations.table import (
    USER_KINDS,
    check_videos_exist,
    read_lists,
    unlisted_videos,
)
from motionaware.data.hints import (
    empty_classes,
    repeated_videos,
    similar_classes,
    untrained_classes,
)
from motionaware.data.shards.layout import ShardedExamples, read_shard_index
from motionaware.data.shards.reader import ShardReader
from motionaware.data.video.container import can_decode
from motionaware.data.video.open import open_video
from motionaware.errors import DataError, SplitAbsent, VideoError
from motionaware.messages import count

_PACKAGES = ("torch", "torchvision", "timm", "av", "safetensors", "jsonargparse", "tensorboard")
_EXTRAS = {
    "matplotlib": "pip install 'motionaware[plots]'  (pictures)",
}
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")


@dataclass(frozen=True)
class DoctorReport:
    """The result of `doctor`.

    Attributes:
        facts: Subject and description of each fact.
        problems: What must be repaired, one message each.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _VideoCheck:
    """The result of decoding one video: its size, its notes, and the error if it failed."""

    num_frames: int
    height: int
    width: int
    error: str | None = None
    notes: tuple[str, ...] = ()


def doctor(
    data: str | Path | None = None, *, kind: str | None = None, progress: bool = False
) -> DoctorReport:
    """Check the installation and, if given, a data set: every frame of every video is decoded.

    Args:
        data: Folder of a data set; None checks only the installation.
        kind: Kind of the data set; see `motionaware.data.annotations.table`. None detects `folder`,
            `csv`, `list` or `shards` from the file names; the report names the detected kind.
        progress: Show a progress bar on standard error.
    """
    report = DoctorReport()
    _check_installation(report)
    if data is not None:
        kind = kind or detect_kind(data)
        report.facts.append(("data", f"{data}, kind {kind}"))
        check = _CHECKS.get(kind, _check_lists)
        check(str(data), kind, report, progress=progress)
    return report


# ------------------------------------------------------------------------------------ installation


def _check_installation(report: DoctorReport) -> None:
    for package in ("motionaware", *_PACKAGES):
        try:
            report.facts.append((package, version(package)))
        except PackageNotFoundError:
            report.problems.append(f"{package} is not installed; run: pip install motionaware")
    for module, command in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            report.facts.append((module, f"not installed, optional: {command}"))
    if report.problems:
        return
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    cpus = count(os.cpu_count() or 1, "CPU")
    report.facts.append(("machine", f"{cpus}, {torch.get_num_threads()} for torch; GPU: {gpu}"))
    missing = [name for name in _DECODERS if not can_decode(name)]
    available = [name for name in _DECODERS if name not in missing]
    report.facts.append(("decoders", ", ".join(available)))
    report.problems.extend(f"decoder {name} is missing from this build of av" for name in missing)


# ------------------------------------------------------------------------------- a set with lists


def _check_lists(data: str, kind: str, report: DoctorReport, *, progress: bool) -> None:
    root, splits = Path(data), []
    for name in SPLITS:
        try:
            split = read_lists(kind, root, name)
        except DataError as error:
            _add_split_error(name, error, report)
        else:
            splits.append(split)
            _check_videos(split, report, progress=progress)
    _check_classes(splits, kind, report)
    report.facts.extend((f"{one.name} index", _index_state(kind, root, one)) for one in splits)
    for first, second in combinations(splits, 2):
        if shared := shared_videos(first, second):
            videos = f"{count(len(shared), 'video')}, first {shared[0]}"
            _add_shared(first.name, second.name, videos, report)
    if unlisted := unlisted_videos(splits):
        number = count(len(unlisted), "video")
        report.facts.append(("no label", f"{number} in no list, first {unlisted[0]}"))
    if kind == "folder":
        report.problems.extend(
            f"{path} is not read: its name is not that of a video, or it is a still image; give it "
            "the suffix of its format, or remove it"
            for path in _unread_files(root)
        )


def _add_split_error(name: str, error: DataError, report: DoctorReport) -> None:
    if isinstance(error, SplitAbsent):
        report.facts.append((name, "absent"))
        if name != "train":  # only the training split is required
            return
    if str(error) not in report.problems:  # a wrong folder gives the same error for each split
        report.problems.append(str(error))


def _check_videos(split: Split, report: DoctorReport, *, progress: bool) -> None:
    """Decode all videos of a split."""
    num_missing = len(missing_examples(split))
    if num_missing == len(split.examples):  # a wrong folder is one problem, not one per video
        report.facts.append((split.name, f"{count(num_missing, 'video')}, all missing"))
        try:
            check_videos_exist(split)
        except DataError as error:
            report.problems.append(str(error))
        return
    _check_repetitions(split, report)
    paths = [example.path for example in split.examples]
    pool = ThreadPoolExecutor(os.cpu_count())  # decoding releases the GIL
    try:
        results = pool.map(_check_video, paths)
        bar = tqdm(results, f"check {split.name}", total=len(paths), disable=not progress)
        checks = list(bar)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not decode the remaining videos
    _summarize(split, checks, report, num_missing=num_missing)


def _check_video(path: Path) -> _VideoCheck:
    try:
        return _decode(path)
    except (VideoError, OSError) as error:
        return _VideoCheck(0, 0, 0, str(error))


def _decode(path: Path) -> _VideoCheck:
    video = open_video(path)
    for _ in video.iter_frames():  # one frame in memory at a time
        pass
    return _VideoCheck(video.num_frames, video.height, video.width, notes=tuple(video.notes))


def _check_repetitions(split: Split, report: DoctorReport) -> None:
    """Report videos that a list holds several times: a problem only if their labels differ."""
    repeated = repeated_videos(split)
    if repeated is None:
        return
    hint, classes_differ = repeated
    if classes_differ:
        report.problems.append(hint)
    else:
        report.facts.append((split.name, hint.removeprefix(f"{split.name} ")))


def _index_state(kind: str, root: Path, split: Split) -> str:
    try:
        open_index(kind, root, split.name)
    except IndexUnusable as error:
        command = shlex.join(["motionaware", "prepare", "index", kind, "--root", str(root)])
        return f"{error}: each run reads the lists instead; to write an index, run: {command}"
    return "up to date"


def _unread_files(root: Path) -> list[Path]:
    """Return files outside class folders, and files without the name of a video inside them."""
    outside = (path for split in SPLITS for path in root.glob(f"{split}/*") if path.is_file())
    inside = (path for split in SPLITS for path in root.glob(f"{split}/*/*") if not is_video(path))
    return sorted(path for path in (*outside, *inside) if not path.name.startswith("."))


# ------------------------------------------------------------------------------------------ shards


def _check_shards(data: str, kind: str, report: DoctorReport, *, progress: bool) -> None:
    overlap: Overlap = {}
    splits = []
    for name in SPLITS:
        try:
            index = read_shard_index(data)
            split = index.split(name)
        except DataError as error:
            _add_split_error(name, error, report)
            continue
        assert isinstance(split.examples, ShardedExamples)
        splits.append(split)
        overlap = index.overlap
        reader = ShardReader(split)
        bar = tqdm(range(len(split.examples)), f"check {name}", disable=not progress)
        checks = [_check_shard_video(reader, number) for number in bar]
        report.facts.append((name, count(len(split.examples.shards), "shard")))
        _summarize(split, checks, report)
    _check_classes(splits, kind, report)
    for (first, second), number in overlap.items():
        _add_shared(first, second, count(number, "video"), report)


_CHECKS = {"shards": _check_shards}  # all other kinds have lists


def _check_shard_video(reader: ShardReader, index: int) -> _VideoCheck:
    try:
        with reader.video(index) as (name, path):
            check = _decode(path)
            notes = tuple(note.replace(str(path), name) for note in check.notes)
            return replace(check, notes=notes)
    except VideoError as error:
        return _VideoCheck(0, 0, 0, str(error))


# ----------------------------------------------------------------------------------------- reports


def _add_shared(first: str, second: str, videos: str, report: DoctorReport) -> None:
    fact = f"{first} and {second} both list {videos}"
    if first == "train":
        report.problems.append(
            f"{fact}: accuracy on {second} is too high; remove them from one of the two"
        )
    else:  # in some published data sets, val and test are the same
        report.facts.append(("shared", fact))


def _check_classes(splits: list[Split], kind: str, report: DoctorReport) -> None:
    """Report similar class names, and classes of a user's data set without training videos."""
    if not splits:
        return
    hints = similar_classes(splits[0].class_names)
    report.facts.extend(("hint", hint) for hint in hints)
    # The class list of a published data set is correct even if only a part of it is downloaded.
    is_own = kind in (*USER_KINDS, "shards")
    if is_own and splits[0].name == "train" and (problem := untrained_classes(splits[0])):
        report.problems.append(problem)


def _summarize(
    split: Split, checks: list[_VideoCheck], report: DoctorReport, *, num_missing: int = 0
) -> None:
    errors = [check.error for check in checks if check.error is not None]
    readable = [check for check in checks if check.error is None]
    counts = Counter(split.class_names[example.label] for example in split.examples)
    facts = [
        f"{count(len(checks), 'video')}, {f'{num_missing} missing, ' if num_missing else ''}"
        f"{len(errors) - num_missing or 'none'} broken; "
        f"{count(len(counts), 'class')} of {_range(counts.values(), 'video')}"
    ]
    if hint := empty_classes(split):
        facts.append(hint.removeprefix(f"{split.name} has "))
    if readable:
        facts += _describe_frames(readable)
    facts += [note for check in readable for note in check.notes]
    report.facts.extend((split.name, fact) for fact in facts)
    report.problems.extend(dict.fromkeys(errors))  # a broken shard gives the same error many times


def _describe_frames(checks: list[_VideoCheck]) -> list[str]:
    lengths = [check.num_frames for check in checks]
    sizes = Counter((check.height, check.width) for check in checks).most_common()
    (height, width), most = sizes[0]
    others = f" in {most}; {count(len(sizes) - 1, 'other size')}" if len(sizes) > 1 else ""
    facts = [f"{_range(lengths, 'frame')}, {height} x {width} pixels (height x width){others}"]
    default = ClipSpec().num_frames
    if num_short := sum(length < default for length in lengths):
        facts.append(
            f"{count(num_short, 'video')} with fewer frames than the {default} of a default clip, "
            f"the shortest has {min(lengths)}: their clips repeat frames; a lower clip.num_frames "
            "avoids that"
        )
    return facts


def _range(numbers: Iterable[int], noun: str) -> str:
    """Return `8 frames`, or `8 to 24 frames (median 16)`."""
    low, *_, high = ordered = sorted([*numbers] * 2)
    if low == high:
        return count(low, noun)
    return f"{low} to {count(high, noun)} (median {statistics.median(ordered):g})"
