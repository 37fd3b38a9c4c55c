"""Optimizer, parameter groups, learning-rate schedule, frozen batch norms and weight average."""

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from motionaware.engine.config import OptimConfig
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import temporal_modules

_ONE_CYCLE_RISE = 0.3  # share of the steps in which the rate rises
_ONE_CYCLE_START = 1 / 25  # share of the highest rate
_ONE_CYCLE_END = 1e-4 / 25


def freeze_batch_norms(model: VideoRecognizer) -> None:
    """Freeze all batch norms of the backbone but the first; those of temporal modules stay.

    Source: Wang et al., Temporal Segment Networks, 2016, https://arxiv.org/abs/1608.00859
    """
    inserted = tuple(f"{name}." for name in temporal_modules(model.backbone).values())
    norms = [
        module
        for name, module in model.backbone.named_modules()
        if isinstance(module, _BatchNorm) and not f"{name}.".startswith(inserted)
    ]
    for norm in norms[1:]:
        norm.eval()
        norm.requires_grad_(False)


def make_average(model: VideoRecognizer, decay: float | None) -> AveragedModel | None:
    """Return an exponential moving average of parameters and buffers; None without a decay."""
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def make_optimizer(model: VideoRecognizer, config: OptimConfig) -> Optimizer:
    """Return the optimizer over `parameter_groups`."""
    groups = parameter_groups(model, config)
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    return AdamW(groups, lr=config.learning_rate)


def parameter_groups(model: VideoRecognizer, config: OptimConfig) -> list[dict[str, object]]:
    """Return up to four groups of the trainable parameters.

    Temporal modules and classifier have `new_rate_factor` times the learning rate of the backbone.
    Matrices and kernels have weight decay; norms and biases have none.
    """
    inserted = temporal_modules(model.backbone).values()
    new_prefixes = ("head.", *(f"backbone.{name}." for name in inserted))
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(new_prefixes), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * (config.new_rate_factor if new else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (new, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def make_scheduler(
    optimizer: Optimizer, config: OptimConfig, *, steps_per_epoch: int, epochs: int
) -> LambdaLR:
    """Return the learning-rate schedule. Step it once after each optimizer step."""
    return LambdaLR(
        optimizer,
        lambda step: rate_factor(step, config, steps_per_epoch=steps_per_epoch, epochs=epochs),
    )


def rate_factor(step: int, config: OptimConfig, *, steps_per_epoch: int, epochs: int) -> float:
    """Return the learning rate of a step (counted from 0) as a share of the highest rate.

    Within the planned steps the factors equal those of torch's schedules to 1e-12:

    - `step`: MultiStepLR with gamma 0.1.
    - `cosine`: CosineAnnealingLR to 0.
    - `one-cycle`: OneCycleLR with its peak at 30 % of the way from the first step to the last.
      torch's own `pct_start=0.3` puts the peak up to one step earlier.

    We use this formula because it has no state: a run of an older version resumes from its step
    number alone, but torch's OneCycleLR needs entries in the optimizer's state that older runs do
    not have. torch's schedules have no warm-up of a fractional number of steps, and the last digits
    of their rates differ, so that trained weights would differ too.

    >>> config = OptimConfig(schedule="step", milestones_epochs=(2,), warmup_epochs=0.5)
    >>> [rate_factor(step, config, steps_per_epoch=4, epochs=3) for step in (0, 1, 2, 8)]
    [0.5, 1.0, 1.0, 0.1]
    """
    num_steps = steps_per_epoch * epochs
    if config.schedule == "one-cycle":
        return _one_cycle(step / max(num_steps - 1, 1))
    warmup_steps = config.warmup_epochs * steps_per_epoch
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if config.schedule == "cosine":
        return warmup * _cosine(1.0, 0.0, step / num_steps)
    passed = sum(step >= milestone * steps_per_epoch for milestone in config.milestones_epochs)
    return warmup * 0.1**passed


def _one_cycle(progress: float) -> float:
    """Smith and Topin, 2017, https://arxiv.org/abs/1708.07120, without the cycle of momentum."""
    if progress < _ONE_CYCLE_RISE:
        return _cosine(_ONE_CYCLE_START, 1.0, progress / _ONE_CYCLE_RISE)
    return _cosine(1.0, _ONE_CYCLE_END, (progress - _ONE_CYCLE_RISE) / (1 - _ONE_CYCLE_RISE))


def _cosine(start: float, end: float, progress: float) -> float:
    """Interpolate from start to end along half a cosine wave; progress above 1 gives `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
