"""Crops and flips clips (uint8); all frames of a clip get the same box and the same flip.

A crop is a box that is cut from the decoded frames and scaled to the model's image size in one
step, so that each pixel is resampled once.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as tvf

from motionaware.clip import ClipSpec
from motionaware.errors import UsageError

Crop = Literal["center", "random", "random_resized", "multi_scale"]

# Smallest area of a random_resized box, as a fraction of the frame; a smaller box misses motion.
_MIN_AREA = 0.5
_MAX_ASPECT_RATIO = 4 / 3  # of a random_resized box; the smallest is 3 / 4 (range of Inception)
_SCALES = (1, 0.875, 0.75, 0.66)  # sides of a multi_scale box, as fractions of the short side
# Positions of a multi_scale box, in quarters of the free space: corners, edge centres, between.
_POSITIONS = [(2 * i, 2 * j) for i in range(3) for j in range(3)] + [(1, 1), (1, 3), (3, 1), (3, 3)]


class Box(NamedTuple):
    """A rectangle in a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def center_box(height: int, width: int, *, crop_fraction: float) -> Box:
    """Return the centred square whose side is `crop_fraction` of the frame's short side.

    >>> center_box(240, 320, crop_fraction=0.875)
    Box(top=15, left=55, height=210, width=210)
    """
    side = max(1, round(min(height, width) * crop_fraction))
    return Box((height - side) // 2, (width - side) // 2, side, side)


def random_box(height: int, width: int, *, crop_fraction: float, generator: Generator) -> Box:
    """Return a square of the size of the centre box, at a random position."""
    _, _, side, _ = center_box(height, width, crop_fraction=crop_fraction)
    top = int(torch.randint(height - side + 1, (), generator=generator))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    return Box(top, left, side, side)


def random_resized_box(height: int, width: int, *, generator: Generator) -> Box:
    """Return a box of random area, aspect ratio and position.

    Source   Szegedy et al., 2015, https://arxiv.org/abs/1409.4842
    Changed  the area is at least half of the frame's
    """
    area_draw, ratio_draw, top_draw, left_draw = torch.rand(4, generator=generator).tolist()
    area = height * width * (_MIN_AREA + area_draw * (1 - _MIN_AREA))
    ratio = math.exp((2 * ratio_draw - 1) * math.log(_MAX_ASPECT_RATIO))
    box_height = min(height, max(1, round(math.sqrt(area / ratio))))
    box_width = min(width, max(1, round(math.sqrt(area * ratio))))
    top = int(top_draw * (height - box_height + 1))
    left = int(left_draw * (width - box_width + 1))
    return Box(top, left, box_height, box_width)


def multi_scale_box(height: int, width: int, *, generator: Generator) -> Box:
    """Return a box of one of ten almost square sizes, at one of thirteen positions.

    Source   Wang et al., Towards good practices for very deep two-stream ConvNets, 2015,
             https://arxiv.org/abs/1507.02159; the four positions between are from the TSM code
    """
    sizes = [
        (height_scale, width_scale)
        for i, height_scale in enumerate(_SCALES)
        for j, width_scale in enumerate(_SCALES)
        if abs(i - j) <= 1
    ]
    size = int(torch.randint(len(sizes), (), generator=generator))
    position = int(torch.randint(len(_POSITIONS), (), generator=generator))
    box_height, box_width = (max(1, int(min(height, width) * scale)) for scale in sizes[size])
    down, right = _POSITIONS[position]
    top, left = (height - box_height) * down // 4, (width - box_width) * right // 4
    return Box(top, left, box_height, box_width)


def crop_for_training(
    clip: UInt8[Tensor, "t 3 H W"], *, spec: ClipSpec, crop: Crop, generator: Generator
) -> UInt8[Tensor, "t 3 h w"]:
    """Crop all frames to one box, chosen by the method `crop`, and scale it to the model's size.

    Raises:
        UsageError: `crop` is unknown.
    """
    height, width = clip.shape[-2:]
    if crop == "random":
        box = random_box(height, width, crop_fraction=spec.crop_fraction, generator=generator)
    elif crop == "random_resized":
        box = random_resized_box(height, width, generator=generator)
    elif crop == "multi_scale":
        box = multi_scale_box(height, width, generator=generator)
    elif crop == "center":
        box = center_box(height, width, crop_fraction=spec.crop_fraction)
    else:
        raise UsageError(f"{crop = } is unknown; choose {', '.join(map(repr, get_args(Crop)))}")
    return crop_and_resize(clip, box, image_size=spec.image_size)


def random_flip(
    clip: UInt8[Tensor, "t 3 h w"], *, generator: Generator
) -> tuple[UInt8[Tensor, "t 3 h w"], bool]:
    """Flip a clip horizontally with probability 0.5; return it, and True if it was flipped."""
    flipped = bool(torch.rand((), generator=generator) < 0.5)
    return (tvf.horizontal_flip(clip) if flipped else clip), flipped


def crop_for_testing(clip: UInt8[Tensor, "t 3 H W"], *, spec: ClipSpec) -> UInt8[Tensor, "t 3 h w"]:
    """Crop all frames to the centre box and scale it to the model's size."""
    (box,) = crop_boxes(*clip.shape[-2:], crop_fraction=spec.crop_fraction, num_crops=1)
    return crop_and_resize(clip, box, image_size=spec.image_size)


def crop_boxes(height: int, width: int, *, crop_fraction: float, num_crops: int) -> list[Box]:
    """Return the boxes of a test video: its centre box, or three squares along its long side.

    The side of the three squares is the short side of the frame, for any `crop_fraction`. Together
    they cover a frame whose long side is up to three times its short side.

    Raises:
        UsageError: `num_crops` is neither 1 nor 3.

    >>> [box.left for box in crop_boxes(240, 320, crop_fraction=0.875, num_crops=3)]
    [0, 40, 80]
    """
    if num_crops == 1:
        return [center_box(height, width, crop_fraction=crop_fraction)]
    if num_crops != 3:
        raise UsageError(f"{num_crops = }; wanted 1 (the centre) or 3 (along the long side)")
    side = min(height, width)
    return [
        Box((height - side) * step // 2, (width - side) * step // 2, side, side)
        for step in range(3)
    ]


def crop_and_resize(
    clip: UInt8[Tensor, "t 3 H W"], box: Box, *, image_size: int
) -> UInt8[Tensor, "t 3 h w"]:
    """Crop all frames to a box, scaled to `image_size` x `image_size` (bilinear, antialiased)."""
    return tvf.resized_crop(clip, *box, size=[image_size, image_size], antialias=True)
