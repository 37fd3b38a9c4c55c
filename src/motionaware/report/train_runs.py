"""Check the runs of a grid, and train those that are not finished.

Each run is trained by a child process `motionaware train` in a new session. So Ctrl-C reaches only
the parent process, which then asks the children to save their state and stop.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from tqdm import tqdm

from motionaware.engine.config_io import recipe_to_yaml
from motionaware.engine.dataset_factory import open_dataset
from motionaware.engine.evaluate import check_classes
from motionaware.engine.model import make_model
from motionaware.engine.signals import stop_on_signal
from motionaware.errors import TrainingInterrupted, UsageError
from motionaware.files import write_atomically
from motionaware.report.environment import describe_environment
from motionaware.report.runs import Run, recipe_differences

_POLL_SECONDS = 0.3


def check_runs(runs: Sequence[Run], *, split: str, progress: bool) -> None:
    """Check run folders, data sets and models before anything is trained.

    Args:
        runs: All runs of the grid.
        split: Split on which the runs will be evaluated.
        progress: Show progress bars on the error stream.

    Raises:
        UsageError: A run was started with another recipe, or a model cannot be built.
        BlockingIOError: Another process is training a run.
        DataError: A data set is not as the recipe describes it.
    """
    _check_folders(runs)
    _check_data(runs, split=split, progress=progress)
    _check_models(runs)


def _check_folders(runs: Sequence[Run]) -> None:
    for run in runs:
        if not run.folder.holds_run():
            continue
        if not run.is_finished():
            with run.folder.alone():  # fails while a child of a killed compare still trains it
                pass
        for key, (found, wanted) in recipe_differences(run.folder.recipe(), run.recipe).items():
            raise UsageError(
                f"{run.folder.path} was started with another recipe: {key} is {found!r} there and "
                f"{wanted!r} in the grid; choose another --out, or move that folder away"
            )


def _check_data(runs: Sequence[Run], *, split: str, progress: bool) -> None:
    checked = []
    for run in runs:
        if (run.recipe.data, run.recipe.clip) in checked:
            continue
        checked.append((run.recipe.data, run.recipe.clip))
        train_set, *other_sets = [
            open_dataset(run.recipe.data, name, spec=run.recipe.clip, progress=progress)
            for name in dict.fromkeys(("train", "val", split))
        ]
        for other_set in other_sets:
            check_classes(train_set.class_names, other_set.class_names)


def _check_models(runs: Sequence[Run]) -> None:
    checked = []
    for run in runs:
        if (run.recipe.model, run.recipe.clip) not in checked and not run.is_finished():
            checked.append((run.recipe.model, run.recipe.clip))
            make_model(run.recipe, ("class 1", "class 2"), fresh=False)


@dataclass
class _TrainingProcess:
    """A child process that trains a run.

    Attributes:
        run: The run.
        process: The child process.
        slot: Number in [0, jobs); chooses the GPU.
        environment: Environment when the process started.
    """

    run: Run
    process: "subprocess.Popen[bytes]"
    slot: int
    environment: dict[str, str]


def train_missing(
    runs: Sequence[Run],
    *,
    jobs: int,
    progress: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, str]:
    """Train the runs that are not finished, several in parallel; a failed run stops no other.

    Args:
        runs: All runs of the comparison.
        jobs: Number of runs trained in parallel.
        progress: Show a progress bar on the error stream.
        log: Called with one line at the start and one line per completed run.

    Returns:
        The reason of each failure, by the name of the run.

    Raises:
        TrainingInterrupted: A signal asked to stop; the runs saved their state.
    """
    waiting = [run for run in runs if not run.is_finished()]
    num_done = len(runs) - len(waiting)
    failures: dict[str, str] = {}
    active: list[_TrainingProcess] = []
    if waiting:
        log(f"{len(waiting)} of {len(runs)} runs to train, {jobs} in parallel")
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
                    process = _start_training(run, slot=slot, jobs=jobs)
                    active.append(_TrainingProcess(run, process, slot, describe_environment()))
                stop.wait(_POLL_SECONDS)
                for child in [one for one in active if one.process.poll() is not None]:
                    active.remove(child)
                    num_done += 1
                    failure = _record_outcome(child)
                    if failure is not None:
                        failures[child.run.name] = failure
                    outcome = _describe_outcome(child.run, failure)
                    log(f"[{num_done}/{len(runs)}] {child.run.name}: {outcome}")
                _update_bar(bar, runs, active)
        finally:
            _stop_processes(active)
    if stop.is_set():
        raise TrainingInterrupted(
            f"stopped; {num_done} of {len(runs)} runs are done, and the state of the others is "
            "saved. Run the same command again to continue",
            stop.signal_number,
        )
    return failures


def _start_training(run: Run, *, slot: int, jobs: int) -> "subprocess.Popen[bytes]":
    arguments = ["--resume", str(run.folder.path)]
    if not run.folder.holds_run():
        recipe = run.sibling_path(".yaml")
        write_atomically(recipe, recipe_to_yaml(run.recipe, folder=recipe.parent).encode())
        arguments = [str(recipe), "--run", str(run.folder.path)]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    if torch.cuda.is_available():
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with run.sibling_path(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "motionaware", "train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _record_outcome(child: _TrainingProcess) -> str | None:
    """Write `provenance.json` of a finished run, or return why the run failed."""
    run, log = child.run, child.run.sibling_path(".log")
    if child.process.returncode == 0 and run.is_finished():
        provenance = child.environment | {"date": describe_environment()["date"]}
        write_atomically(run.folder.path / "provenance.json", json.dumps(provenance).encode())
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    last_line = next((line for line in reversed(lines) if line.strip()), "no output")
    message = last_line.removeprefix("motionaware: ")
    short_path = f"{log.parent.name}/{log.name}"  # a report may be shared: no full path
    return f"{message} (exit code {child.process.returncode}; see {short_path})"


def _describe_outcome(run: Run, failure: str | None) -> str:
    if failure is not None:
        return f"failed: {failure}"
    return f"validation top-1 {float(run.folder.read_log()[-1]['val_top1']):.1%}"


def _update_bar(
    bar: "tqdm[NoReturn]", runs: Sequence[Run], active: Sequence[_TrainingProcess]
) -> None:
    bar.set_postfix_str("; ".join(child.run.name for child in active), refresh=False)
    # A run that stopped early counts with all its epochs.
    num_epochs_done = sum(
        run.recipe.train.epochs if run.is_finished() else run.num_epochs_done() for run in runs
    )
    bar.update(num_epochs_done - bar.n)


def _stop_processes(active: Sequence[_TrainingProcess]) -> None:
    """Ask all processes to save and stop, and wait; kill them if a second Ctrl-C interrupts."""
    try:
        for child in active:
            child.process.terminate()
        for child in active:
            child.process.wait()
    finally:
        for child in active:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
