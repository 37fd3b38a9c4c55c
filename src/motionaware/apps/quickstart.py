"""Quickstart: frame averaging and M2A side by side, on the embedded data set, in minutes."""

import multiprocessing
import os
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from motionaware.apps.predict import Prediction, predict
from motionaware.apps.visualize import visualize
from motionaware.clip import ClipSpec
from motionaware.data.dataset import choose_frames
from motionaware.data.motionpairs import MotionPairs
from motionaware.data.video import open_video, write_video
from motionaware.engine.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    Recipe,
    TrainConfig,
)
from motionaware.engine.evaluate import evaluate, open_dataset
from motionaware.engine.metrics import Report
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.train import train
from motionaware.models.checkpoint import load

BASELINE = "none"
CHALLENGER = "m2a(reduction=4)"  # the narrow backbone has few channels to spare
ORDER_BLIND_CEILING = 0.5

RECIPE = Recipe(
    model=ModelConfig(backbone="resnet18_quarter", temporal=BASELINE),
    clip=ClipSpec(num_frames=8, image_size=64, crop_fraction=1.0),
    data=DataConfig(kind="motionpairs", num_workers=0, num_train_clips=2400),
    optim=OptimConfig(schedule="one-cycle", learning_rate=0.1),
    train=TrainConfig(epochs=6, batch_size=16, channels_last=True, num_threads=1),
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
    """Train the baseline and M2A with one recipe and seed, judge both, predict on a video.

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
    import matplotlib  # noqa: F401 - before minutes of training, not after

    out = Path(out)
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
    folders = {BASELINE: out / "none", CHALLENGER: out / "m2a"}
    _train_side_by_side(recipes, folders, progress=progress)

    checkpoints = {temporal: RunFolder(folder).last for temporal, folder in folders.items()}
    models = {temporal: load(path) for temporal, path in checkpoints.items()}
    reports = {
        temporal: evaluate(model, shared.data, split="test", config=shared.eval, progress=progress)
        for temporal, model in models.items()
    }
    video, picture = out / "clip.mp4", out / "prediction.png"
    right_class = _render_video(shared, video)
    predictions = {temporal: predict(model, video) for temporal, model in models.items()}
    opened = open_video(video)
    visualize(
        models[CHALLENGER],
        opened.frames(choose_frames(opened.num_frames, shared.clip)),
        picture,
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
    recipes: dict[str, Recipe], folders: dict[str, Path], *, progress: bool
) -> None:
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(recipes), os.cpu_count() or 1), mp_context=context) as pool:
        runs = {
            temporal: pool.submit(
                train,
                recipe,
                folders[temporal],
                resume=(folders[temporal] / "recipe.yaml").exists(),
            )
            for temporal, recipe in recipes.items()
        }
        _watch(runs, recipes, folders, progress=progress)
        for run in runs.values():
            run.result()


def _watch(
    runs: dict[str, "Future[Report]"],
    recipes: dict[str, Recipe],
    folders: dict[str, Path],
    *,
    progress: bool,
) -> None:
    """Show how far the runs have come, from their logs."""
    total = sum(recipe.train.epochs for recipe in recipes.values())
    with tqdm(total=total, desc="train none and m2a", unit="epoch", disable=not progress) as bar:
        while not all(run.done() for run in runs.values()):
            time.sleep(0.5)
            logs = {temporal: RunFolder(folder).read_log() for temporal, folder in folders.items()}
            latest = {name: float(log[-1]["val_top1"]) for name, log in logs.items() if log}
            bar.set_postfix({name: f"{top1:.2f}" for name, top1 in latest.items()}, refresh=False)
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
