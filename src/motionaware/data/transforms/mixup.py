"""Mixup and CutMix for clips: blends two clips and their labels.

    mixup    share * a + (1 - share) * b              share ~ Beta(alpha, alpha)
    cutmix   a, with one box of b in all frames       area of the box: 1 - share of the frame

A random permutation pairs the clips of a batch. All clips of a batch have the same share.

Source   mixup: Zhang et al., 2017, https://arxiv.org/abs/1710.09412
         cutmix: Yun et al., 2019, https://arxiv.org/abs/1905.04899
Changed  the share of a is at least 1/2 (a and b change places otherwise, which gives the same
         mixture), so that its label names most of what the mixed clip shows.
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
    """Mixes the clips of a batch. If both alphas are above 0, each batch draws one of the methods.

    Attributes:
        num_classes: Number of classes; the length of a target.
        mixup_alpha: Parameter of the Beta distribution for mixup; 0 turns mixup off.
        cutmix_alpha: Parameter of the Beta distribution for CutMix; 0 turns CutMix off.
    """

    num_classes: int
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def mix(
        self, views: UInt8[Tensor, "b v t 3 h w"], labels: Int[Tensor, "b"], *, seed: int
    ) -> tuple[UInt8[Tensor, "b v t 3 h w"], Float[Tensor, "b k"]]:
        """Return the mixed clips of a batch and their soft targets; `seed` fixes all draws."""
        rng = np.random.default_rng(seed)
        methods = [(_mixup, self.mixup_alpha), (_cutmix, self.cutmix_alpha)]
        methods = [(method, alpha) for method, alpha in methods if alpha > 0]
        targets = F.one_hot(labels, self.num_classes).float()
        if not methods:
            return views, targets
        method, alpha = methods[rng.integers(len(methods))]
        share = float(rng.beta(alpha, alpha))
        partners = torch.from_numpy(rng.permutation(len(labels)))
        mixed, share = method(views, views[partners], max(share, 1 - share), rng)
        return mixed, share * targets + (1 - share) * targets[partners]


def _mixup(
    views: UInt8[Tensor, "b v t 3 h w"],
    partners: UInt8[Tensor, "b v t 3 h w"],
    share: float,
    rng: np.random.Generator,
) -> tuple[UInt8[Tensor, "b v t 3 h w"], float]:
    # One clip at a time: a batch of floats needs four times the memory.
    pairs = zip(views, partners, strict=True)
    mixed = [torch.lerp(b.float(), a.float(), share).round().to(torch.uint8) for a, b in pairs]
    return torch.stack(mixed), share


def _cutmix(
    views: UInt8[Tensor, "b v t 3 h w"],
    partners: UInt8[Tensor, "b v t 3 h w"],
    share: float,
    rng: np.random.Generator,
) -> tuple[UInt8[Tensor, "b v t 3 h w"], float]:
    """Paste a box of the partner; return the share of the area that remains, after rounding."""
    height, width = views.shape[-2:]
    box_height, box_width = (int(size * math.sqrt(1 - share)) for size in (height, width))
    top = int(rng.integers(height - box_height + 1))
    left = int(rng.integers(width - box_width + 1))
    mixed = views.clone()
    box = (..., slice(top, top + box_height), slice(left, left + box_width))
    mixed[box] = partners[box]
    return mixed, 1 - box_height * box_width / (height * width)
