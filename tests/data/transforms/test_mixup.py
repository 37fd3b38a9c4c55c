import pytest
import torch
from torch import Tensor

from motionaware.data.transforms.mixup import Mixing

LABELS = torch.tensor([0, 1, 2, 3])


def grey_clips() -> Tensor:
    """Return four clips of one grey value each: 0, 60, 120, 180."""
    greys = torch.tensor([0, 60, 120, 180], dtype=torch.uint8)
    return greys[:, None, None, None, None, None].expand(4, 1, 3, 3, 16, 16).contiguous()


def test_mixup_blends_clips_and_labels_with_the_same_share():
    mixing = Mixing(num_classes=5, mixup_alpha=0.8)
    for seed in range(10):
        mixed, targets = mixing.mix(grey_clips(), LABELS, seed=seed)
        grey = targets @ torch.tensor([0.0, 60.0, 120.0, 180.0, 0.0])
        assert (mixed.float() - grey[:, None, None, None, None, None]).abs().max() <= 0.51


def test_cutmix_pastes_one_box_into_all_frames_and_its_area_is_the_share():
    mixing = Mixing(num_classes=4, cutmix_alpha=1.0)
    for seed in range(10):
        mixed, targets = mixing.mix(grey_clips(), LABELS, seed=seed)
        assert (mixed == mixed[:, :, :1]).all()
        remaining = (mixed == grey_clips()).float().mean(dim=(1, 2, 3, 4, 5))
        torch.testing.assert_close(remaining, targets.diagonal())


@pytest.mark.parametrize("alphas", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_clips_own_share_is_at_least_half_and_shares_sum_to_one(alphas):
    mixing = Mixing(num_classes=4, mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
    for seed in range(20):
        _, targets = mixing.mix(grey_clips(), LABELS, seed=seed)
        assert (targets.diagonal() >= 0.5).all()
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))


def test_mixing_depends_on_the_seed_only():
    mixing = Mixing(num_classes=4, mixup_alpha=1.0, cutmix_alpha=1.0)
    first, second = (mixing.mix(grey_clips(), LABELS, seed=7)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert (
        len({mixing.mix(grey_clips(), LABELS, seed=i)[0].numpy().tobytes() for i in range(9)}) > 3
    )


def test_mixing_does_not_modify_its_input():
    clips = grey_clips()
    Mixing(num_classes=4, cutmix_alpha=1.0).mix(clips, LABELS, seed=0)
    assert torch.equal(clips, grey_clips())


def test_the_only_clip_of_a_batch_is_mixed_with_itself():
    mixing = Mixing(num_classes=4, mixup_alpha=1.0)
    mixed, targets = mixing.mix(grey_clips()[1:2], LABELS[1:2], seed=0)
    assert torch.equal(mixed, grey_clips()[1:2])
    assert targets.tolist() == [[0.0, 1.0, 0.0, 0.0]]
