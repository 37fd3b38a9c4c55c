"""VideoRecognizer: normalises clips, runs the backbone and the head, and returns class scores."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motionaware.clip import ClipSpec
from motionaware.errors import MotionAwareWarning, SiteError, UsageError
from motionaware.models.backbone_weights import PACKAGE
from motionaware.models.backbones import Backbone, open_backbone
from motionaware.models.checkpoint_file import Origin
from motionaware.models.insertion import insert
from motionaware.models.shape_tracing import takes_volumes
from motionaware.models.site_hooks import adapters, failed_in_temporal_module
from motionaware.models.sites import Choice
from motionaware.models.transfer import Target, find_checkpoint, take_weights
from motionaware.models.weights import file_checksum, fill
from motionaware.ops.autograd_utils import is_traced, known_shape
from motionaware.ops.layout import fold_time, fold_volumes, unfold_vectors
from motionaware.temporal.memory_format import AnyMemoryFormat
from motionaware.temporal.own import find_own
from motionaware.temporal.table import Maker

# Limits of floats in [0, 1] that allow for undershoot and overshoot of resampling, and for noise.
_SMALLEST_PIXEL = -0.9  # normalised images reach -1 or less
_LARGEST_PIXEL = 16.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How `create_model` built a model, so that `load` can build it again.

    Attributes:
        backbone: Name of the network.
        temporal: Name of the temporal modules, with absolute paths of own code; None if it was a
            callable, which must be passed to `load` again.
        where: Argument of `insert`.
        stages: Argument of `insert`.
        every: Argument of `insert`.
        dropout: Fraction of the features that are dropped before the head in training.
        causal: Argument of `insert`.
    """

    backbone: str
    temporal: str | None
    where: tuple[str, ...] | None
    dropout: float
    stages: tuple[int, ...] | None = None
    every: int | None = None
    causal: bool = False


class VideoRecognizer(AnyMemoryFormat):
    """Computes class scores of clips: normalise, run the backbone, average the scores of frames.

    A 2-D backbone runs on each frame. A 3-D backbone runs on whole clips, so that there is nothing
    to average.

    Args:
        backbone: Images or volumes -> features. Its temporal modules, if any, were inserted for
            `clip.num_frames` frames.
        clip: Frames, size and sampling of the clips.
        class_names: Names of the classes, in the order of the scores.
        dropout: Fraction of the features that are dropped before the head in training.
        plan: How to build the model again; a model without a plan cannot be saved.

    Attributes:
        recipe: Recipe of the training, as plain values; saved with the weights.
        origin: The file of the initial weights, if they came from one; saved with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        clip: ClipSpec,
        class_names: Sequence[str],
        dropout: float = 0.5,
        plan: Plan | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.class_names = tuple(class_names)
        self.plan = plan
        self.recipe: dict[str, Any] = {}
        self.origin: Origin | None = None
        self.register_buffer("mean", rearrange(torch.tensor(backbone.mean), "c -> c 1 1"))
        self.register_buffer("std", rearrange(torch.tensor(backbone.std), "c -> c 1 1"))
        self.backbone = backbone.network
        self.takes_volumes = takes_volumes(backbone.network)
        self._inserted = "\n".join(
            f"{name} {adapter} {backbone.network.get_submodule(name).get_submodule('temporal')}"
            for name, adapter in adapters(backbone.network)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.num_features, len(self.class_names))
        # Nearly equal scores at the start, as in the reference code.
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, clips: Float[Tensor, "b t 3 h w"] | UInt8[Tensor, "b t 3 h w"]
    ) -> Float[Tensor, "b k"]:
        """Return the scores of clips.

        Args:
            clips: RGB frames, as floats in [0, 1] or uint8 in [0, 255].

        Raises:
            UsageError: The layout or the number of frames is wrong, floats are larger than pixels
                can be, the backbone refuses a size that differs from `clip.image_size`, or a
                temporal module changes the shape.
        """
        self._check_clips(clips)
        if torch.compiler.is_compiling():
            # torch.compile reuses a graph for another backbone of the same class unless a value
            # that the graph depends on differs. It ignores hooks, so make it depend on this text.
            assert self._inserted != "?"
        is_bytes = clips.dtype == torch.uint8
        clips = clips.to(self.mean.dtype)
        if is_bytes:
            clips = clips / 255
        clips = (clips - self.mean) / self.std
        if self.takes_volumes:
            return self.head(self.dropout(self._features(fold_volumes(clips))))
        features = self._features(fold_time(clips))
        scores = unfold_vectors(self.head(self.dropout(features)), num_frames=self.clip.num_frames)
        return scores.mean(dim=1)

    def _features(self, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self.backbone(images)
        try:
            return self.backbone(images)
        except (torch.OutOfMemoryError, SiteError):
            raise
        except (AssertionError, RuntimeError) as error:
            size, made_for = tuple(images.shape[-2:]), self.clip.image_size
            if size == (made_for, made_for) or failed_in_temporal_module(error):
                raise
            raise UsageError(
                f"{type(self.backbone).__name__} does not take frames of {size[0]} x {size[1]} "
                f"pixels ({str(error).splitlines()[0]}); wanted {made_for} x {made_for}, the "
                "size in model.clip.image_size"
            ) from error

    def _check_clips(self, clips: Tensor) -> None:
        wanted = f"wanted b t 3 h w with t = {self.clip.num_frames}"
        shape = tuple(known_shape(clips))
        if clips.ndim != 5:
            raise UsageError(f"clips of shape {shape} have {clips.ndim} axes; {wanted}")
        if shape[2] != 3:
            swapped = "; swap axes 1 and 2, clips.transpose(1, 2)" if shape[1] == 3 else ""
            raise UsageError(f"clips of shape {shape} have {shape[2]} colours; {wanted}{swapped}")
        if shape[1] != self.clip.num_frames:
            raise UsageError(
                f"clips of shape {shape} have {shape[1]} frames; {wanted}: sample "
                "model.clip.num_frames frames"
            )
        if not (clips.dtype == torch.uint8 or clips.is_floating_point()):
            raise UsageError(f"clips are {clips.dtype}; wanted uint8, or floats in [0, 1]")
        if clips.dtype == torch.uint8 or clips.is_meta or is_traced() or not clips.numel():
            return
        smallest, largest = (bound.item() for bound in clips.detach().aminmax())
        if largest > _LARGEST_PIXEL:
            raise UsageError(
                f"clips have floats up to {largest:g}; wanted floats in [0, 1]: divide by 255, or "
                "pass uint8"
            )
        if smallest < _SMALLEST_PIXEL:
            warnings.warn(
                f"clips have floats from {smallest:.2g} to {largest:.2g}; wanted floats in [0, 1]. "
                "If you normalised them, remove that step: the model subtracts its mean and "
                "divides by its standard deviation itself",
                MotionAwareWarning,
                stacklevel=4,
            )


def create_model(
    name: str,
    *,
    temporal: str | Maker,
    num_classes: int | None = None,
    num_frames: int = 8,
    pretrained: bool | str | Path = False,
    class_names: Sequence[str] | None = None,
    clip: ClipSpec | None = None,
    where: str | Sequence[str] | None = None,
    stages: int | Sequence[int] | None = None,
    every: int | None = None,
    dropout: float = 0.5,
    causal: bool = False,
) -> VideoRecognizer:
    """Build a recognizer: open a backbone, insert temporal modules and add a linear classifier.

    Args:
        name: Name of a torchvision or timm network, 2-D or 3-D; see `motionaware.models.backbones`.
        temporal: The temporal modules; see `motionaware.temporal`. Paths of own code are relative
            to the working folder.
        num_classes: Number of classes; optional if `class_names` is given.
        num_frames: Frames in a clip.
        pretrained: The initial weights. For a checkpoint that `save` wrote, or a run folder (its
            best.safetensors is used), all tensors that fit are taken, and `origin` of the model
            lists them; see `motionaware.models.transfer`. Other values give weights of the
            backbone; see `open_backbone`.
        class_names: Names of the classes; by default their numbers.
        clip: Size and sampling of clips, with the same `num_frames`; by default those of
            `ClipSpec`.
        where: Layers before which modules go; see `insert`.
        stages: Stages that get modules; see `insert`.
        every: Step from block to block; see `insert`.
        dropout: Fraction of the features that are dropped before the head in training.
        causal: Make the temporal modules use past frames only, so that a `Stream` can feed the
            model frame by frame; see `motionaware.models.streaming`.

    Raises:
        UsageError: A name is unknown, arguments contradict each other, or weights do not fit.
        OSError: Weights could not be read or downloaded.

    >>> import torch
    >>> model = create_model("resnet18_quarter", temporal="m2a", num_classes=5, num_frames=4)
    >>> model(torch.rand(2, 4, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    if class_names is None:
        if num_classes is None:
            raise UsageError(
                "give num_classes or class_names: the classifier needs the number of classes"
            )
        class_names = [str(number) for number in range(num_classes)]
    elif num_classes not in (None, len(class_names)):
        raise UsageError(
            f"{num_classes = } but class_names has {len(class_names)}; give one of them"
        )
    repeated = [name for name, times in Counter(class_names).items() if times > 1]
    if repeated:
        raise UsageError(
            f"class_names has {repeated[0]!r} more than once; give each class a different name"
        )
    if len(class_names) < 1:
        raise UsageError("class_names is empty; a classifier needs at least one class")
    if clip is not None and clip.num_frames != num_frames:
        raise UsageError(
            f"{num_frames = } but clip.num_frames is {clip.num_frames}; make them equal"
        )
    clip = clip or ClipSpec(num_frames=num_frames)
    if isinstance(temporal, str):
        temporal = find_own(temporal)  # the working folder may change before the model is saved
    choice = Choice.from_arguments(where, stages, every)
    checkpoint = find_checkpoint(pretrained)
    weights = False if checkpoint else pretrained
    backbone = open_backbone(name, pretrained=weights, image_size=clip.image_size)
    num_backbone_tensors = len(backbone.network.state_dict())
    insert(
        backbone.network,
        temporal,
        num_frames=num_frames,
        where=choice.where,
        stages=choice.stages,
        every=choice.every,
        image_size=clip.image_size,
        causal=causal,
    )
    model = VideoRecognizer(
        backbone,
        clip=clip,
        class_names=class_names,
        dropout=dropout,
        plan=Plan(
            backbone=name,
            temporal=temporal if isinstance(temporal, str) else None,
            where=choice.where,
            stages=choice.stages,
            every=choice.every,
            dropout=dropout,
            causal=causal,
        ),
    )
    if checkpoint:
        target = Target(
            tensors=model.state_dict(),
            network=model.backbone,
            backbone=name,
            temporal=temporal if isinstance(temporal, str) else None,
            clip=clip,
            class_names=model.class_names,
        )
        tensors, model.origin = take_weights(checkpoint, target)
        fill(model, tensors)
    elif not isinstance(pretrained, bool) and str(pretrained) != PACKAGE:
        model.origin = Origin(
            file=str(pretrained),
            checksum=file_checksum(Path(pretrained)),
            num_taken=num_backbone_tensors,
            num_tensors=len(model.state_dict()),
            notes=("the file holds only weights of the backbone; all other weights are new",),
        )
    return model
