"""The training loss: cross-entropy with class weights, over a step of one or several batches.

    labels    sum_i w[y_i] l_i / sum_i w[y_i]       y_i the class of clip i
    shares    sum_i sum_c w[c] p_ic l_ic / n        p_i the class shares of a mixed clip

Mixup and cutmix make shares. Both are torch's CrossEntropyLoss(weight=w, label_smoothing=...) on
all clips of the step at once, however many batches it has. Label smoothing does not change what the
sum is divided by.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from motionaware.data.annotations.split import class_hint
from motionaware.errors import UsageError


class TrainingLoss:
    """Sums of the loss over batches, and what they are divided by.

    Args:
        weights: One weight a class; None weights all classes equally.
        label_smoothing: Share of the target that is spread over all classes.
    """

    def __init__(self, weights: Float[Tensor, "k"] | None, *, label_smoothing: float) -> None:
        self.weights = weights
        self.label_smoothing = label_smoothing

    def total(
        self, scores: Float[Tensor, "b k"], targets: Int[Tensor, "b"] | Float[Tensor, "b k"]
    ) -> Float[Tensor, ""]:
        """Sum the weighted loss of the clips of a batch."""
        weights = None if self.weights is None else self.weights.to(scores)
        return F.cross_entropy(
            scores,
            targets,
            weight=weights,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def divisor(self, targets: Int[Tensor, "b"] | Float[Tensor, "b k"]) -> float:
        """What the clips of a batch add to the divisor: their weights, or their number if mixed."""
        if self.weights is None or targets.is_floating_point():
            return float(len(targets))
        return self.weights[targets].double().sum().item()


def make_weights(
    setting: str | Mapping[str, float], class_names: Sequence[str], labels: Sequence[int]
) -> Float[Tensor, "k"] | None:
    """Make the class weights that `train.class_weights` asks for.

    Args:
        setting: `none`, `balanced`, or a weight for some class names; the others have 1.
        class_names: One name a class.
        labels: Of the training videos; they are counted for `balanced`.

    Returns:
        The weights; None if all classes count equally. `balanced` gives n / (k n_c) to a class that
        has n_c of the n videos, where k classes have any, and 1 to a class without videos.

    Raises:
        ValueError: A name is not a class.

    >>> make_weights("balanced", ["cat", "dog"], [0, 0, 0, 1])
    tensor([0.6667, 2.0000])
    """
    if setting == "none":
        return None
    if not isinstance(setting, str):
        for name in setting:
            if name not in class_names:
                raise UsageError(
                    f"train.class_weights names the class {name!r}, which the data do not have; "
                    f"{class_hint(name, class_names)}"
                )
        return torch.tensor([float(setting.get(name, 1.0)) for name in class_names])
    counts = torch.bincount(torch.tensor(labels), minlength=len(class_names))
    occurs = counts > 0
    weights = len(labels) / (occurs.sum() * counts.clamp(min=1))
    return torch.where(occurs, weights, 1.0)
