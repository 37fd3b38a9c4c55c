"""Measure the start of a run on a large data set, with and without its index.

    python benchmarks/index.py                    # 300,000 videos, some minutes
    python benchmarks/index.py --videos 20000

Videos are empty files with 174 classes; 80 % are in train, 10 % in val and 10 % in test. The layout
is that of Something-Something V2 (one flat folder) or of CSV lists. Each measurement runs in a new
process, which does what a run does:

    overlap       which splits share videos (`check_splits`)
    open          the training split, and that its videos exist (`FileSource.open`)
    duplicates    videos that the training list contains twice (`repeated_videos`)
    first batch   the order of the first epoch

Wall-clock and CPU seconds, both the median of several processes. Memory is that of the main
process, and what one epoch of reading every example in random order adds in a forked worker. Pages
of the mapped file are not counted: the system shares them between all processes.
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from motionaware.clip import ClipSpec
from motionaware.data.annotations.index import fingerprint_lists, write_index
from motionaware.data.annotations.overlap import find_overlap, overlap_of
from motionaware.data.annotations.split import SPLITS, Split
from motionaware.data.annotations.table import read_lists
from motionaware.data.hints import repeated_videos
from motionaware.data.loader import TrainingBatchSampler
from motionaware.data.source import ClipOptions, FileSource
from motionaware.engine.config import DataConfig
from motionaware.engine.dataset_factory import check_splits, open_source

NUM_CLASSES = 174
KINDS = ("something-v2", "csv")
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
_LIST_NAMES = {"train": "train", "val": "validation"}
_FOLDER = "20bn-something-something-v2"


def write_data(root: Path, kind: str, num_videos: int) -> None:
    """Write empty videos and the lists of all splits."""
    (root / _FOLDER).mkdir(parents=True)
    for number in range(num_videos):
        (root / _FOLDER / f"{number}.webm").touch()
    class_names = [f"Doing thing number {index} to something" for index in range(NUM_CLASSES)]
    if kind == "something-v2":
        indices = {name: str(index) for index, name in enumerate(class_names)}
        (root / "labels.json").write_text(json.dumps(indices))
    first = 0
    for split, share in SHARES.items():
        last = first + int(share * num_videos)
        rows = [(number, class_names[number % NUM_CLASSES]) for number in range(first, last)]
        write_list(root, kind, split, rows)
        first = last


def write_list(root: Path, kind: str, split: str, rows: list[tuple[int, str]]) -> None:
    """Write the list of one split: number and class of each video."""
    if kind == "csv":
        lines = (f"{_FOLDER}/{number}.webm,{name}\n" for number, name in rows)
        (root / f"{split}.csv").write_text("".join(lines))
    elif split == "test":
        lines = (f"{number};{name}\n" for number, name in rows)
        (root / "test-answers.csv").write_text("".join(lines))
    else:
        entries = [{"id": str(number), "template": name} for number, name in rows]
        (root / f"{_LIST_NAMES[split]}.json").write_text(json.dumps(entries))


def write_indices(root: Path, kind: str) -> float:
    """Write the index of every split, as `prepare_data` does; return the size in MB."""
    splits = [read_lists(kind, root, name) for name in SPLITS]
    overlap = find_overlap(splits)
    num_bytes = 0
    for split in splits:
        path = write_index(
            kind,
            root,
            split,
            [50] * len(split.examples),
            fingerprint=fingerprint_lists(kind, root, split),
            overlap=overlap_of(split.name, overlap, SPLITS),
        )
        num_bytes += path.stat().st_size
    return num_bytes / 1e6


def memory_mb(key: str) -> float:
    """Return memory of this process: `Rss`, or `Private_Dirty`, which no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith(key)) / 1e3


def read_every_example(split: Split, result: Connection) -> None:
    """Do what a worker does in an epoch, without opening videos; send the memory that this took."""
    before = memory_mb("Private_Dirty")
    order = list(range(len(split.examples)))
    random.Random(0).shuffle(order)
    of_order = memory_mb("Private_Dirty") - before
    for index in order:
        example = split.examples[index]
        _ = example.label, os.fspath(example.path)
    result.send(memory_mb("Private_Dirty") - before - of_order)


def start(kind: str, root: Path, result: Connection) -> None:
    """Start as a run does, and send seconds and memory."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        seconds[f"{name} s"] = time.perf_counter() - wall
        seconds[f"{name} CPU s"] = time.process_time() - cpu

    before = memory_mb("Rss")
    source = open_source(DataConfig(kind=kind, root=str(root)))
    assert isinstance(source, FileSource)
    with timed("overlap"):
        check_splits(source)
    with timed("open"):
        source.open("train", ClipOptions(spec=ClipSpec()))
    split = source.read("train")
    with timed("duplicates"):
        repeated_videos(split)
    with timed("first batch"):
        next(iter(TrainingBatchSampler(len(split.examples), batch_size=16, seed=0)))
    seconds["main MB"] = memory_mb("Rss") - before
    received, sent = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=read_every_example, args=(split, sent))
    worker.start()
    seconds["worker MB"] = received.recv()
    worker.join()
    result.send(seconds)


def measure(kind: str, root: Path) -> dict[str, float]:
    """Measure a start in a new process."""
    received, sent = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=start, args=(kind, root, sent))
    process.start()
    found = received.recv()
    process.join()
    return found


def main() -> None:
    """Measure and print a line for each kind, with and without its index."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=300_000, help="videos in all splits together")
    parser.add_argument("--runs", type=int, default=3, help="processes; their median is printed")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="layouts")
    args = parser.parse_args()
    print(f"{args.videos} videos, {os.cpu_count()} CPUs, median of {args.runs}")
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_data(root, kind, args.videos)
            for name in ("lists", "index"):
                if name == "index":
                    began = time.perf_counter()
                    size = write_indices(root, kind)
                    print(f"  {kind}: wrote {size:.1f} MB in {time.perf_counter() - began:.1f} s")
                runs = [measure(kind, root) for _ in range(args.runs)]
                median = {key: sorted(run[key] for run in runs)[args.runs // 2] for key in runs[0]}
                numbers = ", ".join(f"{key} {number:.3g}" for key, number in median.items())
                print(f"  {kind} from its {name}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
