"""Write a data set as shards: tar files that are read sequentially."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from motionaware.apps.prepare_index import prepare_index, read_all_lists
from motionaware.data.annotations.index import (
    MISSING,
    UNREADABLE,
    IndexedExamples,
    IndexUnusable,
    open_index,
    without_examples,
)
from motionaware.data.annotations.overlap import find_overlap
from motionaware.data.annotations.split import Overlap, Split
from motionaware.data.processes import run_in_processes
from motionaware.data.shards.writer import (
    Shard,
    num_bytes_in_shard,
    plan_shards,
    write_shard,
    write_shard_index,
)
from motionaware.errors import DataError, WorkerCrashed
from motionaware.files import check_folder, write_atomically

_SETTINGS = "written-from.json"
_MIB = 2**20


@dataclass(frozen=True)
class PreparedShards:
    """The result of `prepare_shards`.

    Attributes:
        counts: Numbers of videos, of shards, and of videos left out because they are missing or
            unreadable, for each split.
        shared: Number of common videos of each two splits that share any.
    """

    counts: dict[str, Counter[str]]
    shared: Overlap


def prepare_shards(
    kind: str,
    root: str | Path,
    out: str | Path,
    *,
    shard_mib: float | int = 64,
    num_workers: int | None = None,
    progress: bool = False,
) -> PreparedShards:
    """Write all videos of a data set to shards, which `data.kind: shards` reads.

    A data set without a fresh index is first checked and indexed by `prepare_index`. Missing and
    unreadable videos are left out and counted. An interrupted call can be repeated and continues.
    Each shard is written atomically; the index of the shards is written last.

    Args:
        kind: Kind of the data set; see `motionaware.data.annotations.table`.
        root: Folder of the data set. Only `.motionaware` in it is changed.
        out: Folder to write to.
        shard_mib: Size of a shard in MiB; a larger video gets a shard to itself.
        num_workers: Worker processes; 0 works in this process, None takes one per CPU.
        progress: Show progress bars on standard error.

    Raises:
        DataError: The lists are invalid, or `out` cannot hold the shards.
        OSError: A video cannot be read, or a shard cannot be written.
        WorkerCrashed: A worker process ended while it wrote a shard.
    """
    root, out = Path(root), Path(out)
    check_folder(out)
    if not shard_mib > 0:
        raise DataError(f"{shard_mib = }; wanted the size of a shard in MiB, above 0")
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{out} is inside {root}, which must not change; choose another folder")
    counts, splits = {}, []
    for split in _indexed_splits(kind, root, num_workers=num_workers, progress=progress):
        assert isinstance(split.examples, IndexedExamples)
        frames = split.examples.frames
        bad = [place for place, number in enumerate(frames) if number in (MISSING, UNREADABLE)]
        counts[split.name] = Counter(videos=len(frames), left_out=len(bad))
        if len(bad) < len(frames):
            splits.append(without_examples(split, bad))
    if not splits:
        raise DataError(f"no video of {root} can be read; motionaware doctor lists the reasons")
    plans = {
        split.name: plan_shards(
            split,
            [
                num_bytes_in_shard(example.path)
                for example in tqdm(split.examples, "measure", unit="video", disable=not progress)
            ],
            folder=out,
            root=root,
            num_bytes=int(shard_mib * _MIB),
        )
        for split in splits
    }
    _check_settings(out, {"kind": kind, "from": str(root.resolve()), "videos": _digest(plans)})
    sizes = _write(plans, num_workers=num_workers, progress=progress)
    shared = find_overlap(splits)
    write_shard_index(out, splits[0].class_names, plans, sizes, overlap=shared)
    for name, plan in plans.items():
        counts[name]["shards"] = len(plan)
    return PreparedShards(counts, shared)


def _indexed_splits(
    kind: str, root: Path, *, num_workers: int | None, progress: bool
) -> list[Split]:
    names = [split.name for split in read_all_lists(kind, root)]
    try:
        return [open_index(kind, root, name) for name in names]
    except IndexUnusable:
        prepare_index(kind, root, num_workers=num_workers, progress=progress)
        return [open_index(kind, root, name) for name in names]


def _write(
    plans: dict[str, list[Shard]], *, num_workers: int | None, progress: bool
) -> dict[Path, int]:
    """Write all shards; return their sizes in bytes."""
    shards = [shard for plan in plans.values() for shard in plan]
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    written = run_in_processes(write_shard, shards, num_workers=workers, on_crash=_crashed)
    bar = tqdm(written, "write", total=len(shards), unit="shard", disable=not progress)
    return {shard.path: size for shard, size in bar}


def _crashed(shard: Shard) -> int:
    raise WorkerCrashed(
        f"the process that wrote {shard.path} crashed or was killed; repeat the command to continue"
    )


def _digest(plans: dict[str, list[Shard]]) -> str:
    """Return a hash of which video is in which shard, with which label."""
    facts = [
        (shard.path.name, [(name, label) for _, name, label in shard.videos], shard.class_names)
        for plan in plans.values()
        for shard in plan
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_settings(folder: Path, settings: dict[str, str]) -> None:
    """Write the settings to the folder, or check that it has the same ones.

    Raises:
        DataError: The settings differ, or the folder holds other files.
    """
    path = folder / _SETTINGS
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != settings:
            raise DataError(
                f"{folder} holds shards of other videos or with another --shard-mib; choose "
                "another folder, or delete this one"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; choose a new or empty folder")
    else:
        write_atomically(path, json.dumps(settings).encode())
