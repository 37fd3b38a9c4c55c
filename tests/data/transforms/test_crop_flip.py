import inspect

import pytest
import torch
from torch import Tensor

from motionaware.clip import ClipSpec
from motionaware.data.transforms.crop_flip import (
    Box,
    center_box,
    crop_and_resize,
    crop_boxes,
    crop_for_testing,
    crop_for_training,
    multi_scale_box,
    random_box,
    random_flip,
    random_resized_box,
)

CROPS = ("center", "random", "random_resized", "multi_scale")
# Height and width.
SIZES = [(48, 64), (64, 48), (47, 33), (20, 20), (9, 31), (1, 1), (1, 40), (224, 3)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def static_clip(height: int, width: int, num_frames: int = 4) -> Tensor:
    """Return a clip that repeats one random frame."""
    frame = torch.randint(256, (1, 3, height, width), generator=seeded(), dtype=torch.uint8)
    return frame.repeat(num_frames, 1, 1, 1)


def training_clip(clip: Tensor, seed: int = 0, *, flip: bool = True, **options) -> Tensor:
    defaults = {"spec": ClipSpec(image_size=24), "crop": "random_resized"}
    generator = seeded(seed)
    cropped = crop_for_training(clip, generator=generator, **defaults | options)
    return random_flip(cropped, generator=generator)[0] if flip else cropped


def random_boxes(height: int, width: int, num: int = 200) -> list[Box]:
    generator = seeded()
    return [
        *(random_resized_box(height, width, generator=generator) for _ in range(num)),
        *(multi_scale_box(height, width, generator=generator) for _ in range(num)),
        *(random_box(height, width, crop_fraction=0.7, generator=generator) for _ in range(num)),
    ]


# ------------------------------------------------------------------------------ reproducibility


@pytest.mark.parametrize("crop", CROPS)
def test_all_frames_get_the_same_crop_and_flip(crop):
    for seed in range(20):
        cropped = training_clip(static_clip(48, 64), seed, crop=crop)
        assert (cropped == cropped[:1]).all()


@pytest.mark.parametrize("crop", CROPS)
def test_equal_seeds_give_equal_crops_and_other_seeds_do_not(crop):
    clip = static_clip(48, 64)
    assert torch.equal(training_clip(clip, 3, crop=crop), training_clip(clip, 3, crop=crop))
    assert len({training_clip(clip, seed, crop=crop).numpy().tobytes() for seed in range(20)}) > 1


def test_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    training_clip(static_clip(48, 64))
    assert torch.equal(state, torch.get_rng_state())


def test_cropping_does_not_modify_its_input():
    clip = static_clip(48, 64)
    before = clip.clone()
    training_clip(clip)
    crop_for_testing(clip, spec=ClipSpec(image_size=24))
    assert torch.equal(clip, before)


# ------------------------------------------------------------------------------ size and values


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frames_of_any_size_are_scaled_to_the_models_size_in_uint8(height, width, crop):
    for seed in range(5):
        cropped = training_clip(static_clip(height, width), seed, crop=crop)
        assert cropped.shape == (4, 3, 24, 24)
        assert cropped.dtype == torch.uint8
    cropped = crop_for_testing(static_clip(height, width), spec=ClipSpec(image_size=23))
    assert cropped.shape == (4, 3, 23, 23)


@pytest.mark.parametrize("crop", CROPS)
def test_white_stays_white_and_black_stays_black(crop):
    for value in (0, 255):
        clip = torch.full((2, 3, 31, 45), value, dtype=torch.uint8)
        assert (training_clip(clip, crop=crop) == value).all()


def test_a_box_of_the_models_size_is_cropped_without_resampling():
    clip = static_clip(48, 64)
    cropped = crop_and_resize(clip, Box(top=10, left=20, height=24, width=24), image_size=24)
    assert torch.equal(cropped, clip[..., 10:34, 20:44])


def test_an_empty_clip_stays_empty():
    cropped = crop_for_testing(static_clip(48, 64)[:0], spec=ClipSpec(image_size=24))
    assert cropped.shape == (0, 3, 24, 24)


# ------------------------------------------------------------------------------------- the boxes


@pytest.mark.parametrize(
    ("height", "width", "crop_fraction", "box"),
    [
        (240, 320, 0.875, Box(15, 55, 210, 210)),
        (320, 240, 0.875, Box(55, 15, 210, 210)),
        (224, 224, 1.0, Box(0, 0, 224, 224)),
        (7, 10, 1.0, Box(0, 1, 7, 7)),
        (9, 10, 0.5, Box(2, 3, 4, 4)),
        (1, 1, 0.1, Box(0, 0, 1, 1)),
    ],
)
def test_the_centre_box_is_a_square_in_the_middle(height, width, crop_fraction, box):
    assert center_box(height, width, crop_fraction=crop_fraction) == box


def test_test_clips_are_cropped_to_the_centre_box():
    clip = static_clip(40, 60)
    spec = ClipSpec(image_size=20, crop_fraction=0.5)
    cropped = crop_for_testing(clip, spec=spec)
    assert torch.equal(cropped, clip[..., 10:30, 20:40])
    assert torch.equal(training_clip(clip, spec=spec, crop="center", flip=False), cropped)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_box_is_inside_the_frame(height, width):
    for box in random_boxes(height, width):
        assert min(box.top, box.left) >= 0
        assert min(box.height, box.width) >= 1
        assert box.top + box.height <= height
        assert box.left + box.width <= width


def test_a_random_box_has_the_size_of_the_centre_box_and_can_be_at_any_position():
    generator = seeded()
    drawn = {random_box(6, 8, crop_fraction=0.7, generator=generator) for _ in range(500)}
    assert drawn == {Box(top, left, 4, 4) for top in range(3) for left in range(5)}


def test_a_random_resized_box_keeps_half_the_area_or_more_and_a_moderate_aspect_ratio():
    generator = seeded()
    drawn = [random_resized_box(400, 400, generator=generator) for _ in range(500)]
    areas = [box.height * box.width / 400**2 for box in drawn]
    ratios = [box.width / box.height for box in drawn]
    assert 0.43 < min(areas) < 0.55  # an elongated box may be clipped by the frame
    assert max(areas) > 0.9
    assert 0.74 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.35
    assert {box.top > 100 for box in drawn} == {box.left > 100 for box in drawn} == {True, False}


def test_a_multi_scale_box_has_ten_sizes_and_thirteen_positions():
    generator = seeded()
    drawn = [multi_scale_box(240, 320, generator=generator) for _ in range(3000)]
    sizes = {(box.height, box.width) for box in drawn}
    assert len(sizes) == 10  # of the 4 x 4 pairs of scales, those at most one step apart
    assert {side for size in sizes for side in size} == {240, 210, 180, 158}
    positions = {(box.top, box.left) for box in drawn if (box.height, box.width) == (180, 180)}
    assert len(positions) == 13
    assert {(0, 0), (60, 140), (30, 70), (15, 35), (45, 105)} <= positions


# ------------------------------------------------------------------------------------------ flips


def test_half_of_the_clips_are_flipped_with_all_their_frames():
    clip = static_clip(24, 24)
    spec = ClipSpec(image_size=24, crop_fraction=1.0)
    cropped = [training_clip(clip, seed, spec=spec, crop="center") for seed in range(200)]
    num_flipped = sum(torch.equal(found, clip.flip(3)) for found in cropped)
    assert sum(torch.equal(found, clip) for found in cropped) == 200 - num_flipped
    assert 70 < num_flipped < 130


def test_cropping_alone_does_not_flip():
    clip = static_clip(24, 24)
    spec = ClipSpec(image_size=24, crop_fraction=1.0)
    for seed in range(20):
        assert torch.equal(training_clip(clip, seed, spec=spec, crop="center", flip=False), clip)


def test_a_flip_does_not_change_the_box():
    clip = static_clip(48, 64)
    for seed in range(20):
        plain = training_clip(clip, seed, flip=False)
        flipped = training_clip(clip, seed, flip=True)
        assert torch.equal(flipped, plain) or torch.equal(flipped, plain.flip(3))


def test_an_unknown_crop_is_refused_with_the_known_ones():
    unchecked = inspect.unwrap(crop_for_training)  # without the type checks of the tests
    message = (
        "crop = 'middle' is unknown; choose 'center', 'random', 'random_resized', 'multi_scale'"
    )
    with pytest.raises(ValueError, match=message):
        unchecked(static_clip(24, 24), spec=ClipSpec(), crop="middle", generator=seeded())


# ------------------------------------------------------------------------------ boxes of test clips


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_three_crops_are_squares_along_the_long_side(height, width):
    found = crop_boxes(height, width, crop_fraction=0.5, num_crops=3)
    side = min(height, width)
    assert {(box.height, box.width) for box in found} == {(side, side)}
    assert (found[0].top, found[0].left) == (0, 0)
    assert (found[2].top + side, found[2].left + side) == (height, width)


def test_one_crop_is_the_centre():
    assert crop_boxes(48, 64, crop_fraction=0.5, num_crops=1) == [Box(12, 20, 24, 24)]


def test_two_crops_are_refused():
    with pytest.raises(ValueError, match=r"num_crops = 2; wanted 1 \(the centre\) or 3"):
        crop_boxes(48, 64, crop_fraction=0.5, num_crops=2)
