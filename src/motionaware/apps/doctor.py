"""Doctor: check the installation and a data set, and name every broken file. Changes nothing."""

import importlib.util
import os
import statistics
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

from motionaware.data.annotations import SPLITS, DataError, Split, is_video, read_split
from motionaware.data.video import VideoError, open_video

_PACKAGES = ("torch", "torchvision", "timm", "av", "safetensors", "jsonargparse", "tensorboard")
_EXTRAS = {"matplotlib": "pip install 'motionaware[plots]'  (pictures)"}
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
_FRAMES_AT_ONCE = 32  # bounds the memory that decoding takes


@dataclass(frozen=True)
class Checkup:
    """What was found: lines to read, and the faults among them."""

    facts: list[str]
    faults: list[str]


@dataclass(frozen=True)
class _Seen:
    """What opening and decoding one video showed."""

    num_frames: int
    height: int
    width: int
    error: str | None = None


def doctor(
    data: str | Path | None = None, *, kind: str = "folder", progress: bool = False
) -> Checkup:
    """Check the installation and, if given, a data set: every frame of every video is decoded.

    Args:
        data: Folder of a data set.
        kind: Its layout; see `motionaware.data.annotations`.
        progress: Show a bar on the error stream.
    """
    facts, faults = _check_installation()
    if data is not None:
        found = _check_data(Path(data), kind, progress)
        facts, faults = facts + found.facts, faults + found.faults
    return Checkup(facts, faults)


def _check_installation() -> tuple[list[str], list[str]]:
    facts, faults = [], []
    for package in ("motionaware", *_PACKAGES):
        try:
            facts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            faults.append(f"{package} is not installed; run: pip install motionaware")
    for module, remedy in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            facts.append(f"{module} is not installed; if you want it: {remedy}")
    if faults:
        return facts, faults
    import av
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    facts.append(f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads, GPU: {gpu}")
    absent = [name for name in _DECODERS if name not in av.codecs_available]
    facts.append(f"decoders: {', '.join(name for name in _DECODERS if name not in absent)}")
    faults += [f"decoder {name} is missing from this build of av" for name in absent]
    return facts, faults


def _check_data(root: Path, kind: str, progress: bool) -> Checkup:
    facts: list[str] = []
    faults: list[str] = []
    splits: list[Split] = []
    for name in SPLITS:
        try:
            splits.append(read_split(kind, root, name))
        except DataError as error:
            # A data set may lack a split; it must not lack the one that is trained on.
            (faults if name == "train" else facts).append(f"{name}: {error}")
    for split in splits:
        found = _check_split(split, progress)
        facts += found.facts
        faults += found.faults
    if kind == "folder":
        facts += _strangers(root)
    return Checkup(facts, faults)


def _check_split(split: Split, progress: bool) -> Checkup:
    paths = [example.path for example in split.examples]
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock
        bar = tqdm(
            pool.map(_look, paths), f"check {split.name}", total=len(paths), disable=not progress
        )
        seen = list(bar)
    faults = [one.error for one in seen if one.error is not None]
    whole = [one for one in seen if one.error is None]
    counts = Counter(split.class_names[example.label] for example in split.examples)
    facts = [f"{split.name}: {len(paths)} videos in {len(counts)} classes, {len(faults)} broken"]
    if whole:
        lengths = [one.num_frames for one in whole]
        sizes = Counter((one.height, one.width) for one in whole).most_common()
        (height, width), most = sizes[0]
        facts.append(
            f"{split.name}: {min(lengths)} to {max(lengths)} frames, median "
            f"{statistics.median(lengths):g}; {height} x {width} pixels (h x w) in {most}, "
            f"{len(sizes) - 1} other sizes"
        )
    empty = [name for name in split.class_names if name not in counts]
    if empty:
        facts.append(f"{split.name}: no video of {', '.join(empty)}")
    few, many = min(counts.values()), max(counts.values())
    facts.append(f"{split.name}: {few} to {many} videos a class")
    return Checkup(facts, faults)


def _look(path: Path) -> _Seen:
    try:
        video = open_video(path)
        for first in range(0, video.num_frames, _FRAMES_AT_ONCE):
            video.frames(range(first, min(first + _FRAMES_AT_ONCE, video.num_frames)))
    except VideoError as error:
        return _Seen(0, 0, 0, str(error))
    return _Seen(video.num_frames, video.height, video.width)


def _strangers(root: Path) -> list[str]:
    """Files in class folders that no name marks as videos: they are not read."""
    files = [
        path
        for split in SPLITS
        for path in sorted(root.glob(f"{split}/*/*"))
        if not is_video(path) and not path.name.startswith(".")
    ]
    return [f"not a video by its name, left out: {path}" for path in files]
