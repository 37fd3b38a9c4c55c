import pytest
import torch
from torch import Tensor

from motionaware.data.transforms.augment import augment_clip

OPTIONS = {
    "color_jitter": {"color_jitter": 0.4},
    "rand_augment": {"rand_augment": 2, "rand_magnitude": 9},
    "erase": {"erase": 1.0},
    "all": {"color_jitter": 0.4, "rand_augment": 2, "erase": 0.5},
}


def static_clip(num_frames: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    frame = torch.randint(256, (1, 3, 24, 32), generator=generator, dtype=torch.uint8)
    return frame.repeat(num_frames, 1, 1, 1)


def augmented(seed: int, **options) -> Tensor:
    return augment_clip(static_clip(), torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("name", OPTIONS)
def test_all_frames_get_the_same_change(name):
    for seed in range(20):
        clip = augmented(seed, **OPTIONS[name])
        assert (clip == clip[:1]).all()
        assert (clip.shape, clip.dtype) == (static_clip().shape, torch.uint8)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_change_depends_on_the_seed_only(name):
    torch.manual_seed(1)
    first = augmented(5, **OPTIONS[name])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(augmented(5, **OPTIONS[name]), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({augmented(seed, **OPTIONS[name]).numpy().tobytes() for seed in range(12)}) > 3


def test_without_options_the_clip_and_the_generator_stay_the_same():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    clip = static_clip()
    assert augment_clip(clip, generator) is clip
    assert torch.equal(generator.get_state(), state)
