"""The state of a training run: what changes during training and is stored in resume.pt."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from motionaware.models.recognizer import VideoRecognizer


@dataclass(kw_only=True)
class TrainingState:
    """All that changes while a model is trained.

    Attributes:
        model: The model that is trained.
        optimizer: Its optimizer.
        scheduler: The learning-rate schedule, stepped once after each optimizer step.
        average: Moving average of the weights; None if none is wanted.
        epoch: Completed epochs.
        step: Completed steps of the current epoch.
        sums: Sums over the clips of the current epoch so far: loss, correct predictions, clips,
            and the divisor of the loss.
        epoch_start: Value of time.monotonic() at which the current epoch began; earlier for a
            resumed epoch, by the seconds that it had already taken.
        history: One row for each completed epoch, as in log.csv.
    """

    model: VideoRecognizer
    optimizer: Optimizer
    scheduler: LRScheduler
    average: AveragedModel | None
    epoch: int = 0
    step: int = 0
    sums: Float[Tensor, "4"] = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))
    epoch_start: float = field(default_factory=time.monotonic)
    history: list[dict[str, int | float]] = field(default_factory=list)

    @property
    def evaluated_model(self) -> VideoRecognizer:
        """The model that is evaluated and saved: the moving average if there is one."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, VideoRecognizer)
        return self.average.module

    @property
    def mean_loss(self) -> float:
        """Training loss over the current epoch so far."""
        return float(self.sums[0] / self.sums[3])

    def next_epoch(self, row: dict[str, int | float]) -> None:
        """Append the row of the current epoch to the history and start the next epoch."""
        self.history.append(row)
        self.epoch, self.step, self.epoch_start = self.epoch + 1, 0, time.monotonic()
        self.sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values and tensors."""
        return {
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.scheduler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "seconds": time.monotonic() - self.epoch_start,
            "log": self.history,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, also in an older version."""
        self.model.load_state_dict(saved["model"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["schedule"])
        self.epoch, self.step, sums = saved["epoch"], saved["step"], saved["sums"]
        # Older versions saved no divisor. They had no class weights, so it is the number of clips.
        self.sums = sums if len(sums) == 4 else torch.cat([sums, sums[2:]])
        self.epoch_start -= saved["seconds"]
        self.history = saved["log"]
