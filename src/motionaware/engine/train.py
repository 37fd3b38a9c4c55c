"""Train a model: the training loop, in plain PyTorch.

`Trainer.fit` is the loop over epochs, `Trainer._train_step` one optimizer step. The state that they
change is in training_state.py, the videos in training_data.py, the files in run_folder.py.
"""

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
from motionaware.deprecation import renamed_keyword
from motionaware.engine.config import Recipe
from motionaware.engine.config_io import recipe_to_dict, with_absolute_module_paths
from motionaware.engine.early_stopping import is_over, stopped_early
from motionaware.engine.evaluate import evaluate_batches, pick_device
from motionaware.engine.loss import make_loss
from motionaware.engine.malloc import keep_freed_memory
from motionaware.engine.metrics import Report
from motionaware.engine.model import lay_channels_last, make_model
from motionaware.engine.optim import (
    freeze_batch_norms,
    make_average,
    make_optimizer,
    make_scheduler,
)
from motionaware.engine.paths import RUN_FOLDER, with_absolute_paths
from motionaware.engine.progress import Progress
from motionaware.engine.resume_check import Changes, check_recipe_unchanged, describe_changes
from motionaware.engine.run_folder import RunFolder
from motionaware.engine.scores import shorten
from motionaware.engine.signals import StopRequest, stop_on_signal
from motionaware.engine.single_clip import avoid_batches_of_one_clip
from motionaware.engine.training_data import TrainingData
from motionaware.engine.training_state import TrainingState
from motionaware.errors import (
    DataError,
    NonFiniteScores,
    TrainingDiverged,
    TrainingInterrupted,
    VideoError,
)
from motionaware.messages import count
from motionaware.models.checkpoint import save
from motionaware.models.checkpoint_file import Origin
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import sites
from motionaware.temporal.own import short_name

_Item = TypeVar("_Item")


@renamed_keyword("tell", "log")
def train(
    recipe: Recipe,
    run_folder: str | Path | RunFolder,
    *,
    resume: bool = False,
    progress: bool = False,
    log: Callable[[str], None] | None = None,
    source: VideoSource | None = None,
) -> Report:
    """Train a model and evaluate it on the validation split after each epoch.

    Ctrl-C and SIGTERM end the run after the current step and save its state. A resumed run gives
    the same numbers as a run that was not interrupted.

    Args:
        recipe: The recipe. A resumed run needs the recipe that it began with, except for the keys
            that `motionaware.engine.resume_check` names, such as a higher `train.epochs`. Relative
            paths are relative to the working folder; the run folder stores absolute paths.
        run_folder: Folder of recipe, log and checkpoints; see `motionaware.engine.run_folder`.
        resume: Continue the run in that folder.
        progress: Show progress bars on standard error.
        log: Called with a line at the start, after each epoch and, without progress bars, about
            once a minute.
        source: The data set of the recipe, if it was opened before by `open_source`. Its lists are
            not read again.

    Returns:
        The validation report of the last epoch.

    Raises:
        TrainingInterrupted: A signal stopped the run; its state was saved.
        TrainingDiverged: The loss, the gradient or the scores became infinite or NaN.
        FileExistsError: The folder holds a run, and `resume` is false.
        FileNotFoundError: The folder holds no run, and `resume` is true.
        UsageError: The recipe, the saved state or the classes cannot be used; the message says why.
        DataError, VideoError: Videos cannot be read; the state was saved.
        BlockingIOError: Another process trains the run in that folder.
        OSError: A file cannot be written; files that were written before are unchanged.
    """
    folder = run_folder if isinstance(run_folder, RunFolder) else RunFolder(run_folder)
    log = log or (lambda line: None)
    recipe = with_absolute_paths(with_absolute_module_paths(recipe))
    if not resume:
        folder.check_free()
    if recipe.train.keep_freed_memory and not keep_freed_memory():
        log("note: train.keep_freed_memory has no effect, because the C library is not glibc")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(recipe.train.num_threads or num_threads)
    try:
        with torch.random.fork_rng():
            trainer = Trainer(
                recipe, folder, resume=resume, progress=progress, log=log, source=source
            )
            return trainer.fit()
    finally:
        torch.set_num_threads(num_threads)


class Trainer:
    """One training run: its data, its state and the loop."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        *,
        resume: bool,
        progress: bool,
        log: Callable[[str], None],
        source: VideoSource | None = None,
    ) -> None:
        self.recipe, self.folder, self.progress, self.log = recipe, folder, progress, log
        config = recipe.train
        saved = folder.load_state() if resume else None
        changes = check_recipe_unchanged(recipe, folder=folder, saved=saved) if resume else {}
        self.data = TrainingData(recipe, source=source, progress=progress)
        self.device = pick_device(config.device)
        torch.manual_seed(config.seed)
        model = self._make_model(saved)
        avoid_batches_of_one_clip(model, self.data, recipe)
        self.loss = make_loss(config, self.data.class_names, labels=self.data.labels)
        self.steps_per_epoch = -(-self.data.num_batches // config.accumulate)
        optimizer = make_optimizer(model, recipe.optim)
        self.state = TrainingState(
            model=model,
            optimizer=optimizer,
            scheduler=make_scheduler(
                optimizer,
                recipe.optim,
                steps_per_epoch=self.steps_per_epoch,
                epochs=config.epochs,
            ),
            average=make_average(model, config.ema_decay),
        )
        self.stop = StopRequest()
        if saved:
            self.data.check_unchanged(saved["data"], since=f"{folder.path} was begun")
            self.state.load_state_dict(saved)
            folder.release_state()
        if not resume:
            folder.begin(recipe)  # after all checks: a recipe with an error leaves no folder
        self.data.skips.write_to(folder.skipped)
        self._log_start(changes, from_state=saved is not None)

    def _make_model(self, saved: dict[str, Any] | None) -> VideoRecognizer:
        """Return the model in training mode, with initial weights unless a state was saved."""
        model = make_model(self.recipe, self.data.class_names, fresh=saved is None)
        if saved:
            model.origin = Origin.from_dict(saved.get("origin"))
        model.to(self.device)
        if self.recipe.train.channels_last:
            lay_channels_last(model)
        self._set_training_mode(model)
        return model

    def _set_training_mode(self, model: VideoRecognizer) -> None:
        model.train()
        if self.recipe.train.partial_batch_norm:
            freeze_batch_norms(model)

    # ------------------------------------------------------------------------------------ the loop

    def fit(self) -> Report:
        """Train the remaining epochs. Returns the validation report of the last one."""
        if is_over(self.state.history, self.recipe.train):
            return self._validate()
        opened = self.folder.curves(first_epoch=self.state.epoch)
        with self.folder.alone(), stop_on_signal() as self.stop, opened as curves:
            if self.folder.recipe() != self.recipe:
                self.folder.write_recipe(self.recipe)
            while True:
                self._train_epoch()
                report = self._validate()
                self._finish_epoch(report, curves)
                if is_over(self.state.history, self.recipe.train):
                    if reason := stopped_early(self.state.history, self.recipe.train):
                        self.log(reason)
                    return report
                self._stop_if_requested()

    def _train_epoch(self) -> None:
        """Train the remaining steps of the current epoch."""
        state, config = self.state, self.recipe.train
        self._set_training_mode(state.model)
        progress = Progress(
            f"epoch {state.epoch + 1}/{config.epochs}",
            unit="step",
            total=self.steps_per_epoch,
            done=state.step,
            bar=self.progress,
            log=self.log,
        )
        groups = self.data.groups(state.epoch, state.step, size=config.accumulate)
        for group in progress.follow(self._until_stopped(groups)):
            self._train_step(group)
            state.step += 1
            num_clips = sum(len(batch.labels) for batch in group)
            progress.advance(num_clips, loss=lambda: state.mean_loss)

    def _train_step(self, group: list[Batch]) -> None:
        """Make one optimizer step on the mean loss over all clips of a group of batches."""
        config, state = self.recipe.train, self.state
        divisor = sum(self.loss.divisor(batch.targets) for batch in group)
        # Dropout depends on the seed and the step only, so a resumed run draws the same numbers.
        steps_done = state.epoch * self.steps_per_epoch + state.step
        torch.manual_seed(config.seed * 1_000_003 + steps_done + 1)
        for batch in group:
            clips, labels = batch.views[:, 0].to(self.device), batch.labels.to(self.device)
            bf16 = config.precision == "bf16"
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
                scores = state.model(clips).float()
            loss = self.loss.total(scores, batch.targets.to(self.device))
            self._check_finite("loss", loss.item(), [batch])  # .item() waits for the device
            (loss / divisor).backward()
            hits = (scores.argmax(dim=1) == labels).sum()
            parts = [loss.item(), hits.item(), len(labels), self.loss.divisor(batch.targets)]
            state.sums += torch.tensor(parts, dtype=torch.float64)
        max_norm = self.recipe.optim.max_gradient_norm
        if max_norm is not None:
            norm = nn.utils.clip_grad_norm_(state.model.parameters(), max_norm)
            self._check_finite("gradient's norm", norm.item(), group)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.scheduler.step()
        if state.average is not None:
            state.average.update_parameters(state.model)

    def _validate(self) -> Report:
        """Evaluate the model on the validation split."""
        num_batches = self.data.num_validation_batches
        progress = Progress(
            "validation", unit="batch", total=num_batches, bar=self.progress, log=self.log
        )

        def counted(batches: Iterator[Batch]) -> Iterator[Batch]:
            for batch in batches:
                yield batch
                progress.advance(len(batch.labels))

        try:
            report = evaluate_batches(
                self.state.evaluated_model,
                counted(self._until_stopped(self.data.validation_batches())),
                num_batches=num_batches,
                name=self.data.validation_name,
                progress=self.progress,
            )
        except NonFiniteScores as error:
            raise TrainingDiverged(
                f"validation after epoch {self.state.epoch + 1}: {error}. {self._saved_epochs()}"
            ) from error
        return replace(report, num_skipped=self.data.skips.total("val") - report.num_videos)

    # --------------------------------------------------------------------------- saving, resuming

    def _finish_epoch(self, report: Report, curves: SummaryWriter) -> None:
        """Write log, checkpoints, state and curves of the current epoch, and start the next."""
        state = self.state
        loss, hits, num_clips, divisor = state.sums.tolist()
        row = {
            "epoch": state.epoch + 1,
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            "train_loss": loss / divisor,
            "train_top1": hits / num_clips,
            "val_loss": report.loss,
            "val_top1": report.top1,
            "val_mean_class": report.mean_class,
            "seconds": round(time.monotonic() - state.epoch_start, 2),
        }
        is_best = report.top1 > max((past["val_top1"] for past in state.history), default=-1.0)
        state.next_epoch(row)
        self.folder.write_log(state.history)
        self._save_checkpoints(row, is_best=is_best)
        self._save_state()
        for name, value in row.items():
            curves.add_scalar(name, value, state.epoch)
        self.log(
            f"epoch {state.epoch}/{self.recipe.train.epochs}  "
            f"training: loss {row['train_loss']:.3f} top-1 {row['train_top1']:.1%}  "
            f"validation: loss {report.loss:.3f} top-1 {report.top1:.1%}  "
            f"{row['seconds']:.0f} s"
        )
        for warning in self.data.warnings():
            self.log(warning)

    def _save_checkpoints(self, row: dict[str, int | float], *, is_best: bool) -> None:
        model = self.state.evaluated_model
        facts = row | {RUN_FOLDER: str(self.folder.path.absolute())}
        model.recipe = recipe_to_dict(self.recipe, folder=self.folder.path) | {"trained": facts}
        save(model, self.folder.last)
        if is_best:
            save(model, self.folder.best)

    def _save_state(self) -> None:
        self.folder.save_state(
            self.state.state_dict()
            | {
                "data": self.data.facts(),
                "recipe": recipe_to_dict(self.recipe),
                "origin": self.state.model.origin and asdict(self.state.model.origin),
            }
        )

    # ------------------------------------------------------------------------- stopping, messages

    def _until_stopped(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the items. Between two of them a signal, or an error in the data, saves the run."""
        try:
            for item in items:
                yield item
                self._stop_if_requested()
        except (DataError, VideoError):
            self._save_state()
            raise

    def _stop_if_requested(self) -> None:
        """Save the state and raise TrainingInterrupted if a signal asked to stop."""
        if self.stop.is_set():
            self._save_state()
            raise TrainingInterrupted(
                f"stopped in epoch {self.state.epoch + 1} after step {self.state.step} of "
                f"{self.steps_per_epoch}; all of it is saved. "
                f"Continue with: motionaware train --resume {self.folder.path}",
                self.stop.signal_number,
            )

    def _check_finite(self, quantity: str, value: float, batches: list[Batch]) -> None:
        """Raise TrainingDiverged, and save nothing, if a value of this step is infinite or NaN."""
        if not math.isfinite(value):
            indices = (index for batch in batches for index in batch.indices.tolist())
            names = [self.data.name(index) for index in indices]
            raise TrainingDiverged(
                f"the {quantity} is {value} in step {self.state.step + 1} of epoch "
                f"{self.state.epoch + 1}, on {shorten(names)}; start a new run with a lower "
                "optim.learning_rate or optim.max_gradient_norm, or more optim.warmup_epochs. "
                f"{self._saved_epochs()}"
            )

    def _saved_epochs(self) -> str:
        return f"{self.folder.path} holds {count(self.state.epoch, 'complete epoch')}"

    def _log_start(self, changes: Changes, *, from_state: bool) -> None:
        self.log(self._summary())
        if self.state.model.origin and not from_state:
            for line in self.state.model.origin.lines():
                self.log(line)
        if changes:
            self.log(f"resumed with {describe_changes(changes)}")
        for hint in self.data.hints():
            self.log(f"note: {hint}")
        for warning in self.data.warnings():
            self.log(warning)

    def _summary(self) -> str:
        """Return one line: model, data, device and run folder."""
        model = self.recipe.model
        millions = sum(parameter.numel() for parameter in self.state.model.parameters()) / 1e6
        return (
            f"{model.backbone}, temporal {short_name(model.temporal)} at "
            f"{count(len(sites(self.state.model.backbone)), 'site')}, "
            f"{millions:.2f} M parameters; {self.data.summary()}; on {self.device} with "
            f"{count(torch.get_num_threads(), 'thread')}; run folder {self.folder.path}"
        )
