"""The training loss: cross-entropy with class weights, over a step of one or several batches.

    labels    sum_i w[y_i] l_i / sum_i w[y_i]       y_i the class of clip i
    shares    sum_i sum_c w[c] p_ic l_ic / n        p_i the class shares of a mixed clip

Mixup and cutmix make shares. Both are equal to torch's CrossEntropyLoss(weight=w,
label_smoothing=...) on all clips of the step at once, for any number of batches. The divisor does
not depend on label smoothing.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from motionaware.data.annotations.split import class_hint
from motionaware.engine.config import TrainConfig
from motionaware.errors import UsageError


class TrainingLoss:
    """Computes the sum of the loss of a batch, and the part of the divisor that it adds.

    Args:
        weights: One weight for each class; None weights all classes equally.
        label_smoothing: Share of the target that is spread over all classes.
    """

    def __init__(self, weights: Float[Tensor, "k"] | None, *, label_smoothing: float) -> None:
        self.weights = weights
        self.label_smoothing = label_smoothing

    def total(
        self, scores: Float[Tensor, "b k"], targets: Int[Tensor, "b"] | Float[Tensor, "b k"]
    ) -> Float[Tensor, ""]:
        """Return the sum of the weighted losses of the clips of a batch."""
        weights = None if self.weights is None else self.weights.to(scores)
        return F.cross_entropy(
            scores,
            targets,
            weight=weights,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def divisor(self, targets: Int[Tensor, "b"] | Float[Tensor, "b k"]) -> float:
        """Return the sum of the weights of the clips of a batch, or their number if mixed."""
        if self.weights is None or targets.is_floating_point():
            return float(len(targets))
        return self.weights[targets].double().sum().item()


def make_loss(
    config: TrainConfig, class_names: Sequence[str], *, labels: Callable[[], list[int]]
) -> TrainingLoss:
    """Return the loss of a recipe.

    Args:
        config: Class weights and label smoothing.
        class_names: One name for each class.
        labels: Returns the labels of the training videos; called for balanced weights only.

    Raises:
        UsageError: A class weight names an unknown class.
    """
    setting = config.class_weights
    if isinstance(setting, dict):
        weights = named_weights({str(name): one for name, one in setting.items()}, class_names)
    else:
        weights = balanced_weights(len(class_names), labels()) if setting == "balanced" else None
    return TrainingLoss(weights, label_smoothing=config.label_smoothing)


def named_weights(weights: Mapping[str, float], class_names: Sequence[str]) -> Float[Tensor, "k"]:
    """Return class weights from a mapping of class names; other classes have weight 1.

    Raises:
        UsageError: A name is not a class.

    >>> named_weights({"dog": 2.5}, ["cat", "dog"])
    tensor([1.0000, 2.5000])
    """
    for name in weights:
        if name not in class_names:
            raise UsageError(
                f"train.class_weights names the class {name!r}, which the data do not have; "
                f"{class_hint(name, class_names)}"
            )
    return torch.tensor([float(weights.get(name, 1.0)) for name in class_names])


def balanced_weights(num_classes: int, labels: Sequence[int]) -> Float[Tensor, "k"]:
    """Return class weights n / (k n_c) that are inverse to the number of training videos.

    n videos are in k different classes, n_c of them in class c. A class without videos has
    weight 1.

    >>> balanced_weights(2, [0, 0, 0, 1])
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(torch.tensor(labels), minlength=num_classes)
    occurs = counts > 0
    weights = len(labels) / (occurs.sum() * counts.clamp(min=1))
    return torch.where(occurs, weights, 1.0)
