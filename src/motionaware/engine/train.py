"""Train: the loop, in plain PyTorch."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from motionaware.data.dataset import Batch
from motionaware.data.split import DataError
from motionaware.data.video import VideoError
from motionaware.engine.config import Recipe, recipe_to_dict
from motionaware.engine.evaluate import judge, pick_device
from motionaware.engine.interrupt import TrainingDiverged, TrainingInterrupted, stop_on_signal
from motionaware.engine.metrics import Report
from motionaware.engine.model import lay_channels_last, make_model
from motionaware.engine.optim import freeze_batch_norms, make_average, make_optimizer, make_schedule
from motionaware.engine.paths import RUN_FOLDER, with_absolute_paths
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.training_data import TrainingData
from motionaware.models.checkpoint import save
from motionaware.models.insertion import sites
from motionaware.models.recognizer import VideoRecognizer

_Work = TypeVar("_Work")


def train(
    recipe: Recipe,
    run_folder: str | Path,
    *,
    resume: bool = False,
    progress: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Train a model and judge it on validation after every epoch.

    Ctrl-C (or SIGTERM) ends the run after its current step; resumed, it goes on as if it had not
    stopped, to the same numbers.

    Args:
        recipe: All there is to know; a resumed run must be given the one it began with. Relative
            paths in it begin at the current folder; the run folder stores them as absolute ones.
        run_folder: Where recipe, log and checkpoints go; see `motionaware.engine.run_folder`.
        resume: Go on with the run in that folder.
        progress: Show bars on the error stream.
        tell: Is handed a line at the start, and one after every epoch.

    Returns:
        How the last epoch's model did on validation.

    Raises:
        TrainingInterrupted: Asked to stop.
        TrainingDiverged: The loss became infinite or not a number.
        FileExistsError: The folder holds a run, and `resume` is false.
        FileNotFoundError: The folder holds no run, and `resume` is true.
        ValueError: Recipe or data do not fit; the message says which and why.
        DataError, VideoError: Videos cannot be read; the run is saved as for Ctrl-C.
        BlockingIOError: Another process trains the run in that folder.
        OSError: A file cannot be written; what was saved before stands.
    """
    folder, recipe = RunFolder(run_folder), with_absolute_paths(recipe)
    if not resume:
        folder.check_free()
    elif with_absolute_paths(folder.recipe()) != recipe:
        raise ValueError(f"{folder.path} was begun with another recipe; resume with its own")
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.train.num_threads or threads)
    try:
        with torch.random.fork_rng():
            run = TrainingRun(recipe, folder, resume=resume, progress=progress, tell=tell)
            return run.finish()
    finally:
        torch.set_num_threads(threads)


class TrainingRun:
    """One run: everything that moves, and how far it has come."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        *,
        resume: bool,
        progress: bool,
        tell: Callable[[str], None] | None,
    ) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.tell = tell or (lambda line: None)
        config = recipe.train
        self.data = TrainingData(recipe, progress=progress)
        self.steps_per_epoch = -(-self.data.num_batches // config.accumulate)

        state = folder.load_state() if resume else None
        torch.manual_seed(config.seed)
        self.device = pick_device(config.device)
        self.model = make_model(recipe, self.data.class_names, fresh=state is None)
        self.model.to(self.device)
        if config.channels_last:
            lay_channels_last(self.model)
        self._training_mode()
        self.optimizer = make_optimizer(self.model, recipe.optim)
        self.schedule = make_schedule(
            self.optimizer,
            recipe.optim,
            steps_per_epoch=self.steps_per_epoch,
            epochs=config.epochs,
        )
        self.average = make_average(self.model, config.ema_decay)

        self.epoch = self.step = 0  # where the run stands: steps done in this epoch
        self.sums = torch.zeros(3, dtype=torch.float64)  # its loss, right answers and clips
        self.began = time.monotonic()
        self.log: list[dict[str, int | float]] = []
        self.stop = threading.Event()
        if state:
            self._restore(state)
        if not resume:
            folder.begin(recipe)  # last: bad data or a bad recipe leave no folder behind
        self.data.skips.keep(folder.skipped)
        self.tell(self._summary())
        for hint in self.data.hints():
            self.tell(f"note: {hint}")

    def finish(self) -> Report:
        """Train the epochs that are left."""
        if self.epoch == self.recipe.train.epochs:
            return self._validate()
        opened = self.folder.curves(first_epoch=self.epoch)
        with self.folder.alone(), stop_on_signal() as self.stop, opened as curves:
            while True:
                self._train_epoch()
                report = self._validate()
                self._record(report, curves)
                if self.epoch == self.recipe.train.epochs:
                    return report

    def _train_epoch(self) -> None:
        """One pass over the training videos, or what is left of it."""
        self._training_mode()
        accumulate = self.recipe.train.accumulate
        bar = tqdm(
            self._unless_stopped(self.data.groups(self.epoch, self.step, size=accumulate)),
            f"epoch {self.epoch + 1}/{self.recipe.train.epochs}",
            total=self.steps_per_epoch,
            initial=self.step,
            leave=False,
            disable=not self.progress,
        )
        for group in bar:
            self._train_step(group)
            self.step += 1

    def _train_step(self, group: list[Batch]) -> None:
        """One step of the optimizer, from the mean loss over all clips of a group of batches."""
        config = self.recipe.train
        num_clips = sum(len(batch.labels) for batch in group)
        # Dropout follows from seed and step alone: a resumed run draws as if it had not stopped.
        steps_done = self.epoch * self.steps_per_epoch + self.step
        torch.manual_seed(config.seed * 1_000_003 + steps_done + 1)
        for batch in group:
            clips, labels = batch.views[:, 0].to(self.device), batch.labels.to(self.device)
            bf16 = config.precision == "bf16"
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
                scores = self.model(clips).float()
            targets, smoothing = batch.targets.to(self.device), config.label_smoothing
            loss = F.cross_entropy(scores, targets, reduction="sum", label_smoothing=smoothing)
            self._check_finite(loss.item(), f"in step {self.step + 1}")
            (loss / num_clips).backward()
            hits = (scores.argmax(dim=1) == labels).sum()
            self.sums += torch.tensor([loss.item(), hits.item(), len(labels)])
        if self.recipe.optim.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optim.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _validate(self) -> Report:
        batches = self._unless_stopped(self.data.validation_batches())
        num_batches = self.data.num_validation_batches
        report = judge(self._result(), batches, num_batches=num_batches, progress=self.progress)
        return replace(report, num_skipped=self.data.skips.total("val") - report.num_videos)

    def _training_mode(self) -> None:
        self.model.train()
        if self.recipe.train.partial_batch_norm:
            freeze_batch_norms(self.model)

    def _result(self) -> VideoRecognizer:
        """The model that is judged and saved: the average where one is kept."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, VideoRecognizer)
        return self.average.module

    def _unless_stopped(self, work: Iterator[_Work]) -> Iterator[_Work]:
        """Pass work on; between two pieces the run can end without loss."""
        try:
            for piece in work:
                yield piece
                if self.stop.is_set():
                    self._save_state()
                    raise TrainingInterrupted(
                        f"stopped in epoch {self.epoch + 1} after step {self.step} of "
                        f"{self.steps_per_epoch}; all of it is saved. "
                        f"Go on with: motionaware train --resume {self.folder.path}"
                    )
        except (DataError, VideoError):
            self._save_state()
            raise

    def _check_finite(self, loss: float, when: str) -> None:
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss} {when} of epoch {self.epoch + 1}; begin a new run with a "
                "lower optim.learning_rate or optim.max_gradient_norm, or more "
                f"optim.warmup_epochs. {self.epoch} whole epochs are saved in {self.folder.path}"
            )

    def _record(self, report: Report, curves: SummaryWriter) -> None:
        """Close an epoch: log it and save the model, as the best one too where it is."""
        self._check_finite(report.loss, "on validation at the end")
        loss, hits, num_clips = self.sums.tolist()
        row = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss / num_clips,
            "train_top1": hits / num_clips,
            "val_loss": report.loss,
            "val_top1": report.top1,
            "val_mean_class": report.mean_class,
            "seconds": round(time.monotonic() - self.began, 2),
        }
        best = max((past["val_top1"] for past in self.log), default=-1.0)
        self.log.append(row)
        self.epoch, self.step, self.began = self.epoch + 1, 0, time.monotonic()
        self.sums.zero_()
        self.folder.write_log(self.log)
        result = self._result()
        trained = row | {RUN_FOLDER: str(self.folder.path.absolute())}
        result.recipe = recipe_to_dict(self.recipe) | {"trained": trained}
        save(result, self.folder.last)
        if report.top1 > best:
            save(result, self.folder.best)
        self._save_state()
        for name, value in row.items():
            curves.add_scalar(name, value, self.epoch)
        self.tell(
            f"epoch {self.epoch}/{self.recipe.train.epochs}  "
            f"training: loss {row['train_loss']:.3f} top-1 {row['train_top1']:.1%}  "
            f"validation: loss {report.loss:.3f} top-1 {report.top1:.1%}  "
            f"{row['seconds']:.0f} s"
        )
        for line in self.data.news():
            self.tell(line)

    def _save_state(self) -> None:
        self.folder.save_state(
            {
                "model": self.model.state_dict(),
                "average": self.average and self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums,
                "seconds": time.monotonic() - self.began,
                "log": self.log,
                "data": self.data.facts(),
            }
        )

    def _restore(self, state: dict[str, Any]) -> None:
        self.data.check_unchanged(state["data"], since=f"{self.folder.path} was begun")
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.step, self.sums = state["epoch"], state["step"], state["sums"]
        self.began -= state["seconds"]
        self.log = state["log"]

    def _summary(self) -> str:
        """What is trained, from what, where."""
        model = self.recipe.model
        num_sites, num_threads = len(sites(self.model.backbone)), torch.get_num_threads()
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        places = f"{num_sites} site{'s' * (num_sites != 1)}"
        return (
            f"{model.backbone}, temporal {model.temporal} at {places}, "
            f"{millions:.2f} M parameters; {self.data.summary()}; on {self.device} with "
            f"{num_threads} thread{'s' * (num_threads != 1)}; run folder {self.folder.path}"
        )
