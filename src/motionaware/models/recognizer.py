"""VideoRecognizer: clips -> scores, the whole journey in one forward."""

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
from motionaware.models.backbones import PACKAGE, Backbone, open_backbone
from motionaware.models.checkpoint_file import Origin
from motionaware.models.insertion import insert
from motionaware.models.shape_tracing import takes_volumes
from motionaware.models.site_hooks import adapters, failed_inside
from motionaware.models.sites import Choice
from motionaware.models.transfer import Wanted, find_checkpoint, take_weights
from motionaware.models.weights import file_checksum, fill
from motionaware.ops.autograd_utils import is_traced, known_shape
from motionaware.ops.layout import fold_time, fold_volumes, unfold_vectors
from motionaware.temporal.memory_format import AnyMemoryFormat
from motionaware.temporal.own import find_own
from motionaware.temporal.table import Maker

_NORMALIZED = -0.9  # below what resampling undershoots; normalised pictures reach -1 or less
_TOO_LARGE_FOR_PIXELS = 16.0  # beyond what resampling overshoots, and noise in place of a picture


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How `create_model` built a model, so that `load` can build it again.

    Attributes:
        backbone: Name of the network.
        temporal: What was put in, with absolute paths of own modules; None where it was a callable,
            which `load` must be handed again.
        where, stages, every: Sites as they were asked for.
        dropout: Share of the features dropped before the classifier in training.
        causal: Whether the modules were asked to look backwards only.
    """

    backbone: str
    temporal: str | None
    where: tuple[str, ...] | None
    dropout: float
    stages: tuple[int, ...] | None = None
    every: int | None = None
    causal: bool = False


class VideoRecognizer(AnyMemoryFormat):
    """Scores a clip: normalise, run the backbone on every frame, average the frames' scores.

    A 3-D backbone takes the clip as a whole, and there is nothing to average.

    Args:
        backbone: Images or volumes -> features; its temporal modules, if any, were inserted for
            `clip.num_frames`.
        clip: What the model expects of a clip.
        class_names: One name a class, in the order of the scores.
        dropout: Share of the features dropped before the classifier in training.
        plan: How to build the model again; a model without one cannot be saved.

    Attributes:
        recipe: How the weights were trained, as plain values; travels with them.
        origin: Where the initial weights came from, if from a file; travels with the weights.
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
        nn.init.normal_(self.head.weight, std=0.001)  # all classes start alike (reference code)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, clips: Float[Tensor, "b t 3 h w"] | UInt8[Tensor, "b t 3 h w"]
    ) -> Float[Tensor, "b k"]:
        """Score clips; values are floats in [0, 1] or uint8 in [0, 255], RGB.

        Raises:
            ValueError: The layout or the number of frames is not the model's, floats are those of
                bytes, the backbone refuses a size that is not `clip.image_size`, or a temporal
                module changes a shape.
        """
        self._check(clips)
        if torch.compiler.is_compiling():
            # A graph of one backbone serves another of the same class unless something that was
            # looked at differs, and hooks are not looked at: so look at what they run.
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
            if size == (made_for, made_for) or failed_inside(error):
                raise
            raise UsageError(
                f"{type(self.backbone).__name__} does not take frames of {size[0]} x {size[1]} "
                f"pixels ({str(error).splitlines()[0]}); wanted {made_for} x {made_for}, as "
                "model.clip.image_size says"
            ) from error

    def _check(self, clips: Tensor) -> None:
        wanted = f"wanted b t 3 h w with t = {self.clip.num_frames}"
        shape = tuple(known_shape(clips))
        if clips.ndim != 5:
            raise UsageError(f"clips of shape {shape} have {clips.ndim} axes; {wanted}")
        if shape[2] != 3:
            swapped = "; swap axes 1 and 2, clips.transpose(1, 2)" if shape[1] == 3 else ""
            raise UsageError(f"clips of shape {shape} have {shape[2]} colours; {wanted}{swapped}")
        if shape[1] != self.clip.num_frames:
            raise UsageError(
                f"clips of shape {shape} have {shape[1]} frames; {wanted}: sample as many as "
                "model.clip.num_frames says"
            )
        if not (clips.dtype == torch.uint8 or clips.is_floating_point()):
            raise UsageError(f"clips are {clips.dtype}; wanted uint8, or floats in [0, 1]")
        if clips.dtype == torch.uint8 or clips.is_meta or is_traced() or not clips.numel():
            return
        smallest, largest = (bound.item() for bound in clips.detach().aminmax())
        if largest > _TOO_LARGE_FOR_PIXELS:
            raise UsageError(
                f"clips have floats up to {largest:g}; wanted floats in [0, 1]: divide by 255, or "
                "hand over uint8 as it is"
            )
        if smallest < _NORMALIZED:
            warnings.warn(
                f"clips have floats from {smallest:.2g} to {largest:.2g}; wanted floats in [0, 1]. "
                "If you normalised them, do not: the model subtracts its mean and divides by its "
                "standard deviation itself",
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
    """Open a backbone by name, put temporal modules into it and set a classifier on top.

    Args:
        name: A torchvision or timm network, 2-D or 3-D; see `motionaware.models.backbones`.
        temporal: What to put in; see `motionaware.temporal`. Paths of own modules begin at the
            working folder.
        num_classes: Number of classes; may be left out where `class_names` are given.
        num_frames: Frames a clip.
        pretrained: Where the weights come from. A checkpoint that `save` wrote, or a run folder,
            which stands for its best.safetensors: all that fits is taken, and `origin` of the
            model says what; see `motionaware.models.transfer`. Other values are weights of the
            backbone; see `open_backbone`.
        class_names: One name a class; numbers stand in where there are none.
        clip: The other facts about clips, with the same `num_frames`.
        where: Layers before which modules go; see `insert`.
        stages: Stages that get modules.
        every: Step from block to block.
        dropout: Share of the features dropped before the classifier in training.
        causal: Temporal modules look backwards only, so that the model can be fed frame by frame;
            see `motionaware.models.streaming`.

    Raises:
        ValueError: An unknown name, numbers that contradict each other, or weights that do not fit.
        OSError: Weights could not be read or downloaded.

    >>> import torch
    >>> model = create_model("resnet18_quarter", temporal="m2a", num_classes=5, num_frames=4)
    >>> model(torch.rand(2, 4, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    if class_names is None:
        if num_classes is None:
            raise UsageError("give num_classes or class_names: a classifier needs its classes")
        class_names = [str(number) for number in range(num_classes)]
    elif num_classes not in (None, len(class_names)):
        raise UsageError(
            f"{num_classes = } but class_names has {len(class_names)}; give one of them"
        )
    repeated = [name for name, times in Counter(class_names).items() if times > 1]
    if repeated:
        raise UsageError(
            f"class_names has {repeated[0]!r} more than once; each class needs its name"
        )
    if len(class_names) < 1:
        raise UsageError("a classifier needs at least one class; class_names is empty")
    if clip is not None and clip.num_frames != num_frames:
        raise UsageError(
            f"{num_frames = } but clip.num_frames is {clip.num_frames}; give both alike"
        )
    clip = clip or ClipSpec(num_frames=num_frames)
    if isinstance(temporal, str):
        temporal = find_own(temporal)  # the working folder may be another one when it is saved
    choice = Choice.read(where, stages, every)
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
        wanted = Wanted(
            tensors=model.state_dict(),
            network=model.backbone,
            backbone=name,
            temporal=temporal if isinstance(temporal, str) else None,
            clip=clip,
            class_names=model.class_names,
        )
        tensors, model.origin = take_weights(checkpoint, wanted)
        fill(model, tensors)
    elif not isinstance(pretrained, bool) and str(pretrained) != PACKAGE:
        model.origin = Origin(
            file=str(pretrained),
            checksum=file_checksum(Path(pretrained)),
            num_taken=num_backbone_tensors,
            num_tensors=len(model.state_dict()),
            notes=("the file holds weights of the backbone; all others are new",),
        )
    return model
