"""Compute top-k accuracy, per-class accuracy, loss and confusion matrix from probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_NOTES_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a model on a set of videos. Accuracies are shares in [0, 1].

    Attributes:
        num_videos: Videos evaluated.
        top1: Share of the videos whose most probable class is correct.
        top5: Share of the videos whose correct class is among the five most probable; None for five
            classes or fewer.
        mean_class: Mean of the top-1 of each class that occurs.
        loss: Mean of -log of the probability of the correct class.
        per_class: Top-1 of each class by name; None if it does not occur.
        confusion: Number of videos for each correct class (row) and predicted class (column).
        num_skipped: Videos left out because they are absent or cannot be read.
        notes: Changes that were needed to read videos, one line each.
    """

    num_videos: int
    top1: float
    top5: float | None
    mean_class: float
    loss: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    num_skipped: int = 0
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the results on one line."""
        videos = f"{self.num_videos} videos"
        if self.num_skipped:
            total = self.num_videos + self.num_skipped
            videos = f"{self.num_videos} of {total} videos ({self.num_skipped} skipped)"
        top5 = "" if self.top5 is None else f"  top-5 {self.top5:.1%}"
        return (
            f"{videos}  top-1 {self.top1:.1%}{top5}  "
            f"mean per class {self.mean_class:.1%}  loss {self.loss:.3f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain values."""
        return dict(vars(self))


def note_lines(notes: Sequence[str]) -> list[str]:
    """Return notes as lines to print: the first few, then the number of the others."""
    lines = [f"note: {note}" for note in notes[:_NOTES_SHOWN]]
    more = len(notes) - len(lines)
    return lines + (
        [f"note: and {more} more like these; motionaware doctor names all"] * (more > 0)
    )


def make_report(
    probabilities: Float[Tensor, "n k"], labels: Int[Tensor, "n"], class_names: Sequence[str]
) -> Report:
    """Evaluate probabilities, whose rows sum to 1, against the labels.

    >>> sure = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    >>> report = make_report(sure, torch.tensor([0, 1]), ["left", "right"])
    >>> report.top1, report.per_class
    (0.5, {'left': 1.0, 'right': 0.0})
    """
    num_videos, num_classes = probabilities.shape
    predicted = probabilities.argmax(dim=1)
    confusion = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    confusion = confusion.unflatten(0, (num_classes, num_classes))
    totals, hits = confusion.sum(dim=1), confusion.diag()
    occurs = totals > 0
    correct = probabilities.gather(1, labels[:, None])
    in_top5 = (probabilities.topk(min(5, num_classes)).indices == labels[:, None]).any(dim=1)
    return Report(
        num_videos=num_videos,
        top1=(predicted == labels).double().mean().item(),
        top5=in_top5.double().mean().item() if num_classes > 5 else None,
        mean_class=(hits[occurs] / totals[occurs]).double().mean().item(),
        loss=-correct.clamp_min(1e-12).log().mean().item(),
        per_class={
            name: (int(hit) / int(total) if total else None)
            for name, hit, total in zip(class_names, hits, totals, strict=True)
        },
        confusion=confusion.tolist(),
    )
