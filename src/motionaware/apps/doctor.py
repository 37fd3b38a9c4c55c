"""Doctor: check the installation and a data set, and name every broken file. Changes nothing."""

import importlib.util
import os
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
class Checkup:
    """What was found: facts, each with what it is about, and what is wrong."""

    facts: list[tuple[str, str]]
    faults: list[str]


@dataclass(frozen=True)
class _Seen:
    """What opening and decoding one video showed."""

    num_frames: int
    height: int
    width: int
    error: str | None = None
    notes: tuple[str, ...] = ()


def doctor(
    data: str | Path | None = None, *, kind: str | None = None, progress: bool = False
) -> Checkup:
    """Check the installation and, if given, a data set: every frame of every video is decoded.

    Args:
        data: Folder of a data set.
        kind: Its layout; see `motionaware.data.annotations.table`. None detects `folder`, `csv`,
            `list` or `shards` from the file names; the facts name the kind found.
        progress: Show a bar on the error stream.
    """
    facts, faults = _check_installation()
    if data is not None:
        kind = kind or detect_kind(data)
        check = _CHECKS.get(kind, _check_lists)
        found = check(str(data), kind, progress)
        facts, faults = facts + found.facts, faults + found.faults
    return Checkup(facts, faults)


def _check_installation() -> tuple[list[tuple[str, str]], list[str]]:
    facts, faults = [], []
    for package in ("motionaware", *_PACKAGES):
        try:
            facts.append((package, version(package)))
        except PackageNotFoundError:
            faults.append(f"{package} is not installed; run: pip install motionaware")
    for module, remedy in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            facts.append((module, f"not installed; if you want it: {remedy}"))
    if faults:
        return facts, faults
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    facts.append(
        (
            "machine",
            f"{count(os.cpu_count() or 1, 'CPU')}, {torch.get_num_threads()} of them for "
            f"torch; GPU: {gpu}",
        )
    )
    absent = [name for name in _DECODERS if not can_decode(name)]
    facts.append(("decoders", ", ".join(name for name in _DECODERS if name not in absent)))
    faults += [f"decoder {name} is missing from this build of av" for name in absent]
    return facts, faults


def _check_lists(data: str, kind: str, progress: bool) -> Checkup:
    root = Path(data)
    checkup = Checkup([("data", f"{root}, kind {kind}")], [])
    splits = []
    for name in SPLITS:
        try:
            split = read_lists(kind, root, name)
        except SplitAbsent as error:
            checkup.facts.append((name, "absent"))
            if name == "train":  # other splits may be; this one is what a model learns from
                checkup.faults.append(str(error))
        except DataError as error:
            if str(error) not in checkup.faults:  # a wrong folder is one fault, not one a split
                checkup.faults.append(str(error))
        else:
            splits.append(split)
            _check_split(split, checkup, progress)
    _check_classes(splits, kind, checkup)
    checkup.facts.extend((f"{one.name} index", _about_index(kind, root, one)) for one in splits)
    for one, other in combinations(splits, 2):
        if shared := shared_videos(one, other):
            videos = f"{count(len(shared), 'video')}, first {shared[0]}"
            _tell_shared(one.name, other.name, videos, checkup)
    unlisted = unlisted_videos(splits)
    if unlisted:
        number = count(len(unlisted), "video")
        checkup.facts.append(("no label", f"{number} beside those listed, first {unlisted[0]}"))
    if kind == "folder":
        checkup.faults.extend(
            f"{path} is not read: its name is not that of a video, or it is a still image; give it "
            "the suffix of its format, or take it away"
            for path in _strangers(root)
        )
    return checkup


def _about_index(kind: str, root: Path, split: Split) -> str:
    try:
        open_index(kind, root, split.name)
    except IndexUnusable as error:
        command = shlex.join(["motionaware", "prepare", kind, "--root", str(root)])
        return f"{error}: the lists are read at each start instead; to write an index: {command}"
    return "fresh: read at once"


def _tell_shared(one: str, other: str, videos: str, checkup: Checkup) -> None:
    fact = f"{one} and {other} both list {videos}"
    if one == "train":  # val and test are one in some published data sets
        fault = f"{fact}: accuracy on what was learnt is flattered; take them out of one"
        checkup.faults.append(fault)
    else:
        checkup.facts.append(("shared", fact))


def _check_shards(root: str, kind: str, progress: bool) -> Checkup:
    checkup = Checkup([("data", f"{root}, kind {kind}")], [])
    shared: Overlap = {}
    splits = []
    for name in SPLITS:
        try:
            index = read_shard_index(root)
            split = index.split(name)
        except SplitAbsent as error:
            checkup.facts.append((name, "absent"))
            if name == "train":
                checkup.faults.append(str(error))
        except DataError as error:
            if str(error) not in checkup.faults:
                checkup.faults.append(str(error))
        else:
            assert isinstance(split.examples, ShardedExamples)
            splits.append(split)
            shared = index.overlap
            reader = ShardReader(split)
            bar = tqdm(range(len(split.examples)), f"check {name}", disable=not progress)
            seen = [_look_into(reader, index) for index in bar]
            checkup.facts.append((name, count(len(split.examples.shards), "shard")))
            _summarise(split, seen, checkup)
    _check_classes(splits, kind, checkup)
    for (one, other), number in shared.items():
        _tell_shared(one, other, count(number, "video"), checkup)
    return checkup


_CHECKS = {"shards": _check_shards}  # other kinds have lists


def _look_into(reader: ShardReader, index: int) -> _Seen:
    try:
        with reader.video(index) as (name, path):
            seen = _look_at(path)
            return replace(seen, notes=tuple(note.replace(str(path), name) for note in seen.notes))
    except VideoError as error:
        return _Seen(0, 0, 0, str(error))


def _check_split(split: Split, checkup: Checkup, progress: bool) -> None:
    num_missing = len(missing_examples(split))
    if num_missing == len(split.examples):  # a wrong folder is one fault, not one a video
        checkup.facts.append((split.name, f"{count(num_missing, 'video')}, all missing"))
        try:
            check_videos_exist(split)
        except DataError as error:
            checkup.faults.append(str(error))
        return
    _tell_repeated(split, checkup)
    paths = [example.path for example in split.examples]
    pool = ThreadPoolExecutor(os.cpu_count())  # decoding leaves Python's lock
    try:
        bar = tqdm(
            pool.map(_look, paths), f"check {split.name}", total=len(paths), disable=not progress
        )
        seen = list(bar)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of videos
    _summarise(split, seen, checkup, num_missing=num_missing)


def _tell_repeated(split: Split, checkup: Checkup) -> None:
    """Name what one list holds several times: a fact, and a fault where its classes differ."""
    found = repeated_videos(split)
    if found is None:
        return
    hint, classes_differ = found
    if classes_differ:
        checkup.faults.append(hint)
    else:
        checkup.facts.append((split.name, hint.removeprefix(f"{split.name} ")))


def _check_classes(splits: list[Split], kind: str, checkup: Checkup) -> None:
    """Name classes that look like one, and classes of one's own that training has no video of."""
    if not splits:
        return
    hints = similar_classes(splits[0].class_names)
    checkup.facts.extend(("hint", hint) for hint in hints)
    # The class list of a published data set is right, even where one has a part of the videos only.
    own = kind in (*USER_KINDS, "shards")
    if own and splits[0].name == "train" and (fault := untrained_classes(splits[0])):
        checkup.faults.append(fault)


def _summarise(split: Split, seen: list[_Seen], checkup: Checkup, *, num_missing: int = 0) -> None:
    errors = [one.error for one in seen if one.error is not None]
    whole = [one for one in seen if one.error is None]
    counts = Counter(split.class_names[example.label] for example in split.examples)
    facts = [
        f"{count(len(seen), 'video')}, {f'{num_missing} missing, ' if num_missing else ''}"
        f"{len(errors) - num_missing or 'none'} broken; "
        f"{count(len(counts), 'class')} of {_range(counts.values(), 'video')}"
    ]
    if hint := empty_classes(split):
        facts.append(hint.removeprefix(f"{split.name} has "))
    if whole:
        lengths = [one.num_frames for one in whole]
        sizes = Counter((one.height, one.width) for one in whole).most_common()
        (height, width), most = sizes[0]
        others = f" in {most}; {count(len(sizes) - 1, 'other size')}" if len(sizes) > 1 else ""
        facts.append(
            f"{_range(lengths, 'frame')}, {height} x {width} pixels (height x width){others}"
        )
        short = sum(length < ClipSpec().num_frames for length in lengths)
        if short:
            facts.append(
                f"{count(short, 'video')} with fewer frames than the {ClipSpec().num_frames} of "
                f"a usual clip, the shortest has {min(lengths)}: its clips show some frames more "
                "than once; a lower clip.num_frames avoids that"
            )
    facts += [note for one in whole for note in one.notes]  # all: other verbs refer to this one
    checkup.facts.extend((split.name, fact) for fact in facts)
    checkup.faults.extend(dict.fromkeys(errors))  # a broken shard is one fault, not one a video


def _range(numbers: Iterable[int], word: str) -> str:
    """`8 frames`, or `8 to 24 frames (median 16)`."""
    low, *_, high = ordered = sorted([*numbers] * 2)
    if low == high:
        return count(low, word)
    return f"{low} to {count(high, word)} (median {statistics.median(ordered):g})"


def _look(path: Path) -> _Seen:
    try:
        return _look_at(path)
    except (VideoError, OSError) as error:
        return _Seen(0, 0, 0, str(error))


def _look_at(path: Path) -> _Seen:
    video = open_video(path)
    for _ in video.iter_frames():  # one at a time: decoding takes little memory
        pass
    return _Seen(video.num_frames, video.height, video.width, notes=tuple(video.notes))


def _strangers(root: Path) -> list[Path]:
    """Files that no name marks as videos, or that stand in no class folder: they are not read."""
    beside = (path for split in SPLITS for path in root.glob(f"{split}/*") if path.is_file())
    inside = (path for split in SPLITS for path in root.glob(f"{split}/*/*") if not is_video(path))
    return sorted(path for path in (*beside, *inside) if not path.name.startswith("."))
