import copy

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small, resnet18

from motionaware.models.inflate import inflate

NETWORKS = {
    "resnet18": resnet18,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3_small,
}


@pytest.mark.parametrize("num_frames", [1, 5, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_still_clip_gives_the_features_of_its_frame_in_the_2d_network(name, num_frames):
    torch.manual_seed(0)
    flat = NETWORKS[name]().double().eval()
    frames = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    clips = frames.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
    torch.testing.assert_close(inflate(flat)(clips), flat(frames))


def test_the_order_of_frames_changes_the_features():
    torch.manual_seed(0)
    deep = inflate(resnet18()).eval()
    with torch.no_grad():  # kernels that differ along time, as they do once trained
        deep.get_submodule("conv1").weight.mul_(torch.rand(7)[:, None, None])  # pyright: ignore
    clips = torch.rand(1, 3, 4, 32, 32)
    assert not torch.allclose(deep(clips), deep(clips.flip(2)))


def test_kernels_are_repeated_along_time_and_divided_by_their_depth():
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    weight, flat = conv.weight, nn.Sequential(conv)
    normal = inflate(flat).get_submodule("0")
    reference = inflate(flat, normalise=False).get_submodule("0")
    assert isinstance(normal, nn.Conv3d)
    assert isinstance(reference, nn.Conv3d)
    for depth in range(3):
        torch.testing.assert_close(normal.weight[:, :, depth], weight / 3)
        assert torch.equal(reference.weight[:, :, depth], weight)
    assert type(reference) is nn.Conv3d
    clips = torch.rand(1, 3, 8, 16, 16)
    assert normal(clips).shape == reference(clips).shape == (1, 4, 4, 8, 8)


def test_the_pooling_after_the_stem_keeps_all_frames():
    flat = nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1))
    assert inflate(flat)(torch.rand(1, 2, 8, 16, 16)).shape == (1, 2, 8, 8, 8)


def test_the_2d_network_is_unchanged():
    torch.manual_seed(0)
    flat = resnet18()
    before = copy.deepcopy(flat.state_dict())
    deep = inflate(flat)
    for tensor in deep.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[key]) for key, tensor in flat.state_dict().items())
    assert before.keys() == deep.state_dict().keys()


def test_the_error_for_a_layer_without_a_3d_counterpart_names_the_layer():
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.InstanceNorm2d(4)))
    with pytest.raises(ValueError, match="1.0 is a InstanceNorm2d, which cannot be inflated"):
        inflate(flat)
