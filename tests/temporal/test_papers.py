"""Each paper's module equals its equations, written out frame by frame."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motionaware import insert
from motionaware.models.site_hooks import sites
from motionaware.ops.motion import shift_channels
from motionaware.temporal.action import Action
from motionaware.temporal.names import site_maker
from motionaware.temporal.official import OfficialPatchAttention
from motionaware.temporal.patch import PatchMotionAttention
from motionaware.temporal.table import TEMPORAL, Mechanism
from motionaware.temporal.tam import TemporalAdaptation
from motionaware.temporal.tdn import LongTermDifference, ShortTermStem
from motionaware.temporal.tea import MotionExcitation


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def with_random_norms(module: nn.Module) -> nn.Module:
    """Randomise all batch norms, so that the test fails if one is left out; in eval mode."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in part.state_dict().values():
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5)
    return module.eval()


def clips(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 4, 32, 6, 6)))


def test_tea_equals_its_equation():
    module = with_random_norms(MotionExcitation(channels=32))
    assert isinstance(module, MotionExcitation)
    x = clips()
    n = [module.squeeze(x[:, t]) for t in range(4)]
    assert n[0].shape[1] == 32 // 16
    y = []
    for t in range(4):
        motion = module.motion.align(n[t + 1]) - n[t] if t < 3 else torch.zeros_like(n[t])
        pooled = motion.mean(dim=(2, 3), keepdim=True)
        y.append(x[:, t] + x[:, t] * (module.expand(pooled).sigmoid() - 0.5))
    torch.testing.assert_close(module(x), torch.stack(y, dim=1))


@pytest.mark.parametrize("size", [6, 7])
def test_tdn_equals_its_equation_in_both_directions(size):
    module = with_random_norms(LongTermDifference(channels=32))
    assert isinstance(module, LongTermDifference)
    x = clips(2, 4, 32, size, size)
    parts = module.motion
    n = [module.squeeze(x[:, t]) for t in range(4)]

    def excite(d: Tensor) -> Tensor:
        small = parts.coarse(F.avg_pool2d(d, 2))
        coarse = F.interpolate(small, size=(size, size), mode="nearest")
        return parts.expand((d + coarse + parts.fine(d)) / 3).sigmoid() - 0.5

    y = []
    for t in range(4):
        zeros = torch.zeros_like(n[t])
        forward = parts.align(n[t + 1]) - n[t] if t < 3 else zeros
        backward = parts.align(n[t - 1]) - n[t] if t > 0 else zeros
        y.append(x[:, t] + x[:, t] * (excite(forward) + excite(backward)) / 2)
    torch.testing.assert_close(module(x), torch.stack(y, dim=1))


def test_the_short_term_stem_reads_two_frames_in_each_direction():
    module = with_random_norms(ShortTermStem(channels=3))
    x = clips(1, 8, 3, 8, 8)
    changed = x.clone()
    changed[:, 4] += 1
    differs = (module(changed) - module(x)).abs().amax(dim=(0, 2, 3, 4)) > 1e-6
    assert differs.tolist() == [False, False, True, True, True, True, True, False]


def test_the_short_term_stem_does_not_change_a_still_clip():
    module = ShortTermStem(channels=3).eval()
    x = clips(1, 1, 3, 8, 8).expand(1, 4, 3, 8, 8)
    torch.testing.assert_close(module(x), x)


def test_the_short_term_stem_can_be_inserted_after_the_long_term_modules():
    from torchvision.models import resnet18

    network = insert(resnet18(), "tdn", num_frames=2)
    insert(network, "tdn_stem", num_frames=2, where="conv1")
    assert sites(network)[:2] == ["conv1", "layer1.0.conv1"]
    assert network.eval()(torch.rand(4, 3, 32, 32)).shape == (4, 1000)


def test_tam_equals_its_equation():
    module = with_random_norms(TemporalAdaptation(channels=32, num_frames=4))
    assert isinstance(module, TemporalAdaptation)
    x = clips()
    y = torch.zeros_like(x)
    for b in range(2):
        pooled = x[b].mean(dim=(2, 3)).T  # c t
        importance = module.importance(pooled[None])[0].sigmoid()
        kernel = module.kernel(pooled).softmax(dim=-1)
        weighted = F.pad((x[b] * importance.T[:, :, None, None]), (0, 0, 0, 0, 0, 0, 1, 1))
        for t in range(4):
            for k in range(3):
                y[b, t] += weighted[t + k] * kernel[:, k, None, None]
    torch.testing.assert_close(module(x), y)


def test_patches_attend_over_time_and_then_to_each_other():
    x = clips(1, 3, 2, 4, 4)
    tokens = {
        (i, j): x[0, :, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in (0, 1) for j in (0, 1)
    }
    rows = {place: token.flatten(1) for place, token in tokens.items()}
    for place, row in rows.items():
        n = F.layer_norm(row, (8,))
        m = torch.cat([n[1:], torch.zeros(1, 8)]) - n
        rows[place] = row + (m @ m.T / 8**0.5).softmax(dim=-1) @ m
    y = torch.zeros_like(x)
    for t in range(3):
        positions = list(rows)
        row = torch.stack([rows[place][t] for place in positions])
        n = F.layer_norm(row, (8,))
        row = row + (n @ n.T / 8**0.5).softmax(dim=-1) @ n
        for (i, j), values in zip(positions, row, strict=True):
            y[0, t, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = values.reshape(2, 2, 2)
    torch.testing.assert_close(PatchMotionAttention(patch_size=2)(x), y)


def test_maps_that_patches_do_not_cover_are_padded_with_their_edge_and_cropped():
    x = clips(1, 3, 2, 5, 7)
    padded_x = torch.cat([x, x[..., -1:]], dim=-1)
    padded_x = torch.cat([padded_x] + [padded_x[..., -1:, :]] * 3, dim=-2)
    module = PatchMotionAttention()
    torch.testing.assert_close(module(x), module(padded_x)[..., :5, :7])


def test_patch_subtracts_frames_on_every_map_and_patch_official_only_on_maps_it_covers():
    """All but the last frame of a still clip have zero motion; neighbouring pixels differ."""
    for size, official_agrees in ((8, True), (7, False)):
        x = clips(1, 1, 2, size, size).expand(1, 4, 2, size, size)
        ours, theirs = PatchMotionAttention()(x), OfficialPatchAttention()(x)
        assert torch.allclose(ours[:, 0], ours[:, 2], atol=1e-5)
        assert torch.allclose(ours, theirs, atol=1e-4) == official_agrees


def test_patch_official_uses_single_pixels_if_patches_do_not_cover_the_height():
    x = clips(2, 3, 2, 3, 5)
    rows = x.permute(0, 1, 3, 4, 2).reshape(2, 45, 2)
    n = F.layer_norm(rows, (2,))
    m = torch.cat([n[:, 1:], torch.zeros(2, 1, 2)], dim=1) - n
    rows = rows + (m @ m.mT / 2**0.5).softmax(dim=-1) @ m
    y = rows.reshape(2, 3, 3, 5, 2).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(OfficialPatchAttention()(x), y)


def test_patch_official_refuses_a_width_that_patches_do_not_cover():
    with pytest.raises(ValueError, match="patch@official got maps of 8 x 6"):
        OfficialPatchAttention()(clips(1, 2, 2, 8, 6))


def test_the_shift_of_action_is_initialised_as_a_temporal_shift():
    module = Action(channels=32)
    x = clips()
    for part in (module.place_and_time, module.expand, module.channel[-1]):
        nn.init.zeros_(part.get_parameter("weight"))
    torch.testing.assert_close(module(x), 4.5 * shift_channels(x, num_channels=4))


def test_action_equals_its_equation():
    module = with_random_norms(Action(channels=32))
    assert isinstance(module, Action)
    x = clips()
    nn.init.normal_(module.shift)
    padded = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
    s = sum(padded[:, k : k + 4] * module.shift[None, None, :, k, None, None] for k in range(3))
    assert isinstance(s, Tensor)
    place_and_time = module.place_and_time(s.mean(dim=2)[:, None])[:, 0, :, None].sigmoid()
    pooled = s.mean(dim=(3, 4)).mT
    channel = module.channel(pooled).mT[..., None, None].sigmoid()
    n = [module.squeeze(s[:, t]) for t in range(4)]
    y = []
    for t in range(4):
        m = module.motion.align(n[t + 1]) - n[t] if t < 3 else torch.zeros_like(n[t])
        motion = module.expand(m.mean(dim=(2, 3), keepdim=True)).sigmoid()
        factors = [1 + place_and_time[:, t], 1 + channel[:, t], 1 + motion]
        y.append(sum(s[:, t] * one for one in factors))
    torch.testing.assert_close(module(x), torch.stack(y, dim=1))


def test_a_new_mechanism_needs_one_table_entry(monkeypatch):
    monkeypatch.setitem(TEMPORAL, "new", Mechanism(site=MotionExcitation))
    maker = site_maker("new(reduction=4), tsm")
    assert maker is not None
    assert isinstance(maker(channels=16, num_frames=2).get_submodule("0"), MotionExcitation)
