import pytest
import torch
from torch import Tensor

from motionaware.data.transforms.augment import augment_clip
from motionaware.data.transforms.mixup import Mixing

KINDS = {
    "color_jitter": {"color_jitter": 0.4},
    "rand_augment": {"rand_augment": 2, "rand_magnitude": 9},
    "erase": {"erase": 1.0},
    "all": {"color_jitter": 0.4, "rand_augment": 2, "erase": 0.5},
}


def still(num_frames: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(256, (1, 3, 24, 32), generator=generator, dtype=torch.uint8)
    return picture.repeat(num_frames, 1, 1, 1)


def augmented(seed: int, clip: Tensor | None = None, **facts) -> Tensor:
    clip = still() if clip is None else clip
    return augment_clip(clip, torch.Generator().manual_seed(seed), **facts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_still_clip_stays_still(kind):
    for seed in range(20):
        clip = augmented(seed, **KINDS[kind])
        assert (clip == clip[:1]).all()
        assert (clip.shape, clip.dtype) == (still().shape, torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_follows_from_the_seed_alone(kind):
    torch.manual_seed(1)
    one = augmented(5, **KINDS[kind])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(augmented(5, **KINDS[kind]), one)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({augmented(seed, **KINDS[kind]).numpy().tobytes() for seed in range(12)}) > 3


def test_switched_off_nothing_changes_and_nothing_is_drawn():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    clip = still()
    assert augment_clip(clip, generator) is clip
    assert torch.equal(generator.get_state(), state)


# ------------------------------------------------------------------------------------------ mixing

LABELS = torch.tensor([0, 1, 2, 3])


def plain() -> Tensor:
    """Four clips, each of one grey: 0, 60, 120, 180."""
    greys = torch.tensor([0, 60, 120, 180], dtype=torch.uint8)
    return greys[:, None, None, None, None, None].expand(4, 1, 3, 3, 16, 16).contiguous()


def test_mixup_blends_clips_as_it_blends_labels():
    mixing = Mixing(num_classes=5, mixup_alpha=0.8)
    for seed in range(10):
        mixed, targets = mixing.mix(plain(), LABELS, seed=seed)
        grey = targets @ torch.tensor([0.0, 60.0, 120.0, 180.0, 0.0])
        assert (mixed.float() - grey[:, None, None, None, None, None]).abs().max() <= 0.51


def test_cutmix_puts_one_box_through_all_frames_and_counts_its_area():
    mixing = Mixing(num_classes=4, cutmix_alpha=1.0)
    for seed in range(10):
        mixed, targets = mixing.mix(plain(), LABELS, seed=seed)
        assert (mixed == mixed[:, :, :1]).all()
        own = (mixed == plain()).float().mean(dim=(1, 2, 3, 4, 5))
        torch.testing.assert_close(own, targets.diagonal())


@pytest.mark.parametrize("alphas", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_larger_share_is_the_clips_own_and_shares_sum_to_one(alphas):
    mixing = Mixing(num_classes=4, mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
    for seed in range(20):
        _, targets = mixing.mix(plain(), LABELS, seed=seed)
        assert (targets.diagonal() >= 0.5).all()
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))


def test_mixing_follows_from_the_seed():
    mixing = Mixing(num_classes=4, mixup_alpha=1.0, cutmix_alpha=1.0)
    one, other = (mixing.mix(plain(), LABELS, seed=7)[0] for _ in range(2))
    assert torch.equal(one, other)
    assert len({mixing.mix(plain(), LABELS, seed=i)[0].numpy().tobytes() for i in range(9)}) > 3


def test_mixing_leaves_what_it_was_given():
    views = plain()
    Mixing(num_classes=4, cutmix_alpha=1.0).mix(views, LABELS, seed=0)
    assert torch.equal(views, plain())


def test_a_clip_alone_in_its_batch_is_mixed_with_itself():
    mixing = Mixing(num_classes=4, mixup_alpha=1.0)
    mixed, targets = mixing.mix(plain()[1:2], LABELS[1:2], seed=0)
    assert torch.equal(mixed, plain()[1:2])
    assert targets.tolist() == [[0.0, 1.0, 0.0, 0.0]]
