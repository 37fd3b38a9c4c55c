"""Measure the cost of each cell's model, and keep the result in `costs.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from motionaware.engine.config_io import recipe_to_dict
from motionaware.engine.cost import Cost, measure
from motionaware.engine.evaluate import pick_device
from motionaware.files import write_atomically
from motionaware.report.environment import describe_environment
from motionaware.report.runs import Run

NUM_REPEATS = 25  # timed forward passes of each model


def measure_costs(
    runs: Mapping[tuple[str, str], Run], out: Path, *, num_classes: int
) -> tuple[dict[tuple[str, str], Cost], dict[str, str]]:
    """Measure each cell's model, or read `costs.json` if it is still valid.

    The file is valid while cells, number of classes, machine and versions are the same.

    Args:
        runs: One finished run per cell, by backbone and temporal module.
        out: Folder of the report.
        num_classes: Number of classes of the models.

    Returns:
        The cost of each cell, and the environment of the measurement.
    """
    path, environment = out / "costs.json", describe_environment()
    recipes = {names: recipe_to_dict(run.recipe, folder=out) for names, run in runs.items()}
    key = {
        "machine": environment["machine"],
        "versions": environment["versions"],
        "columns": [  # older versions called a cell a column
            [*names, *(recipe[group] for group in ("model", "clip"))]
            for names, recipe in recipes.items()
        ],
        "num_classes": num_classes,
    }
    if path.is_file():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["key"] == json.loads(json.dumps(key)):
                costs = [Cost(**cost) for cost in stored["costs"]]
                return dict(zip(runs, costs, strict=True)), stored["facts"]
        except (ValueError, KeyError, TypeError):
            pass  # the file is damaged: measure again
    device = pick_device()
    models = [run.load_model().to(device) for run in runs.values()]
    costs, _, num_threads = measure(models, num_repeats=NUM_REPEATS)
    environment |= {
        "device": str(device),
        "threads": str(num_threads),
        "repeats": str(NUM_REPEATS),
    }
    stored = {"key": key, "facts": environment, "costs": [asdict(cost) for cost in costs]}
    write_atomically(path, json.dumps(stored, indent=1).encode())
    return dict(zip(runs, costs, strict=True)), environment
