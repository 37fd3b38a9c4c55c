"""Train frame averaging and M2A side by side on MotionPairs, in minutes."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from motionaware.apps.predict import Prediction, predict
from motionaware.apps.visualize import visualize
from motionaware.clip import ClipSpec
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.video.writer import write_video
from motionaware.engine.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
)
from motionaware.engine.dataset_factory import open_dataset
from motionaware.engine.evaluate import evaluate
from motionaware.engine.metrics import Report
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.signals import ignore_interrupts, stop_on_signal
from motionaware.engine.train import train
from motionaware.errors import TrainingInterrupted, WorkerCrashed
from motionaware.explain.drawing import import_figure_class
from motionaware.files import check_folder
from motionaware.models.checkpoint import load
from motionaware.report.run_curves import CurvesPicture

BASELINE = "none"
CHALLENGER = "m2a(reduction=4)"  # the backbone is narrow: the default reduction is too strong
ORDER_BLIND_CEILING = 0.5

RECIPE = Recipe(
    # With dropout, such a small network often does not learn to use motion within minutes.
    model=ModelConfig(backbone="resnet18_quarter", temporal=BASELINE, dropout=0.0),
    clip=ClipSpec(num_frames=8, image_size=64, crop_fraction=1.0),
    data=DataConfig(kind="motionpairs", num_workers=0, num_train_clips=2400),
    optim=OptimConfig(schedule="one-cycle", learning_rate=0.1),
    train=TrainConfig(
        epochs=8, batch_size=16, channels_last=True, num_threads=1, keep_freed_memory=True
    ),
    eval=EvalConfig(batch_size=60),
)
"""Recipe of both models, which differ only in `model.temporal`."""


@dataclass(frozen=True, kw_only=True)
class QuickstartResult:
    """The result of `quickstart`.

    Attributes:
        reports: Evaluation on the test clips, by temporal module.
        predictions: Prediction for `video`, by temporal module.
        true_class: Class of `video`.
        video: A clip that neither model was trained on.
        picture: What M2A attends to in `video`.
        checkpoints: Last checkpoint, by temporal module.
        seconds: Duration of the whole call.
    """

    reports: dict[str, Report]
    predictions: dict[str, Prediction]
    true_class: str
    video: Path
    picture: Path
    checkpoints: dict[str, Path]
    seconds: float


def quickstart(
    out: str | Path,
    *,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    progress: bool = False,
    log: Callable[[str], None] | None = None,
) -> QuickstartResult:
    """Train the baseline and M2A with one recipe and seed, evaluate both, predict on a video.

    Each model is trained in a separate process with one thread. An interrupted call can be repeated
    and continues.

    Args:
        out: Folder for the runs, the video and the picture.
        recipe: Recipe of both models.
        seed: Seed of weights, order and dropout.
        progress: Show a progress bar on standard error.
        log: Called with one line before the training starts.

    Raises:
        MissingPackage: matplotlib is not installed.
        TrainingInterrupted: A signal stopped the training.
        WorkerCrashed: A training process crashed or was killed.
    """
    start = time.monotonic()
    import_figure_class()  # raises before minutes of training, not after
    out = Path(out)
    check_folder(out)
    shared = replace(
        recipe,
        data=replace(recipe.data, root=str(out / "cache")),
        train=replace(recipe.train, seed=seed),
    )
    recipes = {
        temporal: replace(shared, model=replace(shared.model, temporal=temporal))
        for temporal in (BASELINE, CHALLENGER)
    }
    for split in ("train", "val", "test"):  # synthesized once, before two processes need them
        open_dataset(shared.data, split, spec=shared.clip, progress=progress)
    folders = {BASELINE: RunFolder(out / "none"), CHALLENGER: RunFolder(out / "m2a")}
    if log is not None:
        log(f"training two models for some minutes; each epoch adds a row to {out}/*/log.csv")
    _train_side_by_side(recipes, folders, progress=progress)
    for folder in folders.values():
        CurvesPicture(folder).update(last=True)

    checkpoints = {temporal: folder.last for temporal, folder in folders.items()}
    models = {temporal: load(path) for temporal, path in checkpoints.items()}
    reports = {
        temporal: evaluate(model, shared.data, split="test", config=shared.eval, progress=progress)
        for temporal, model in models.items()
    }
    video, picture = out / "clip.mp4", out / "prediction.png"
    true_class = _render_video(shared, video)
    predictions = {temporal: predict(model, video) for temporal, model in models.items()}
    visualize(
        models[CHALLENGER],
        video,
        picture,
        sites="first",
        title=f"{video.name}: {true_class}; predicted with {CHALLENGER}",
    )
    return QuickstartResult(
        reports=reports,
        predictions=predictions,
        true_class=true_class,
        video=video,
        picture=picture,
        checkpoints=checkpoints,
        seconds=time.monotonic() - start,
    )


def _train_side_by_side(
    recipes: dict[str, Recipe], folders: dict[str, RunFolder], *, progress: bool
) -> None:
    # Spawn, not fork: threads of torch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    errors = {name: context.SimpleQueue() for name in recipes}
    processes = {
        name: context.Process(
            target=_train_in_process, args=(recipe, folders[name].path, errors[name])
        )
        for name, recipe in recipes.items()
    }
    with stop_on_signal() as stop:
        with ignore_interrupts():  # until `train` in the process installs its own handlers
            for process in processes.values():
                process.start()
        num_epochs = sum(recipe.train.epochs for recipe in recipes.values())
        with tqdm(total=num_epochs, desc="train", unit="epoch", disable=not progress) as bar:
            while any(process.is_alive() for process in processes.values()):
                stop.wait(0.5)
                if stop.is_set() or not all(queue.empty() for queue in errors.values()):
                    for process in processes.values():
                        process.terminate()  # `train` handles SIGTERM: it saves the run
                    for process in processes.values():
                        process.join()
                _update(bar, folders)
    if stop.is_set():
        message = "stopped; both runs are saved. Repeat the command to continue"
        raise TrainingInterrupted(message, stop.signal_number)
    for queue in errors.values():  # before exit codes: an error of one run ends the other
        if not queue.empty():
            raise queue.get()
    for name, process in processes.items():
        if process.exitcode:
            raise WorkerCrashed(
                f"the process that trained {name} ended with exit code {process.exitcode}; repeat "
                "the command to continue"
            )


def _train_in_process(recipe: Recipe, folder: Path, errors: "SimpleQueue[Exception]") -> None:
    """Train one model; put an error into the queue, from which the main process raises it."""
    try:
        train(recipe, folder, resume=RunFolder(folder).holds_run())
    except (TrainingInterrupted, KeyboardInterrupt):
        pass  # the main process asked for it
    except Exception as error:
        errors.put(error)


def _update(bar: "tqdm[NoReturn]", folders: dict[str, RunFolder]) -> None:
    """Update the progress bar from the logs of the runs."""
    logs = {name: folder.read_log() for name, folder in folders.items()}
    latest = {name: log[-1]["val_top1"] for name, log in logs.items() if log}
    bar.set_postfix({name: f"{float(top1):.2f}" for name, top1 in latest.items()}, refresh=False)
    bar.update(sum(map(len, logs.values())) - bar.n)


def _render_video(recipe: Recipe, path: Path) -> str:
    """Write a clip that is in no split as a video; return its class."""
    clips = MotionPairs(
        split="test",
        num_clips=recipe.data.num_test_clips + 12,
        num_frames=3 * recipe.clip.num_frames,
        image_size=recipe.clip.image_size,
        seed=recipe.data.seed,
    )
    clip, label = clips[recipe.data.num_test_clips]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, clip, fps=24)
    return clips.class_names[label]
