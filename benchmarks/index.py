"""How soon can a run start on a large data set? An index against the lists it was made from.

    python benchmarks/index.py                    # 200 000 entries, about two minutes
    python benchmarks/index.py --entries 20000

Videos are empty files and classes 174; the layout is that of Something-Something V2 (one flat
folder) or of a CSV list. Each way to start has a process of its own, which opens the split as a run
does (`read_split`, `check_videos_exist`), hands it to a forked worker, and lets the worker ask for
every example once, in an order of chance, as an epoch does. Told are the seconds until the split is
ready; the memory that this took in the main process; and how much memory the epoch made the
worker's own, which is what each further worker adds. Pages of the mapped file are not counted: they
belong to the cache of the system, once for all processes.
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from motionaware.data.annotations.index import fingerprint_lists, write_index
from motionaware.data.annotations.split import Split
from motionaware.data.annotations.table import check_videos_exist, read_lists, read_split
from motionaware.data.loader import TrainingBatchSampler

NUM_CLASSES = 174
LISTS = {"something-v2": "train.json", "csv": "train.csv"}


def write_data(root: Path, kind: str, num_entries: int) -> None:
    """Write empty videos and their lists."""
    folder = root / "20bn-something-something-v2"
    folder.mkdir(parents=True)
    for number in range(num_entries):
        (folder / f"{number}.webm").touch()
    names = [f"Doing thing number {place} to something" for place in range(NUM_CLASSES)]
    labels = [names[number % NUM_CLASSES] for number in range(num_entries)]
    if kind == "csv":
        lines = (f"{folder.name}/{i}.webm,{label}\n" for i, label in enumerate(labels))
        (root / "train.csv").write_text("".join(lines))
    else:
        (root / "labels.json").write_text(
            json.dumps({name: str(i) for i, name in enumerate(names)})
        )
        entries = [{"id": str(i), "template": label} for i, label in enumerate(labels)]
        (root / "train.json").write_text(json.dumps(entries))


def memory_mb(key: str) -> float:
    """Memory of this process: `Rss`, or `Private_Dirty`, written here and shared with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith(key)) / 1e3


def ask_for_all(split: Split, answer: Connection) -> None:
    """What a worker does in an epoch, but for the videos."""
    before = memory_mb("Private_Dirty")
    order = list(range(len(split.examples)))
    random.Random(0).shuffle(order)
    holding = memory_mb("Private_Dirty") - before  # the order is this script's
    for place in order:
        example = split.examples[place]
        _ = example.label, os.fspath(example.path)  # as whoever opens it does
    answer.send(memory_mb("Private_Dirty") - before - holding)


def start(kind: str, root: Path, use_index: bool, answer: Connection) -> None:
    """Start as a run does; send what it took."""
    before, began = memory_mb("Rss"), time.perf_counter()
    split = (read_split if use_index else read_lists)(kind, root, "train")
    listed = time.perf_counter()
    check_videos_exist(split)
    ready = time.perf_counter()
    memory = memory_mb("Rss") - before
    next(iter(TrainingBatchSampler(len(split.examples), batch_size=16, seed=0)))
    first_batch = time.perf_counter()
    asked, heard = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=ask_for_all, args=(split, heard))
    worker.start()
    answer.send(
        {
            "seconds to list": listed - began,
            "seconds to check": ready - listed,
            "seconds to order": first_batch - ready,
            "main MB": memory,
            "worker MB": asked.recv(),
        }
    )
    worker.join()


def measure(kind: str, root: Path, use_index: bool) -> dict[str, Any]:
    """Start in a new process."""
    asked, heard = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=start, args=(kind, root, use_index, heard))
    process.start()
    found = asked.recv()
    process.join()
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3, help="the median of so many is told")
    args = parser.parse_args()
    print(f"{args.entries} entries, {os.cpu_count()} CPUs, median of {args.runs}")
    for kind, listing in LISTS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_data(root, kind, args.entries)
            for use_index in (False, True):
                if use_index:
                    began = time.perf_counter()
                    split = read_lists(kind, root, "train")
                    frames = [50] * len(split.examples)
                    fingerprint = fingerprint_lists(kind, root, split)
                    path = write_index(kind, root, split, frames, fingerprint=fingerprint)
                    took, size = time.perf_counter() - began, path.stat().st_size / 1e6
                    print(f"  {kind}: index written in {took:.1f} s, {size:.1f} MB")
                runs = [measure(kind, root, use_index) for _ in range(args.runs)]
                median = {key: sorted(run[key] for run in runs)[args.runs // 2] for key in runs[0]}
                told = ", ".join(f"{key} {number:.3g}" for key, number in median.items())
                print(f"  {kind} from {'its index' if use_index else listing}: {told}", flush=True)


if __name__ == "__main__":
    main()
