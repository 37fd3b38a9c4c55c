"""Frame a clip: choose a box and a side, once a clip, the same for all its frames; work on uint8.

Every way of framing is a box cut from the decoded frames and scaled to the model's size, so that a
pixel is resampled once and only the pixels that are kept are touched.
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

_MIN_AREA = 0.5  # of a random_resized box, as a share of the frame; below, small motions leave it
_MAX_STRETCH = 4 / 3  # of a random_resized box, width over height either way (Inception's range)
_SCALES = (1, 0.875, 0.75, 0.66)  # of the sides of a multi_scale box, as shares of the short side
# Where a multi_scale box lies, in quarters of the room that it leaves: corners, sides, between.
_PLACES = [(2 * i, 2 * j) for i in range(3) for j in range(3)] + [(1, 1), (1, 3), (3, 1), (3, 3)]


class Box(NamedTuple):
    """A part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def center_box(height: int, width: int, *, crop_fraction: float) -> Box:
    """The square in the middle whose side is `crop_fraction` of the frame's short side.

    >>> center_box(240, 320, crop_fraction=0.875)
    Box(top=15, left=55, height=210, width=210)
    """
    side = max(1, round(min(height, width) * crop_fraction))
    return Box((height - side) // 2, (width - side) // 2, side, side)


def random_box(height: int, width: int, *, crop_fraction: float, generator: Generator) -> Box:
    """A square as large as the centre box, anywhere in the frame."""
    _, _, side, _ = center_box(height, width, crop_fraction=crop_fraction)
    top = int(torch.randint(height - side + 1, (), generator=generator))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    return Box(top, left, side, side)


def random_resized_box(height: int, width: int, *, generator: Generator) -> Box:
    """A box of random area and stretch, anywhere in the frame.

    Source: Szegedy et al., 2015, https://arxiv.org/abs/1409.4842, with a larger least area.
    """
    share, stretch, down, right = torch.rand(4, generator=generator).tolist()
    area = height * width * (_MIN_AREA + share * (1 - _MIN_AREA))
    ratio = math.exp((2 * stretch - 1) * math.log(_MAX_STRETCH))
    box_height = min(height, max(1, round(math.sqrt(area / ratio))))
    box_width = min(width, max(1, round(math.sqrt(area * ratio))))
    top, left = int(down * (height - box_height + 1)), int(right * (width - box_width + 1))
    return Box(top, left, box_height, box_width)


def multi_scale_box(height: int, width: int, *, generator: Generator) -> Box:
    """A box of one of few sizes, almost square, in one of thirteen places.

    Source: Wang et al., Towards good practices for very deep two-stream ConvNets, 2015,
    https://arxiv.org/abs/1507.02159; the places between are those of the TSM authors' code.
    """
    sizes = [
        (tall, wide)
        for i, tall in enumerate(_SCALES)
        for j, wide in enumerate(_SCALES)
        if abs(i - j) <= 1
    ]
    size = int(torch.randint(len(sizes), (), generator=generator))
    place = int(torch.randint(len(_PLACES), (), generator=generator))
    tall, wide = (max(1, int(min(height, width) * share)) for share in sizes[size])
    down, right = _PLACES[place]
    return Box((height - tall) * down // 4, (width - wide) * right // 4, tall, wide)


def frame_for_training(
    clip: UInt8[Tensor, "t 3 H W"], *, spec: ClipSpec, crop: Crop, generator: Generator
) -> UInt8[Tensor, "t 3 h w"]:
    """Cut one box, drawn as `crop` says, from all frames.

    Raises:
        ValueError: `crop` is unknown.
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
    return cut(clip, box, image_size=spec.image_size)


def mirror_some(
    clip: UInt8[Tensor, "t 3 h w"], *, generator: Generator
) -> tuple[UInt8[Tensor, "t 3 h w"], bool]:
    """Mirror every second clip, all its frames; and say whether this is one."""
    mirrored = bool(torch.rand((), generator=generator) < 0.5)
    return (tvf.horizontal_flip(clip) if mirrored else clip), mirrored


def frame_for_testing(
    clip: UInt8[Tensor, "t 3 H W"], *, spec: ClipSpec
) -> UInt8[Tensor, "t 3 h w"]:
    """Cut the centre box from all frames."""
    (box,) = view_boxes(*clip.shape[-2:], crop_fraction=spec.crop_fraction, num_crops=1)
    return cut(clip, box, image_size=spec.image_size)


def view_boxes(height: int, width: int, *, crop_fraction: float, num_crops: int) -> list[Box]:
    """Where a test video is looked at: its centre box, or three squares along its long side.

    The three are as large as the short side, whatever `crop_fraction` is: together they see all of
    a frame of up to three times its short side.

    Raises:
        ValueError: `num_crops` is neither 1 nor 3.

    >>> [box.left for box in view_boxes(240, 320, crop_fraction=0.875, num_crops=3)]
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


def cut(clip: UInt8[Tensor, "t 3 H W"], box: Box, *, image_size: int) -> UInt8[Tensor, "t 3 h w"]:
    """Cut a box from all frames, scaled to `image_size` pixels each way (bilinear, smoothed)."""
    return tvf.resized_crop(clip, *box, size=[image_size, image_size], antialias=True)
