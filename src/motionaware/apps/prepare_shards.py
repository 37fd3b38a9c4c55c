"""Prepare shards: write a data set as tar files that are read from one end to the other."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from motionaware.apps.prepare_index import prepare_data, read_all
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
from motionaware.errors import DataError
from motionaware.files import check_folder, write_atomically

_SIGNATURE = "written-from.json"
_MIB = 2**20


@dataclass(frozen=True)
class Sharded:
    """What was written.

    Attributes:
        counts: For each split that there is, its videos, how many of them were left out because
            they are missing or unreadable, and its shards.
        shared: How many videos two splits both have, for each two that share some.
    """

    counts: dict[str, Counter[str]]
    shared: Overlap


def prepare_shards(
    kind: str,
    root: str | Path,
    shards: str | Path,
    *,
    shard_mib: float | int = 64,
    num_workers: int | None = None,
    progress: bool = False,
) -> Sharded:
    """Write every video of a data set into shards, which `data.kind: shards` reads.

    A data set without a fresh index is checked and indexed first, as by `prepare_data`; videos that
    are missing or unreadable are left out and counted. Called again after an interruption, it
    continues. A shard appears whole or not at all; the index of the shards is written last.

    Args:
        kind: The layout; see `motionaware.data.annotations.table`.
        root: The folder of the data set. Nothing in it changes but `.motionaware`.
        shards: Folder to write to.
        shard_mib: Size of a shard in MiB; a video that is larger has a shard of its own.
        num_workers: Processes; 0 works in this one, and by default there is one a CPU.
        progress: Show bars on the error stream.

    Raises:
        DataError: The lists are not as the kind wants them, or `shards` cannot take them.
        OSError: A video cannot be read, or a shard not be written.
    """
    root, folder = Path(root), Path(shards)
    check_folder(folder)
    if not shard_mib > 0:
        raise DataError(f"{shard_mib = }; wanted the size of a shard in MiB, above 0")
    if folder.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{folder} lies in {root}, which it would change; choose another folder")
    counts, splits = {}, []
    for split in _indexed(kind, root, num_workers=num_workers, progress=progress):
        assert isinstance(split.examples, IndexedExamples)
        frames = split.examples.frames
        bad = [place for place, number in enumerate(frames) if number in (MISSING, UNREADABLE)]
        counts[split.name] = Counter(videos=len(frames), left_out=len(bad))
        if len(bad) < len(frames):
            splits.append(without_examples(split, bad))
    if not splits:
        raise DataError(f"no video of {root} can be read; motionaware doctor says why")
    plans = {
        split.name: plan_shards(
            split,
            [
                num_bytes_in_shard(one.path)
                for one in tqdm(split.examples, "measure", unit="video", disable=not progress)
            ],
            folder=folder,
            root=root,
            num_bytes=int(shard_mib * _MIB),
        )
        for split in splits
    }
    _sign(folder, {"kind": kind, "from": str(root.resolve()), "videos": _digest(plans)})
    sizes = _write(plans, num_workers=num_workers, progress=progress)
    shared = find_overlap(splits)
    write_shard_index(folder, splits[0].class_names, plans, sizes, overlap=shared)
    for name, plan in plans.items():
        counts[name]["shards"] = len(plan)
    return Sharded(counts, shared)


def _indexed(kind: str, root: Path, *, num_workers: int | None, progress: bool) -> list[Split]:
    names = [split.name for split in read_all(kind, root)]
    try:
        return [open_index(kind, root, name) for name in names]
    except IndexUnusable:
        prepare_data(kind, root, num_workers=num_workers, progress=progress)
        return [open_index(kind, root, name) for name in names]


def _write(
    plans: dict[str, list[Shard]], *, num_workers: int | None, progress: bool
) -> dict[Path, int]:
    shards = [shard for plan in plans.values() for shard in plan]
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    done = run_in_processes(write_shard, shards, num_workers=workers, on_crash=_died)
    bar = tqdm(done, "write", total=len(shards), unit="shard", disable=not progress)
    return {shard.path: size for shard, size in bar}


def _died(shard: Shard) -> int:
    raise OSError(f"the process that wrote {shard.path} was ended; repeat the command to go on")


def _digest(plans: dict[str, list[Shard]]) -> str:
    """What tells one writing from another: which videos stand in which shard, under which label."""
    facts = [
        (one.path.name, [(name, label) for _, name, label in one.videos], one.class_names)
        for plan in plans.values()
        for one in plan
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _sign(folder: Path, facts: dict[str, str]) -> None:
    """Note what is written here, so that the shards of two writings do not mix."""
    path = folder / _SIGNATURE
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != facts:
            raise DataError(
                f"{folder} holds shards of other videos, or of another size; choose another "
                "folder, or delete this one"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds something else already; choose a new or empty folder")
    else:
        write_atomically(path, json.dumps(facts).encode())
