"""Measures the parts of one training step; a part of benchmarks/temporal.py."""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from motionaware.apps.quickstart import RECIPE
from motionaware.engine.config import Recipe
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import Trainer


def recipes() -> dict[str, Recipe]:
    """Return the recipe of quickstart, and one with a larger network and larger frames."""
    small = replace(RECIPE, model=replace(RECIPE.model, temporal="m2a(reduction=4)"))
    threads = torch.get_num_threads()
    small = replace(small, train=replace(small.train, num_threads=threads))
    large = replace(
        small,
        model=replace(small.model, backbone="resnet18", temporal="m2a"),
        clip=replace(small.clip, image_size=112),
        train=replace(small.train, batch_size=4),
    )
    return {"quickstart": small, "resnet18 at 112": large}


def measure_steps(*, num_steps: int, keeps: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each recipe: medians over its steps in milliseconds, and page faults."""
    for name, recipe in recipes().items():
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
            run_folder = RunFolder(Path(folder) / "run")
            run = Trainer(recipe, run_folder, resume=False, progress=False, log=lambda line: None)
            yield {"recipe": name} | _measure(run, num_steps)


def _measure(run: Trainer, num_steps: int) -> dict[str, Any]:
    parts: dict[str, list[float]] = {}
    step_seconds, faults = [], []
    with _timed(run, parts):
        groups = iter(run.data.groups(0, 0, size=1))
        for number in range(num_steps + 2):
            if number == 2:
                parts.clear()
            faults_before, start = _page_faults(), time.perf_counter()
            group = next(groups)
            parts.setdefault("loader", []).append(time.perf_counter() - start)
            run._train_step(group)
            if number > 1:
                step_seconds.append(time.perf_counter() - start)
                faults.append(_page_faults() - faults_before)
    medians = {part: 1e3 * statistics.median(seconds) for part, seconds in parts.items()}
    total = 1e3 * statistics.median(step_seconds)
    medians["rest"] = total - sum(medians.values())
    return {
        "ms": round(total, 2),
        "parts": {part: round(value, 3) for part, value in medians.items()},
        "page_faults": int(statistics.median(faults)),
    }


@contextmanager
def _timed(run: Trainer, parts: dict[str, list[float]]) -> Iterator[None]:
    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            parts.setdefault(name, []).append(time.perf_counter() - start)
            return result

        return wrapper

    state = run.state
    with (
        patch.object(state.model, "forward", timed("forward", state.model.forward)),
        patch.object(torch.Tensor, "backward", timed("backward", torch.Tensor.backward)),
        patch.object(state.optimizer, "step", timed("optimizer", state.optimizer.step)),
        patch.object(
            state.optimizer, "zero_grad", timed("gradients to none", state.optimizer.zero_grad)
        ),
        patch.object(state.scheduler, "step", timed("schedule", state.scheduler.step)),
        patch.object(
            torch.nn.functional,
            "cross_entropy",
            timed("loss", torch.nn.functional.cross_entropy),
        ),
    ):
        yield


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
