"""Train: the loop, in plain PyTorch."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from motionaware.data.loader import Batch
from motionaware.data.source import VideoSource
from motionaware.engine.config import Recipe
from motionaware.engine.config_io import recipe_from_dict, recipe_to_dict, with_own_code_found
from motionaware.engine.early_stopping import is_over, stopped_early
from motionaware.engine.evaluate import evaluate_batches, pick_device
from motionaware.engine.loss import TrainingLoss, make_weights
from motionaware.engine.metrics import Report
from motionaware.engine.model import lay_channels_last, make_model
from motionaware.engine.optim import freeze_batch_norms, make_average, make_optimizer, make_schedule
from motionaware.engine.paths import RUN_FOLDER, with_absolute_paths
from motionaware.engine.progress import Progress
from motionaware.engine.resuming import changed_keys, check_changes, describe_changes
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.scores import shorten
from motionaware.engine.signals import StopRequest, stop_on_signal
from motionaware.engine.single_clip import refuse_single_clips, trains_on_one_clip
from motionaware.engine.training_data import TrainingData
from motionaware.errors import (
    DataError,
    NonFiniteScores,
    TrainingDiverged,
    TrainingInterrupted,
    VideoError,
)
from motionaware.models.checkpoint import save
from motionaware.models.checkpoint_file import Origin
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import sites
from motionaware.temporal.own import short_name

_Work = TypeVar("_Work")


def train(
    recipe: Recipe,
    run_folder: str | Path,
    *,
    resume: bool = False,
    progress: bool = False,
    log: Callable[[str], None] | None = None,
    source: VideoSource | None = None,
) -> Report:
    """Train a model and judge it on validation after every epoch.

    Ctrl-C (or SIGTERM) ends the run after its current step; resumed, it goes on as if it had not
    stopped, to the same numbers.

    Args:
        recipe: All there is to know. For a resumed run, the one it began with; what may differ, a
            higher `train.epochs` for instance, is in `motionaware.engine.resuming`. Relative
            paths in it begin at the current folder; the run folder stores them as absolute ones.
        run_folder: Where recipe, log and checkpoints go; see `motionaware.engine.run_folder`.
        resume: Go on with the run in that folder.
        progress: Show bars on the error stream.
        log: Is handed a line at the start, one after every epoch and, without bars, one a minute.
        source: The data set of the recipe, if it was opened before (`open_source`); its lists are
            not read again.

    Returns:
        How the last epoch's model did on validation.

    Raises:
        TrainingInterrupted: Asked to stop.
        TrainingDiverged: The loss, the gradient or the scores became infinite or NaN.
        FileExistsError: The folder holds a run, and `resume` is false.
        FileNotFoundError: The folder holds no run, and `resume` is true.
        ValueError: Recipe or data do not fit; the message says which and why.
        DataError, VideoError: Videos cannot be read; the run is saved as for Ctrl-C.
        BlockingIOError: Another process trains the run in that folder.
        OSError: A file cannot be written; what was saved before stands.
    """
    folder = RunFolder(run_folder)
    recipe = with_absolute_paths(with_own_code_found(recipe))
    if not resume:
        folder.check_free()
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.train.num_threads or threads)
    try:
        with torch.random.fork_rng():
            run = TrainingRun(
                recipe, folder, resume=resume, progress=progress, log=log, source=source
            )
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
        log: Callable[[str], None] | None,
        source: VideoSource | None = None,
    ) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.log = log or (lambda line: None)
        config = recipe.train
        state = folder.load_state() if resume else None
        changes = self._check_changes(state) if resume else {}
        self.data = TrainingData(recipe, source=source, progress=progress)

        torch.manual_seed(config.seed)
        self.device = pick_device(config.device)
        self.model = make_model(recipe, self.data.class_names, fresh=state is None)
        if state:
            self.model.origin = Origin.from_dict(state.get("origin"))
        self.model.to(self.device)
        if config.channels_last:
            lay_channels_last(self.model)
        self._training_mode()
        self._plan_single_clips()
        self.steps_per_epoch = -(-self.data.num_batches // config.accumulate)
        self.loss = self._make_loss()
        self.optimizer = make_optimizer(self.model, recipe.optim)
        self.schedule = make_schedule(
            self.optimizer,
            recipe.optim,
            steps_per_epoch=self.steps_per_epoch,
            epochs=config.epochs,
        )
        self.average = make_average(self.model, config.ema_decay)

        self.epoch = self.step = 0  # where the run stands: steps done in this epoch
        # Of this epoch: loss, right answers, clips, and what the loss is divided by.
        self.sums = torch.zeros(4, dtype=torch.float64)
        self.began = time.monotonic()
        self.history: list[dict[str, int | float]] = []
        self.stop = StopRequest()
        if state:
            self._restore(state)
        if not resume:
            folder.begin(recipe)  # last: bad data or a bad recipe leave no folder behind
        self.data.skips.write_to(folder.skipped)
        self.log(self._summary())
        if self.model.origin and not state:
            for line in self.model.origin.lines():
                self.log(line)
        if changes:
            self.log(f"resumed with {describe_changes(changes)}")
        for hint in self.data.hints():
            self.log(f"note: {hint}")
        self._tell_news()

    def finish(self) -> Report:
        """Train the epochs that are left."""
        if is_over(self.history, self.recipe.train):
            return self._validate()
        opened = self.folder.curves(first_epoch=self.epoch)
        with self.folder.alone(), stop_on_signal() as self.stop, opened as curves:
            if self.folder.recipe() != self.recipe:
                self.folder.write_recipe(self.recipe)
            while True:
                self._train_epoch()
                report = self._validate()
                self._record(report, curves)
                if is_over(self.history, self.recipe.train):
                    if reason := stopped_early(self.history, self.recipe.train):
                        self.log(reason)
                    return report
                self._stop_if_asked()

    def _train_epoch(self) -> None:
        """One pass over the training videos, or what is left of it."""
        self._training_mode()
        accumulate = self.recipe.train.accumulate
        progress = Progress(
            f"epoch {self.epoch + 1}/{self.recipe.train.epochs}",
            unit="step",
            total=self.steps_per_epoch,
            done=self.step,
            bar=self.progress,
            log=self.log,
        )
        groups = self._unless_stopped(self.data.groups(self.epoch, self.step, size=accumulate))
        for group in progress.follow(groups):
            self._train_step(group)
            self.step += 1
            num_clips = sum(len(batch.labels) for batch in group)
            progress.advance(num_clips, loss=lambda: float(self.sums[0] / self.sums[3]))

    def _train_step(self, group: list[Batch]) -> None:
        """One step of the optimizer, from the loss over all clips of a group of batches."""
        config = self.recipe.train
        divisor = sum(self.loss.divisor(batch.targets) for batch in group)
        # Dropout follows from seed and step alone: a resumed run draws as if it had not stopped.
        steps_done = self.epoch * self.steps_per_epoch + self.step
        torch.manual_seed(config.seed * 1_000_003 + steps_done + 1)
        for batch in group:
            clips, labels = batch.views[:, 0].to(self.device), batch.labels.to(self.device)
            bf16 = config.precision == "bf16"
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
                scores = self.model(clips).float()
            loss = self.loss.total(scores, batch.targets.to(self.device))
            self._check_finite("loss", loss.item(), [batch])
            (loss / divisor).backward()
            hits = (scores.argmax(dim=1) == labels).sum()
            parts = [loss.item(), hits.item(), len(labels), self.loss.divisor(batch.targets)]
            self.sums += torch.tensor(parts, dtype=torch.float64)
        max_norm = self.recipe.optim.max_gradient_norm
        if max_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
            self._check_finite("gradient's norm", norm.item(), group)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _validate(self) -> Report:
        num_batches = self.data.num_validation_batches
        progress = Progress(
            "validation", unit="batch", total=num_batches, bar=self.progress, log=self.log
        )
        batches = self._unless_stopped(self.data.validation_batches())
        try:
            report = evaluate_batches(
                self._result(),
                _counted(batches, progress),
                num_batches=num_batches,
                name=self.data.validation_name,
                progress=self.progress,
            )
        except NonFiniteScores as error:
            raise TrainingDiverged(
                f"validation after epoch {self.epoch + 1}: {error}. {self._what_is_saved()}"
            ) from error
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
                self._stop_if_asked()
        except (DataError, VideoError):
            self._save_state()
            raise

    def _stop_if_asked(self) -> None:
        """End the run without loss if a signal has asked for it."""
        if self.stop.is_set():
            self._save_state()
            raise TrainingInterrupted(
                f"stopped in epoch {self.epoch + 1} after step {self.step} of "
                f"{self.steps_per_epoch}; all of it is saved. "
                f"Go on with: motionaware train --resume {self.folder.path}",
                self.stop.signal_number,
            )

    def _check_finite(self, what: str, value: float, batches: list[Batch]) -> None:
        """End the run, and save nothing, if a number of this step is infinite or NaN."""
        if not math.isfinite(value):
            indices = (index for batch in batches for index in batch.indices.tolist())
            names = [self.data.name(index) for index in indices]
            raise TrainingDiverged(
                f"the {what} is {value} in step {self.step + 1} of epoch {self.epoch + 1}, on "
                f"{shorten(names)}; begin a new run with a lower optim.learning_rate or "
                f"optim.max_gradient_norm, or more optim.warmup_epochs. {self._what_is_saved()}"
            )

    def _what_is_saved(self) -> str:
        return f"{self.epoch} whole epochs are saved in {self.folder.path}"

    def _plan_single_clips(self) -> None:
        """Keep batches of one clip from a network whose norms cannot be trained on them.

        A last batch of one clip is appended to the batch before it; a batch of which skipped videos
        leave one clip is left out, with a note.

        Raises:
            ValueError: All batches have one clip.
        """
        skips = self.recipe.data.on_error == "skip"
        if (self.data.smallest_batch > 1 and not skips) or trains_on_one_clip(self.model):
            return
        self.data.order.merge_single = True
        self.data.skips_single = skips
        if self.data.smallest_batch == 1:
            raise refuse_single_clips(
                self.model,
                batch_size=self.recipe.train.batch_size,
                num_videos=self.data.num_training,
            )

    def _make_loss(self) -> TrainingLoss:
        config = self.recipe.train
        labels = self.data.labels() if config.class_weights == "balanced" else []
        setting: Any = config.class_weights
        weights = make_weights(setting, self.data.class_names, labels)
        return TrainingLoss(weights, label_smoothing=config.label_smoothing)

    def _tell_news(self) -> None:
        for line in self.data.warnings():
            self.log(line)

    def _record(self, report: Report, curves: SummaryWriter) -> None:
        """Close an epoch: log it and save the model, as the best one too where it is."""
        loss, hits, num_clips, divisor = self.sums.tolist()
        row = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss / divisor,
            "train_top1": hits / num_clips,
            "val_loss": report.loss,
            "val_top1": report.top1,
            "val_mean_class": report.mean_class,
            "seconds": round(time.monotonic() - self.began, 2),
        }
        best = max((past["val_top1"] for past in self.history), default=-1.0)
        self.history.append(row)
        self.epoch, self.step, self.began = self.epoch + 1, 0, time.monotonic()
        self.sums.zero_()
        self.folder.write_log(self.history)
        result = self._result()
        trained = row | {RUN_FOLDER: str(self.folder.path.absolute())}
        recipe = recipe_to_dict(self.recipe, folder=self.folder.path)
        result.recipe = recipe | {"trained": trained}
        save(result, self.folder.last)
        if report.top1 > best:
            save(result, self.folder.best)
        self._save_state()
        for name, value in row.items():
            curves.add_scalar(name, value, self.epoch)
        self.log(
            f"epoch {self.epoch}/{self.recipe.train.epochs}  "
            f"training: loss {row['train_loss']:.3f} top-1 {row['train_top1']:.1%}  "
            f"validation: loss {report.loss:.3f} top-1 {report.top1:.1%}  "
            f"{row['seconds']:.0f} s"
        )
        self._tell_news()

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
                "log": self.history,
                "data": self.data.facts(),
                "recipe": recipe_to_dict(self.recipe),
                "origin": self.model.origin and asdict(self.model.origin),
            }
        )

    def _check_changes(self, state: dict[str, Any] | None) -> dict[str, tuple[object, object]]:
        """What has changed since the run was begun; refuse what may not."""
        begun = self.folder.recipe()
        if state and "recipe" in state:  # states of early versions have none
            begun = recipe_from_dict(state["recipe"], source="resume.pt")
        changes = changed_keys(recipe_to_dict(begun), recipe_to_dict(self.recipe))
        check_changes(
            changes,
            begun.optim,
            folder=self.folder,
            epochs_done=state["epoch"] if state else 0,
        )
        return changes

    def _restore(self, state: dict[str, Any]) -> None:
        self.data.check_unchanged(state["data"], since=f"{self.folder.path} was begun")
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.step, sums = state["epoch"], state["step"], state["sums"]
        # Older runs kept no divisor: they had no class weights, so it is the number of clips.
        self.sums = sums if len(sums) == 4 else torch.cat([sums, sums[2:]])
        self.began -= state["seconds"]
        self.history = state["log"]

    def _summary(self) -> str:
        """What is trained, from what, where."""
        model = self.recipe.model
        num_sites, num_threads = len(sites(self.model.backbone)), torch.get_num_threads()
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        places = f"{num_sites} site{'s' * (num_sites != 1)}"
        return (
            f"{model.backbone}, temporal {short_name(model.temporal)} at {places}, "
            f"{millions:.2f} M parameters; {self.data.summary()}; on {self.device} with "
            f"{num_threads} thread{'s' * (num_threads != 1)}; run folder {self.folder.path}"
        )


def _counted(batches: Iterator[Batch], progress: Progress) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        progress.advance(len(batch.labels))
