"""What the models of a comparison cost, all timed in turns; measured once for a set of columns."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from motionaware.engine.config_io import recipe_to_dict
from motionaware.engine.cost import Cost, measure
from motionaware.engine.evaluate import pick_device
from motionaware.files import write_atomically
from motionaware.report.environment import present_facts
from motionaware.report.train_runs import Run

NUM_REPEATS = 25


def measure_costs(
    runs: Mapping[tuple[str, str], Run], out: Path, *, num_classes: int
) -> tuple[dict[tuple[str, str], Cost], dict[str, str]]:
    """The cost of each column, by the model of one of its runs, and where and when it was measured.

    Kept in `costs.json`; it holds as long as columns, classes, machine and versions are the same.

    Args:
        runs: One finished run a column.
        out: Folder of the report.
        num_classes: That the models tell apart.
    """
    path, now = out / "costs.json", present_facts()
    recipes = {names: recipe_to_dict(run.recipe, folder=out) for names, run in runs.items()}
    key = {
        "machine": now["machine"],
        "versions": now["versions"],
        "columns": [
            [*names, *(recipe[group] for group in ("model", "clip"))]
            for names, recipe in recipes.items()
        ],
        "num_classes": num_classes,
    }
    if path.is_file():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == json.loads(json.dumps(key)):
                costs = [Cost(**cost) for cost in kept["costs"]]
                return dict(zip(runs, costs, strict=True)), kept["facts"]
        except (ValueError, KeyError, TypeError):
            pass  # damaged: measured again
    device = pick_device()
    models = [run.load().to(device) for run in runs.values()]
    costs, _, num_threads = measure(models, num_repeats=NUM_REPEATS)
    facts = now | {
        "device": str(device),
        "threads": str(num_threads),
        "repeats": str(NUM_REPEATS),
    }
    kept = {"key": key, "facts": facts, "costs": [asdict(cost) for cost in costs]}
    write_atomically(path, json.dumps(kept, indent=1).encode())
    return dict(zip(runs, costs, strict=True)), facts
