"""Measure what the recipe key train.keep_freed_memory gains in a training step on the CPU.

    python benchmarks/keep_freed_memory.py --rounds 7

Each round starts one process with the setting and one without, in alternating order, because the
setting holds for a whole process. Each process trains the model of quickstart on one thread and
reports the median time of a step. The output is the median over the rounds of both, and of their
ratio.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from motionaware.apps.quickstart import CHALLENGER, RECIPE
from motionaware.engine.malloc import keep_freed_memory
from motionaware.engine.model import lay_channels_last
from motionaware.models.recognizer import create_model


def measure_process(keep: bool, num_steps: int) -> dict[str, float]:
    """Return medians of one process: wall and CPU seconds a step, page faults a step."""
    if keep and not keep_freed_memory():
        raise SystemExit("the C library is not glibc: there is nothing to measure")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = RECIPE.clip
    model = create_model(
        RECIPE.model.backbone,
        temporal=CHALLENGER,
        num_classes=12,
        num_frames=clip.num_frames,
        clip=clip,
    )
    lay_channels_last(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    shape = (RECIPE.train.batch_size, clip.num_frames, 3, clip.image_size, clip.image_size)
    clips = torch.randint(256, shape, dtype=torch.uint8)
    labels = torch.arange(len(clips)) % 12
    rows = []
    for step in range(3 + num_steps):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        wall, cpu = time.perf_counter(), time.process_time()
        torch.nn.functional.cross_entropy(model(clips), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        row = time.perf_counter() - wall, time.process_time() - cpu
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        if step >= 3:  # the first steps allocate memory in both cases
            rows.append((*row, float(faults)))
    wall, cpu, faults = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"wall": wall, "cpu": cpu, "faults": faults}


def main() -> None:
    """Run all processes and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--process", choices=["keep", "default"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.process:
        print(json.dumps(measure_process(args.process == "keep", args.steps)))
        return
    found: dict[str, list[dict[str, float]]] = {"keep": [], "default": []}
    for number in range(args.rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            command = [sys.executable, __file__, "--process", name, "--steps", str(args.steps)]
            found[name].append(json.loads(subprocess.check_output(command)))
    for key, unit in (("wall", "s"), ("cpu", "s"), ("faults", "pages")):
        keep, default = ([row[key] for row in found[name]] for name in ("keep", "default"))
        ratios = [one / other for one, other in zip(keep, default, strict=True)]
        print(
            f"{key:>6}  default {statistics.median(default):10.4f} {unit}  "
            f"keep {statistics.median(keep):10.4f} {unit}  ratio keep / default: "
            f"median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
