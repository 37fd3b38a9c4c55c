"""Train: the loop, in plain PyTorch."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from motionaware.data.dataset import Batch, TrainingOrder, batches_of, in_order, make_loader
from motionaware.engine.config import Recipe, recipe_to_dict
from motionaware.engine.evaluate import check_classes, judge, open_dataset
from motionaware.engine.metrics import Report, make_report
from motionaware.engine.optim import make_optimizer, make_schedule
from motionaware.engine.run_folder import RunFolder
from motionaware.models.checkpoint import save
from motionaware.models.insertion import sites
from motionaware.models.recognizer import VideoRecognizer, create_model


class TrainingInterrupted(RuntimeError):
    """The run was asked to stop; it saved its state first."""


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; the last whole epoch stays saved."""


def train(
    recipe: Recipe, run_folder: str | Path, *, resume: bool = False, progress: bool = False
) -> Report:
    """Train a model and judge it on validation after every epoch.

    Ctrl-C (or SIGTERM) ends the run after its current step; resumed, it goes on as if it had not
    stopped, to the same numbers.

    Args:
        recipe: All there is to know; a resumed run must be given the one it began with.
        run_folder: Where recipe, log and checkpoints go; see `motionaware.engine.run_folder`.
        resume: Go on with the run in that folder.
        progress: Show bars on the error stream.

    Returns:
        How the last epoch's model did on validation.

    Raises:
        TrainingInterrupted: Asked to stop.
        TrainingDiverged: The loss became infinite or not a number.
        FileExistsError: The folder holds a run, and `resume` is false.
        FileNotFoundError: The folder holds no run, and `resume` is true.
        ValueError: Recipe or data do not fit; the message says which and why.
    """
    folder = RunFolder(run_folder)
    if resume and folder.recipe() != recipe:
        raise ValueError(f"{folder.path} was begun with another recipe; resume with its own")
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.train.num_threads or threads)
    try:
        with torch.random.fork_rng(), stop_on_signal() as stop:
            return TrainingRun(recipe, folder, resume=resume, progress=progress).finish(stop)
    finally:
        torch.set_num_threads(threads)


class TrainingRun:
    """One run: everything that moves, and how far it has come."""

    def __init__(self, recipe: Recipe, folder: RunFolder, *, resume: bool, progress: bool) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        data, config, spec = recipe.data, recipe.train, recipe.clip
        training = open_dataset(data, "train", spec=spec, progress=progress)
        validation = open_dataset(
            data, "val", spec=spec, num_views=recipe.eval.num_views, progress=progress
        )
        check_classes(training.class_names, validation.class_names)
        self.order = TrainingOrder(len(training), batch_size=config.batch_size, seed=config.seed)
        self.training = make_loader(training, self.order, num_workers=data.num_workers)
        val_order = in_order(len(validation), batch_size=recipe.eval.batch_size)
        self.validation = make_loader(validation, val_order, num_workers=data.num_workers)
        self.steps_per_epoch = -(-len(self.order) // config.accumulate)

        torch.manual_seed(config.seed)
        self.device = pick_device(config.device)
        self.model = create_model(
            recipe.model.backbone,
            temporal=recipe.model.temporal,
            class_names=training.class_names,
            num_frames=spec.num_frames,
            pretrained=False if resume else recipe.model.pretrained,
            clip=spec,
            dropout=recipe.model.dropout,
        )
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model.to(self.device).to(memory_format=layout)
        self.model.recipe = recipe_to_dict(recipe)
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
        self.sums = torch.zeros(3)  # this epoch's loss, right answers and clips
        self.log: list[dict[str, float]] = []
        if resume:
            self._restore()
        else:
            folder.begin(recipe)  # last: bad data or a bad recipe leave no folder behind

    def finish(self, stop: threading.Event) -> Report:
        """Train the epochs that are left."""
        if self.epoch == self.recipe.train.epochs:
            return self._validate()
        with SummaryWriter(str(self.folder.path / "tensorboard"), purge_step=self.epoch) as curves:
            while True:
                began = time.monotonic()
                self._train_epoch(stop)
                report = self._validate()
                self._record(report, curves, seconds=time.monotonic() - began)
                if self.epoch == self.recipe.train.epochs:
                    return report

    def _train_epoch(self, stop: threading.Event) -> None:
        """One pass over the training videos, or what is left of it."""
        self._training_mode()
        accumulate = self.recipe.train.accumulate
        self.order.epoch, self.order.start = self.epoch, self.step * accumulate
        bar = tqdm(
            groups_of(batches_of(self.training), accumulate),
            f"epoch {self.epoch + 1}/{self.recipe.train.epochs}",
            total=self.steps_per_epoch,
            initial=self.step,
            leave=False,
            disable=not self.progress,
        )
        for group in bar:
            self._train_step(group)
            self.step += 1
            if stop.is_set():
                self._save_state()
                raise TrainingInterrupted(
                    f"stopped in epoch {self.epoch + 1} after step {self.step} of "
                    f"{self.steps_per_epoch}; all of it is saved. "
                    f"Go on with: motionaware train --resume {self.folder.path}"
                )

    def _train_step(self, group: list[Batch]) -> None:
        """One step of the optimizer, from the mean loss over all clips of a group of batches."""
        config = self.recipe.train
        num_clips = sum(len(batch.labels) for batch in group)
        for batch in group:
            clips, labels = batch.views[:, 0].to(self.device), batch.labels.to(self.device)
            bf16 = config.precision == "bf16"
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
                scores = self.model(clips).float()
            loss = F.cross_entropy(
                scores, labels, reduction="sum", label_smoothing=config.label_smoothing
            )
            (loss / num_clips).backward()
            hits = (scores.argmax(dim=1) == labels).sum()
            self.sums += torch.stack([loss.detach(), hits, torch.tensor(len(labels))]).cpu()
        if self.recipe.optim.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optim.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

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

    def _validate(self) -> Report:
        probabilities, labels = judge(self._result(), self.validation, progress=self.progress)
        return make_report(probabilities, labels, self.model.class_names)

    def _record(self, report: Report, curves: SummaryWriter, *, seconds: float) -> None:
        """Close an epoch: log it and save the model, as the best one too where it is."""
        loss, hits, num_clips = self.sums.tolist()
        row = {
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss / num_clips,
            "train_top1": hits / num_clips,
            "val_loss": report.loss,
            "val_top1": report.top1,
            "val_mean_class": report.mean_class,
            "seconds": round(seconds, 2),
        }
        if not all(map(torch.isfinite, torch.tensor([loss, report.loss]))):
            raise TrainingDiverged(
                f"the loss of epoch {self.epoch + 1} is {row['train_loss']} in training, "
                f"{report.loss} on validation; lower optim.learning_rate or set "
                f"optim.max_gradient_norm. The epochs before stay saved in {self.folder.path}"
            )
        best = max((past["val_top1"] for past in self.log), default=-1.0)
        self.log.append(row)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros(3)
        self.folder.write_log(self.log)
        for name, value in row.items():
            curves.add_scalar(name, value, self.epoch)
        result = self._result()
        result.recipe = recipe_to_dict(self.recipe) | {"trained": row}
        save(result, self.folder.last)
        if report.top1 > best:
            save(result, self.folder.best)
        self._save_state()

    def _save_state(self) -> None:
        self.folder.save_state(
            {
                "model": self.model.state_dict(),
                "average": self.average and self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "chance": torch.get_rng_state(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums,
                "log": self.log,
            }
        )

    def _restore(self) -> None:
        state = self.folder.load_state()
        if state is None:
            return  # stopped before the first state was written: begin at the beginning
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["chance"])
        self.epoch, self.step, self.sums = state["epoch"], state["step"], state["sums"]
        self.log = state["log"]


def groups_of(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Gather `size` batches at a time; the last group holds what is left."""
    while group := list(islice(batches, size)):
        yield group


def freeze_batch_norms(model: VideoRecognizer) -> None:
    """Freeze the backbone's batch norms but the first, and none of the modules put into it.

    Source: Wang et al., Temporal Segment Networks, 2016, https://arxiv.org/abs/1608.00859
    """
    inserted = tuple(f"{site}.temporal." for site in sites(model.backbone))
    norms = [
        module
        for name, module in model.backbone.named_modules()
        if isinstance(module, _BatchNorm) and not name.startswith(inserted)
    ]
    for norm in norms[1:]:
        norm.eval()
        norm.requires_grad_(False)


def make_average(model: VideoRecognizer, decay: float | None) -> AveragedModel | None:
    """Make the running average of the weights, if one is wanted."""
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event; a second Ctrl-C acts as ever.

    Only the main thread may listen to signals; elsewhere the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
