import inspect

import pytest
import torch
from torch import Tensor

from motionaware.clip import ClipSpec
from motionaware.data.transforms.crop_flip import (
    Box,
    center_box,
    crop_boxes,
    crop_for_testing,
    crop_for_training,
    cut,
    multi_scale_box,
    random_box,
    random_flip,
    random_resized_box,
)

CROPS = ("center", "random", "random_resized", "multi_scale")
SIZES = [(48, 64), (64, 48), (47, 33), (20, 20), (9, 31), (1, 1), (1, 40), (224, 3)]  # h, w


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def still(height: int, width: int, num_frames: int = 4) -> Tensor:
    """A clip whose frames are all the same picture of chance."""
    picture = torch.randint(256, (1, 3, height, width), generator=seeded(), dtype=torch.uint8)
    return picture.repeat(num_frames, 1, 1, 1)


def trained(clip: Tensor, seed: int = 0, *, flip: bool = True, **changes) -> Tensor:
    facts = {"spec": ClipSpec(image_size=24), "crop": "random_resized"}
    generator = seeded(seed)
    framed = crop_for_training(clip, generator=generator, **facts | changes)
    return random_flip(framed, generator=generator)[0] if flip else framed


def boxes(height: int, width: int, number: int = 200) -> list[Box]:
    generator = seeded()
    return [
        *(random_resized_box(height, width, generator=generator) for _ in range(number)),
        *(multi_scale_box(height, width, generator=generator) for _ in range(number)),
        *(random_box(height, width, crop_fraction=0.7, generator=generator) for _ in range(number)),
    ]


# ----------------------------------------------------------------------------- what is the same


@pytest.mark.parametrize("crop", CROPS)
def test_a_still_clip_stays_still(crop):
    for seed in range(20):
        framed = trained(still(48, 64), seed, crop=crop)
        assert (framed == framed[:1]).all()


@pytest.mark.parametrize("crop", CROPS)
def test_equal_seeds_frame_alike_and_others_do_not(crop):
    clip = still(48, 64)
    assert torch.equal(trained(clip, 3, crop=crop), trained(clip, 3, crop=crop))
    assert len({trained(clip, seed, crop=crop).numpy().tobytes() for seed in range(20)}) > 1


def test_the_global_generator_has_no_part():
    state = torch.get_rng_state()
    trained(still(48, 64))
    assert torch.equal(state, torch.get_rng_state())


def test_what_is_framed_is_left_as_it_was():
    clip = still(48, 64)
    before = clip.clone()
    trained(clip)
    crop_for_testing(clip, spec=ClipSpec(image_size=24))
    assert torch.equal(clip, before)


# ------------------------------------------------------------------------------ size and values


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_frame_is_brought_to_the_size_of_the_model_in_uint8(height, width, crop):
    for seed in range(5):
        framed = trained(still(height, width), seed, crop=crop)
        assert framed.shape == (4, 3, 24, 24)
        assert framed.dtype == torch.uint8
    framed = crop_for_testing(still(height, width), spec=ClipSpec(image_size=23))
    assert framed.shape == (4, 3, 23, 23)


@pytest.mark.parametrize("crop", CROPS)
def test_white_stays_white_and_black_black(crop):
    for value in (0, 255):
        clip = torch.full((2, 3, 31, 45), value, dtype=torch.uint8)
        assert (trained(clip, crop=crop) == value).all()


def test_a_part_of_the_size_wanted_is_cut_to_the_bit():
    clip = still(48, 64)
    framed = cut(clip, Box(top=10, left=20, height=24, width=24), image_size=24)
    assert torch.equal(framed, clip[..., 10:34, 20:44])


def test_an_empty_clip_stays_empty():
    framed = crop_for_testing(still(48, 64)[:0], spec=ClipSpec(image_size=24))
    assert framed.shape == (0, 3, 24, 24)


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


def test_testing_shows_the_centre_box():
    clip = still(40, 60)
    framed = crop_for_testing(clip, spec=ClipSpec(image_size=20, crop_fraction=0.5))
    assert torch.equal(framed, clip[..., 10:30, 20:40])
    centred = ClipSpec(image_size=20, crop_fraction=0.5)
    assert torch.equal(trained(clip, spec=centred, crop="center", flip=False), framed)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_box_lies_in_the_frame(height, width):
    for box in boxes(height, width):
        assert min(box.top, box.left) >= 0
        assert min(box.height, box.width) >= 1
        assert box.top + box.height <= height
        assert box.left + box.width <= width


def test_a_random_box_is_as_large_as_the_centre_box_and_reaches_every_place():
    generator = seeded()
    drawn = {random_box(6, 8, crop_fraction=0.7, generator=generator) for _ in range(500)}
    assert drawn == {Box(top, left, 4, 4) for top in range(3) for left in range(5)}


def test_a_random_resized_box_keeps_half_the_frame_or_more_and_is_no_strip():
    generator = seeded()
    drawn = [random_resized_box(400, 400, generator=generator) for _ in range(500)]
    shares = [box.height * box.width / 400**2 for box in drawn]
    stretches = [box.width / box.height for box in drawn]
    assert 0.43 < min(shares) < 0.55  # a stretched box may be clipped by the frame
    assert max(shares) > 0.9
    assert 0.74 < min(stretches) < 0.8
    assert 1.25 < max(stretches) < 1.35
    assert {box.top > 100 for box in drawn} == {box.left > 100 for box in drawn} == {True, False}


def test_a_multi_scale_box_has_few_sizes_and_thirteen_places():
    generator = seeded()
    drawn = [multi_scale_box(240, 320, generator=generator) for _ in range(3000)]
    sizes = {(box.height, box.width) for box in drawn}
    assert len(sizes) == 10  # of 4 x 4 those whose sides are at most one step apart
    assert {side for size in sizes for side in size} == {240, 210, 180, 158}
    smallest = {(box.top, box.left) for box in drawn if (box.height, box.width) == (180, 180)}
    assert len(smallest) == 13
    assert {(0, 0), (60, 140), (30, 70), (15, 35), (45, 105)} <= smallest


# ------------------------------------------------------------------------------------- mirroring


def test_every_second_clip_is_mirrored_whole():
    clip = still(24, 24)
    spec = ClipSpec(image_size=24, crop_fraction=1.0)
    framed = [trained(clip, seed, spec=spec, crop="center") for seed in range(200)]
    num_mirrored = sum(torch.equal(one, clip.flip(3)) for one in framed)
    assert sum(torch.equal(one, clip) for one in framed) == 200 - num_mirrored
    assert 70 < num_mirrored < 130


def test_no_clip_is_mirrored_unasked():
    clip = still(24, 24)
    spec = ClipSpec(image_size=24, crop_fraction=1.0)
    for seed in range(20):
        assert torch.equal(trained(clip, seed, spec=spec, crop="center", flip=False), clip)


def test_the_side_does_not_change_the_box():
    clip = still(48, 64)
    for seed in range(20):
        plain, either = trained(clip, seed, flip=False), trained(clip, seed, flip=True)
        assert torch.equal(either, plain) or torch.equal(either, plain.flip(3))


def test_an_unknown_crop_is_named_with_the_known_ones():
    unchecked = inspect.unwrap(crop_for_training)  # as users meet it, without the tests' checks
    words = "crop = 'middle' is unknown; choose 'center', 'random', 'random_resized', 'multi_scale'"
    with pytest.raises(ValueError, match=words):
        unchecked(still(24, 24), spec=ClipSpec(), crop="middle", generator=seeded())


# ------------------------------------------------------------------------------------ test views


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_three_crops_are_whole_squares_along_the_long_side(height, width):
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
