"""Mixing: two clips in one, and the shares of their classes.

    mixup    share * a + (1 - share) * b              share ~ Beta(alpha, alpha)
    cutmix   a, but one box through all frames is b   the box takes 1 - share of the area

Every clip of a batch meets the one that a permutation gives it; the share is one a batch, and the
larger part is the clip's own.

Source   mixup: Zhang et al., 2017, https://arxiv.org/abs/1710.09412
         cutmix: Yun et al., 2019, https://arxiv.org/abs/1905.04899
Changed  the larger share stays with the clip itself (a and b may change places, which is the same
         mixture), so that its label still names what most of it shows.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How clips of one batch are mixed. With both alphas above 0, a coin decides for each batch.

    Attributes:
        num_classes: Length of a target.
        mixup_alpha: Of the distribution of shares; 0 switches mixup off.
        cutmix_alpha: Likewise.
    """

    num_classes: int
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def mix(
        self, views: UInt8[Tensor, "b v t 3 h w"], labels: Int[Tensor, "b"], *, seed: int
    ) -> tuple[UInt8[Tensor, "b v t 3 h w"], Float[Tensor, "b k"]]:
        """Mix the clips of a batch; every draw follows from the seed."""
        chance = np.random.default_rng(seed)
        ways = [(_mixup, self.mixup_alpha), (_cutmix, self.cutmix_alpha)]
        ways = [way for way in ways if way[1] > 0]
        targets = F.one_hot(labels, self.num_classes).float()
        if not ways:
            return views, targets
        way, alpha = ways[chance.integers(len(ways))]
        share = float(chance.beta(alpha, alpha))
        others = torch.from_numpy(chance.permutation(len(labels)))
        mixed, share = way(views, views[others], max(share, 1 - share), chance)
        return mixed, share * targets + (1 - share) * targets[others]


def _mixup(
    views: UInt8[Tensor, "b v t 3 h w"],
    others: UInt8[Tensor, "b v t 3 h w"],
    share: float,
    chance: np.random.Generator,
) -> tuple[UInt8[Tensor, "b v t 3 h w"], float]:
    # One clip at a time: floats of a whole batch would take four times its memory.
    pairs = zip(views, others, strict=True)
    mixed = [torch.lerp(b.float(), a.float(), share).round().to(torch.uint8) for a, b in pairs]
    return torch.stack(mixed), share


def _cutmix(
    views: UInt8[Tensor, "b v t 3 h w"],
    others: UInt8[Tensor, "b v t 3 h w"],
    share: float,
    chance: np.random.Generator,
) -> tuple[UInt8[Tensor, "b v t 3 h w"], float]:
    """The box lies wholly inside, so only rounding parts its area from what was drawn."""
    height, width = views.shape[-2:]
    tall, wide = (int(size * math.sqrt(1 - share)) for size in (height, width))
    top, left = (int(chance.integers(room + 1)) for room in (height - tall, width - wide))
    mixed = views.clone()
    box = (..., slice(top, top + tall), slice(left, left + wide))
    mixed[box] = others[box]
    return mixed, 1 - tall * wide / (height * width)
