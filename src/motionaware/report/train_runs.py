"""The runs of a grid: where they are, whether they may go on, and training those that are missing.

Each run is trained by a process of its own, `motionaware train`, in a session of its own: Ctrl-C
reaches this process alone, which then asks them to save and end.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from motionaware.engine.config import Recipe
from motionaware.engine.config_io import recipe_to_dict, recipe_to_yaml
from motionaware.engine.dataset_factory import open_dataset
from motionaware.engine.early_stopping import is_over
from motionaware.engine.evaluate import check_classes
from motionaware.engine.model import make_model
from motionaware.engine.paths import with_absolute_paths
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.signals import stop_on_signal
from motionaware.errors import TrainingInterrupted, UsageError
from motionaware.files import write_atomically
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer
from motionaware.report.environment import present_facts
from motionaware.temporal.own import names_own_code

# Where a run computes and where its copy of the data lies: nothing of what it learns.
_CIRCUMSTANCES = frozenset({"data.num_workers", "train.device", "train.num_threads"})


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a comparison, trained or yet to be."""

    backbone: str
    temporal: str
    seed: int
    recipe: Recipe
    folder: RunFolder

    @property
    def name(self) -> str:
        """To a person."""
        return f"{self.backbone}, {self.temporal}, seed {self.seed}"

    def epochs_done(self) -> int:
        """Whole epochs trained."""
        return len(self.folder.read_log())

    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        return is_over(self.folder.read_log(), self.recipe.train) and self.folder.last.is_file()

    def load(self) -> VideoRecognizer:
        """Its last model; an own module is the one that the run's recipe names.

        Raises:
            FileNotFoundError: There is no checkpoint.
            ValueError: The checkpoint is damaged, or names code that the recipe does not name.
        """
        temporal = self.recipe.model.temporal
        return load(self.folder.last, temporal=temporal if names_own_code(temporal) else None)

    def beside(self, suffix: str) -> Path:
        """A file beside the run's folder."""
        return self.folder.path.with_name(self.folder.path.name + suffix)

    def provenance(self) -> dict[str, str]:
        """When, where and at which commit it was trained, if that was recorded."""
        path = self.folder.path / "provenance.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def plan_runs(recipes: Mapping[tuple[str, str, int], Recipe], out: Path) -> list[Run]:
    """Give every run of a grid its folder, `runs/BACKBONE/TEMPORAL/seedN` below `out`."""
    runs = []
    for (backbone, temporal, seed), recipe in recipes.items():
        folder = out / "runs" / safe_name(backbone) / safe_name(temporal) / f"seed{seed}"
        run = Run(
            backbone=backbone,
            temporal=temporal,
            seed=seed,
            recipe=with_cache(recipe, out),
            folder=RunFolder(folder),
        )
        runs.append(run)
    taken = {run.folder.path for run in runs}
    if len(taken) < len(runs):
        raise UsageError(
            "two names of the grid make the same folder name; write them apart: "
            + ", ".join(sorted({f"{backbone}/{temporal}" for backbone, temporal, _ in recipes}))
        )
    return runs


def safe_name(name: str) -> str:
    """A name that may stand in a path.

    >>> safe_name("m2a(reduction=4)"), safe_name("m2a(reduction=4),tsm")
    ('m2a_reduction=4', 'm2a_reduction=4_,tsm')
    """
    return re.sub(r"[^\w.@+,=-]+", "_", name).strip("_")


def with_cache(recipe: Recipe, out: Path) -> Recipe:
    """Let MotionPairs be drawn once for all runs, below `out`, where no other place is there."""
    data = recipe.data
    if data.kind != "motionpairs" or (data.root and Path(data.root).is_dir()):
        return recipe
    return replace(recipe, data=replace(data, root=str(out / "cache")))


def different_keys(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two recipes differ, with both values; circumstances do not count."""
    plain, plain_other = (recipe_to_dict(with_absolute_paths(recipe)) for recipe in (one, other))
    ignored = set(_CIRCUMSTANCES)
    if one.data.kind == "motionpairs":
        ignored.add("data.root")  # of its cache
        ignored.add("clip.square_pixels")  # drawn frames have square pixels
    return {
        f"{group}.{key}": (value, plain_other[group][key])
        for group, keys in plain.items()
        for key, value in keys.items()
        if value != plain_other[group][key] and f"{group}.{key}" not in ignored
    }


def check_runs(runs: Sequence[Run], *, split: str, progress: bool) -> None:
    """Refuse what would fail hours later: foreign runs, absent data, models that cannot be built.

    Raises:
        ValueError: Naming the run and what is wrong with it.
        BlockingIOError: A run is being trained.
        DataError: The data are not as the recipe says.
    """
    for run in runs:
        if run.folder.holds_run():
            if not run.is_finished():
                with run.folder.alone():  # a compare that was killed leaves its runs at work
                    pass
            differing = different_keys(run.folder.recipe(), run.recipe)
            for key, (there, wanted) in differing.items():
                raise UsageError(
                    f"{run.folder.path} was begun with another recipe: {key} is {there!r} there, "
                    f"{wanted!r} in the grid; take another --out, or take that folder away"
                )
    seen = []
    for run in runs:
        data = (run.recipe.data, run.recipe.clip)
        if data not in seen:
            seen.append(data)
            opened = [
                open_dataset(run.recipe.data, name, spec=run.recipe.clip, progress=progress)
                for name in dict.fromkeys(("train", "val", split))
            ]
            for other in opened[1:]:
                check_classes(opened[0].class_names, other.class_names)
    built = []
    for run in runs:
        model = (run.recipe.model, run.recipe.clip)
        if model not in built and not run.is_finished():
            built.append(model)
            make_model(run.recipe, ("one", "other"), fresh=False)


@dataclass
class _Child:
    run: Run
    process: "subprocess.Popen[bytes]"
    slot: int
    facts: dict[str, str]  # of its start


def train_missing(
    runs: Sequence[Run],
    *,
    jobs: int,
    progress: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, str]:
    """Train the runs that are not finished, several at a time; a run that fails stops no other.

    Args:
        runs: All of them.
        jobs: How many at a time.
        progress: Show a bar on the error stream.
        log: Is handed a line at the start, and when a run ends.

    Returns:
        For each run that failed, by its name, why.

    Raises:
        TrainingInterrupted: Asked to stop; the runs saved themselves.
    """
    waiting = [run for run in runs if not run.is_finished()]
    finished = len(runs) - len(waiting)
    failures: dict[str, str] = {}
    active: list[_Child] = []
    if waiting:
        log(f"{len(waiting)} of {len(runs)} runs to train, {jobs} at a time")
    num_epochs = sum(run.recipe.train.epochs for run in runs)
    with (
        stop_on_signal() as stop,
        tqdm(total=num_epochs, desc="train", unit="epoch", disable=not progress) as bar,
    ):
        try:
            while (waiting or active) and not stop.is_set():
                while waiting and len(active) < jobs:
                    slot = min(set(range(jobs)) - {child.slot for child in active})
                    run = waiting.pop(0)
                    process = _start(run, slot=slot, jobs=jobs)
                    active.append(_Child(run, process, slot, present_facts()))
                stop.wait(0.3)
                for child in [one for one in active if one.process.poll() is not None]:
                    active.remove(child)
                    finished += 1
                    words = _record(child)
                    if words is not None:
                        failures[child.run.name] = words
                    log(f"[{finished}/{len(runs)}] {child.run.name}: {_outcome(child.run, words)}")
                _show(bar, runs, active)
        finally:
            _end(active)
    if stop.is_set():
        raise TrainingInterrupted(
            f"stopped; {finished} of {len(runs)} runs are done, and what the others did is saved. "
            "Go on with the same command",
            stop.signal_number,
        )
    return failures


def _start(run: Run, *, slot: int, jobs: int) -> "subprocess.Popen[bytes]":
    words = ["--resume", str(run.folder.path)]
    if not run.folder.holds_run():
        recipe = run.beside(".yaml")
        write_atomically(recipe, recipe_to_yaml(run.recipe, folder=recipe.parent).encode())
        words = [str(recipe), "--run", str(run.folder.path)]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    if torch.cuda.is_available():
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with run.beside(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "motionaware", "train", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _record(child: _Child) -> str | None:
    """Note where a run was trained, or say why it failed."""
    run, log = child.run, child.run.beside(".log")
    if child.process.returncode == 0 and run.is_finished():
        facts = child.facts | {"date": present_facts()["date"]}
        write_atomically(run.folder.path / "provenance.json", json.dumps(facts).encode())
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.strip()][-1:] or ["it said nothing"]
    words = said[0].removeprefix("motionaware: ")
    where = f"{log.parent.name}/{log.name}"  # no more: the report may be shown to others
    return f"{words} (exit code {child.process.returncode}; see {where})"


def _outcome(run: Run, failure: str | None) -> str:
    if failure is not None:
        return f"failed: {failure}"
    return f"validation top-1 {float(run.folder.read_log()[-1]['val_top1']):.1%}"


def _show(bar: "tqdm[NoReturn]", runs: Sequence[Run], active: Sequence[_Child]) -> None:
    """Show how far all runs have come, from their logs."""
    bar.set_postfix_str("; ".join(child.run.name for child in active), refresh=False)
    done = (
        run.recipe.train.epochs if run.is_finished() else run.epochs_done() for run in runs
    )  # a run that stopped early has no more epochs to come
    bar.update(sum(done) - bar.n)


def _end(active: Sequence[_Child]) -> None:
    """Ask what still runs to save and end, and see to it; a second Ctrl-C ends it at once."""
    try:
        for child in active:
            child.process.terminate()  # a run that has begun saves itself
        for child in active:
            child.process.wait()
    finally:
        for child in active:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
