"""Quickstart: frame averaging and M2A side by side, on the embedded data set, in minutes."""

import multiprocessing
import time
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from motionaware.apps.curves import CurvesPicture
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
from motionaware.errors import TrainingInterrupted
from motionaware.explain.drawing import import_figure_class
from motionaware.files import check_folder
from motionaware.models.checkpoint import load

BASELINE = "none"
CHALLENGER = "m2a(reduction=4)"  # the narrow backbone has few channels to spare
ORDER_BLIND_CEILING = 0.5

RECIPE = Recipe(
    # With dropout so small a network often misses, within minutes, that motion tells classes apart.
    model=ModelConfig(backbone="resnet18_quarter", temporal=BASELINE, dropout=0.0),
    clip=ClipSpec(num_frames=8, image_size=64, crop_fraction=1.0),
    data=DataConfig(kind="motionpairs", num_workers=0, num_train_clips=2400),
    optim=OptimConfig(schedule="one-cycle", learning_rate=0.1),
    train=TrainConfig(
        epochs=8, batch_size=16, channels_last=True, num_threads=1, keep_freed_memory=True
    ),
    eval=EvalConfig(batch_size=60),
)
"""What both models are trained with; only `model.temporal` differs."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What quickstart found: test reports by temporal name, and what it wrote."""

    reports: dict[str, Report]
    predictions: dict[str, Prediction]
    right_class: str
    video: Path
    picture: Path
    checkpoints: dict[str, Path]
    seconds: float


def quickstart(
    out: str | Path, *, recipe: Recipe = RECIPE, seed: int = 0, progress: bool = False
) -> Comparison:
    """Train the baseline and M2A with one recipe and seed, evaluate both, predict on a video.

    Each training has a process and a thread of its own. Interrupted and called again, it goes on.

    Args:
        out: Folder for runs, video and picture.
        recipe: What both models share.
        seed: Of weights, order and dropout.
        progress: Show a bar on the error stream.

    Raises:
        ImportError: matplotlib, which draws the picture, is not installed.
        TrainingInterrupted: Asked to stop.
    """
    began = time.monotonic()
    import_figure_class()  # missed before minutes of training, not after
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
    for split in ("train", "val", "test"):  # drawn once, before two processes want them
        open_dataset(shared.data, split, spec=shared.clip, progress=progress)
    folders = {BASELINE: RunFolder(out / "none"), CHALLENGER: RunFolder(out / "m2a")}
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
    right_class = _render_video(shared, video)
    predictions = {temporal: predict(model, video) for temporal, model in models.items()}
    visualize(
        models[CHALLENGER],
        video,
        picture,
        sites="first",
        title=f"{video.name}: {right_class}; predicted with {CHALLENGER}",
    )
    return Comparison(
        reports=reports,
        predictions=predictions,
        right_class=right_class,
        video=video,
        picture=picture,
        checkpoints=checkpoints,
        seconds=time.monotonic() - began,
    )


def _train_side_by_side(
    recipes: dict[str, Recipe], folders: dict[str, RunFolder], *, progress: bool
) -> None:
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    errors = {name: context.SimpleQueue() for name in recipes}
    processes = {
        name: context.Process(target=_train_alone, args=(recipe, folders[name].path, errors[name]))
        for name, recipe in recipes.items()
    }
    with stop_on_signal() as stop:
        with ignore_interrupts():  # while it is young; `train` listens by itself
            for process in processes.values():
                process.start()
        num_epochs = sum(recipe.train.epochs for recipe in recipes.values())
        with tqdm(total=num_epochs, desc="train", unit="epoch", disable=not progress) as bar:
            while any(process.is_alive() for process in processes.values()):
                stop.wait(0.5)
                if stop.is_set() or not all(queue.empty() for queue in errors.values()):
                    for process in processes.values():
                        process.terminate()  # a run that has begun saves itself
                    for process in processes.values():
                        process.join()
                _show(bar, folders)
    if stop.is_set():
        words = "stopped; what was done is saved. Go on with the same command"
        raise TrainingInterrupted(words, stop.signal_number)
    for queue in errors.values():  # first: the other training was ended because of it
        if not queue.empty():
            raise queue.get()
    for name, process in processes.items():
        if process.exitcode:
            raise RuntimeError(f"the training of {name} ended with exit code {process.exitcode}")


def _train_alone(recipe: Recipe, folder: Path, errors: "SimpleQueue[Exception]") -> None:
    """The whole life of a process that trains one model."""
    try:
        train(recipe, folder, resume=RunFolder(folder).holds_run())
    except (TrainingInterrupted, KeyboardInterrupt):
        pass  # whoever asked for it knows
    except Exception as error:
        errors.put(error)


def _show(bar: "tqdm[NoReturn]", folders: dict[str, RunFolder]) -> None:
    """Show how far the runs have come, from their logs."""
    logs = {name: folder.read_log() for name, folder in folders.items()}
    latest = {name: log[-1]["val_top1"] for name, log in logs.items() if log}
    bar.set_postfix({name: f"{float(top1):.2f}" for name, top1 in latest.items()}, refresh=False)
    bar.update(sum(map(len, logs.values())) - bar.n)


def _render_video(recipe: Recipe, path: Path) -> str:
    """Write a clip that no model has seen as an mp4; return its class."""
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
