from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, lr_scheduler

from motionaware.engine.config import OptimConfig
from motionaware.engine.config_io import read_recipe
from motionaware.engine.optim import (
    freeze_batch_norms,
    make_optimizer,
    make_scheduler,
    parameter_groups,
    rate_factor,
)
from motionaware.models.recognizer import VideoRecognizer, create_model


@pytest.fixture(scope="module")
def model() -> VideoRecognizer:
    return create_model("resnet18_quarter", temporal="m2a", num_classes=3, num_frames=4)


def names_in(model: nn.Module, group: dict[str, Any]) -> set[str]:
    ids = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in ids}


@pytest.mark.parametrize("temporal", ["none", "m2a", "m2a,tsm"])
def test_each_trainable_parameter_is_in_exactly_one_group(temporal: str):
    model = create_model("resnet18_quarter", temporal=temporal, num_classes=3)
    freeze_batch_norms(model)
    grouped = [id(p) for group in parameter_groups(model, OptimConfig()) for p in group["params"]]  # type: ignore[attr-defined]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters() if p.requires_grad}


def test_new_layers_have_a_higher_rate_and_only_matrices_have_weight_decay(model: VideoRecognizer):
    config = OptimConfig(learning_rate=0.1, new_rate_factor=5.0, weight_decay=0.01)
    groups = {
        (group["lr"], group["weight_decay"]): names_in(model, group)
        for group in parameter_groups(model, config)
    }
    assert groups.keys() == {(0.1, 0.0), (0.1, 0.01), (0.5, 0.0), (0.5, 0.01)}
    assert all(".temporal." in name or "head." in name for name in groups[0.5, 0.01])
    assert {"head.weight", "backbone.layer1.0.conv1.temporal.down.weight"} <= groups[0.5, 0.01]
    assert {"head.bias", "backbone.layer1.0.conv1.temporal.up.bias"} <= groups[0.5, 0.0]
    assert {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight"} <= groups[0.1, 0.01]
    assert {"backbone.bn1.weight", "backbone.bn1.bias"} <= groups[0.1, 0.0]
    assert not any(".temporal." in name for name in groups[0.1, 0.0] | groups[0.1, 0.01])


def test_the_optimizer_is_the_one_in_the_recipe(model: VideoRecognizer):
    sgd = make_optimizer(model, OptimConfig(optimizer="sgd", momentum=0.5))
    assert isinstance(sgd, SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.5}
    assert isinstance(make_optimizer(model, OptimConfig(optimizer="adamw")), AdamW)


def factors(config: OptimConfig, *, steps_per_epoch: int, epochs: int) -> list[float]:
    return [
        rate_factor(step, config, steps_per_epoch=steps_per_epoch, epochs=epochs)
        for step in range(steps_per_epoch * epochs)
    ]


def test_step_divides_by_ten_at_the_first_step_of_each_milestone():
    config = OptimConfig(schedule="step", milestones_epochs=(1, 3))
    found = factors(config, steps_per_epoch=2, epochs=4)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_starts_at_one_is_half_in_the_middle_and_ends_near_zero():
    found = factors(OptimConfig(schedule="cosine"), steps_per_epoch=10, epochs=2)
    assert found[0] == 1.0
    assert found[10] == pytest.approx(0.5)
    assert 0 < found[-1] < 0.01
    assert found == sorted(found, reverse=True)


def test_one_cycle_starts_at_a_25th_and_ends_near_zero():
    found = factors(OptimConfig(schedule="one-cycle"), steps_per_epoch=100, epochs=4)
    assert (found[0], found[-1]) == pytest.approx((1 / 25, 1e-4 / 25))
    assert max(found) == pytest.approx(1.0, abs=1e-4)


def torch_factors(config: OptimConfig, *, steps_per_epoch: int, epochs: int) -> list[float]:
    """Return the learning rates of torch's own schedule as shares of the highest rate."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    num_steps = steps_per_epoch * epochs
    if config.schedule == "step":
        milestones = [epoch * steps_per_epoch for epoch in config.milestones_epochs]
        scheduler = lr_scheduler.MultiStepLR(optimizer, milestones)
    elif config.schedule == "cosine":
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=num_steps)
    else:
        rise = (0.3 * (num_steps - 1) + 1) / num_steps  # its peak is at step rise * num_steps - 1
        scheduler = lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=num_steps, pct_start=rise, cycle_momentum=False
        )
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(num_steps - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schedule_of_each_recipe_equals_torchs_own(path: Path):
    recipe = read_recipe(path)
    assert recipe.optim.warmup_epochs == 0
    for steps_per_epoch in (1, 37):
        size = {"steps_per_epoch": steps_per_epoch, "epochs": recipe.train.epochs}
        expected = torch_factors(recipe.optim, **size)
        assert factors(recipe.optim, **size) == pytest.approx(expected, rel=1e-12)


def test_the_cosine_schedule_equals_torchs_own():
    config, size = OptimConfig(schedule="cosine"), {"steps_per_epoch": 37, "epochs": 8}
    assert factors(config, **size) == pytest.approx(torch_factors(config, **size), rel=1e-12)


def test_a_run_of_one_step_has_a_learning_rate():
    for schedule in ("step", "cosine", "one-cycle"):
        config = OptimConfig(schedule=schedule)
        assert rate_factor(0, config, steps_per_epoch=1, epochs=1) > 0


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_warmup_rises_linearly_and_then_has_no_effect(schedule: str):
    without = OptimConfig(schedule=schedule)  # type: ignore[arg-type]
    warm = OptimConfig(schedule=schedule, warmup_epochs=0.5)  # type: ignore[arg-type]
    found = factors(warm, steps_per_epoch=8, epochs=2)
    usual = factors(without, steps_per_epoch=8, epochs=2)
    rise = [factor / usual_factor for factor, usual_factor in zip(found, usual, strict=True)]
    assert rise == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 13)


def test_the_schedule_scales_the_rate_of_each_group(model: VideoRecognizer):
    config = OptimConfig(learning_rate=0.1, new_rate_factor=5.0, milestones_epochs=(1,))
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, steps_per_epoch=1, epochs=2)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1, 0.5}
    optimizer.step()
    scheduler.step()
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    assert rates == pytest.approx([0.01, 0.05])
