"""Find the frame size and the number of frames for which a network was made."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from motionaware.errors import UsageError

ImageSize = int | tuple[int, int]  # side of a square frame, or height and width; in pixels

_DEFAULT_SIZE = 224, 224


def parse_image_size(size: object) -> tuple[int, int] | None:
    """Return height and width from the size that a user or a network gives; None if unreadable.

    >>> parse_image_size(224), parse_image_size([64, 256]), parse_image_size({"shortest_edge": 9})
    ((224, 224), (64, 256), (9, 9))

    Raises:
        UsageError: The height or the width is below 1.
    """
    match size:
        case None | bool():
            return None
        case int():
            h, w = size, size
        case {"height": int(h), "width": int(w)} | [int(h), int(w)] | [int(), int(h), int(w)]:
            pass
        case [int(h)] | {"shortest_edge": int(h)}:
            w = h
        case _:
            return None
    if h < 1 or w < 1:
        raise UsageError(f"image_size = {size}; wanted height and width in pixels, at least 1")
    return h, w


def native_image_size(network: nn.Module) -> tuple[int, int]:
    """Return height and width of the images a network was made for; 224 x 224 if it has no size.

    The size is read from `patch_embed.img_size` and `pretrained_cfg` (timm), `image_size`
    (torchvision) or `config` (transformers). If several layers have one, the first counts.

    >>> from torchvision.models import VisionTransformer
    >>> native_image_size(VisionTransformer(32, 16, 1, 1, 8, 8))
    (32, 32)
    """
    for name, module in network.named_modules():
        candidates = [
            getattr(getattr(module, "patch_embed", None), "img_size", None),
            getattr(module, "image_size", None),
            *_sizes_in_config(getattr(module, "config", None)),
        ]
        if "." not in name:  # the network itself, or one that it wraps
            candidates.append((getattr(module, "pretrained_cfg", None) or {}).get("input_size"))
        for candidate in candidates:
            size = parse_image_size(candidate)
            if size is not None:
                return size
    return _DEFAULT_SIZE


def native_num_frames(network: nn.Module) -> int | None:
    """Return the number of frames in the `config` of a network; None if it has none."""
    config = getattr(network, "config", None)
    numbers = (_config_value(config, key) for key in ("num_frames", "frames_per_clip"))
    return next((number for number in numbers if isinstance(number, int)), None)


def _sizes_in_config(config: object) -> Iterator[object]:
    """Yield the sizes in a config of transformers and in its `vision_config`."""
    for part in (config, _config_value(config, "vision_config")):
        for key in ("image_size", "crop_size", "img_size"):
            yield _config_value(part, key)


def _config_value(config: object, key: str) -> Any:
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)
