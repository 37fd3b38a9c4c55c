"""Augments a cropped training clip (uint8): colour jitter, RandAugment, random erasing.

All frames of a clip get the same change, so that augmentation adds no motion. No operation here
exchanges left and right: horizontal flips may change the label, and happen before; see
flip_labels.py.

Source  RandAugment: Cubuk et al., 2019, https://arxiv.org/abs/1909.13719, torchvision's
        random erasing: Zhong et al., 2017, https://arxiv.org/abs/1708.04896, torchvision's
"""

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor
from torchvision.transforms import v2

_HUE_FRACTION = 0.25  # largest change of hue, as a fraction of color_jitter


Augment = Callable[[Tensor, Generator], Tensor]
"""Changes all frames of a clip in the same way, for example `augment_clip` with its options set."""


def augment_clip(
    clip: UInt8[Tensor, "t 3 h w"],
    generator: Generator,
    *,
    color_jitter: float = 0.0,
    rand_augment: int = 0,
    rand_magnitude: int = 9,
    erase: float = 0.0,
) -> UInt8[Tensor, "t 3 h w"]:
    """Return a clip with the same random change of all its frames; options that are 0 do nothing.

    Args:
        clip: A cropped and flipped clip.
        generator: Generator of the random draws.
        color_jitter: Largest relative change of brightness, contrast and saturation, in [0, 1].
        rand_augment: Number of RandAugment operations, applied one after the other.
        rand_magnitude: Magnitude of each operation, from 0 to 30.
        erase: Probability that a box is set to black.
    """
    changes: list[v2.Transform] = []
    if color_jitter:
        hue = min(0.5, color_jitter * _HUE_FRACTION)
        changes.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter, hue=hue))
    if rand_augment:
        changes.append(v2.RandAugment(num_ops=rand_augment, magnitude=rand_magnitude))
    if erase:
        changes.append(v2.RandomErasing(p=erase))
    if not changes:
        return clip
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(seed)
        return v2.Compose(changes)(clip)
