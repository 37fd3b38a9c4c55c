"""What is done to a framed training clip: colours, RandAugment, erasing; on uint8.

One draw a clip, the same for all its frames: what moves is only what moved before. No operation
here turns left into right; mirroring knows the labels and is done before, see labels.py.

Source  RandAugment: Cubuk et al., 2019, https://arxiv.org/abs/1909.13719, torchvision's
        erasing: Zhong et al., 2017, https://arxiv.org/abs/1708.04896, torchvision's
"""

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor
from torchvision.transforms import v2

_HUE = 0.25  # how far hue turns, in turns, as a share of how far the other colours change


Augment = Callable[[Tensor, Generator], Tensor]
"""Changes all frames of a clip alike; `augment_clip` with its facts filled in, for example."""


def augment_clip(
    clip: UInt8[Tensor, "t 3 h w"],
    generator: Generator,
    *,
    color_jitter: float = 0.0,
    rand_augment: int = 0,
    rand_magnitude: int = 9,
    erase: float = 0.0,
) -> UInt8[Tensor, "t 3 h w"]:
    """Change all frames of a clip alike; what is 0 is left out.

    Args:
        clip: After framing and mirroring.
        generator: Of all that is drawn.
        color_jitter: Largest relative change of brightness, contrast and saturation, in [0, 1].
        rand_augment: How many of RandAugment's operations are applied, one after the other.
        rand_magnitude: How strong each of these is, from 0 to 30.
        erase: Probability that a box is painted black.
    """
    changes: list[v2.Transform] = []
    if color_jitter:
        three = (color_jitter,) * 3
        changes.append(v2.ColorJitter(*three, hue=min(0.5, color_jitter * _HUE)))
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
