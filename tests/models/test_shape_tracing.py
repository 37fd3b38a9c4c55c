import copy
import logging

import pytest
import torch
from torch import nn

from motionaware import insert
from motionaware.models.backbones import open_backbone
from motionaware.models.sites import Choice, find_hosts

T = 4


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return open_backbone(name).network.eval()


def test_tracing_changes_no_tensor_no_hook_and_no_random_state():
    network = small("test_mambaout").train()
    before = copy.deepcopy(network.state_dict())
    chance = torch.get_rng_state()
    find_hosts(network, Choice(), num_frames=T)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())
    for key, tensor in network.state_dict().items():
        assert type(tensor) is torch.Tensor and torch.equal(tensor, before[key])


def test_torch_logs_nothing_when_a_network_refuses_the_frame_size(caplog, capfd):
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    with pytest.raises(ValueError, match="does not take clips"):
        insert(small("deit_tiny_distilled_patch16_224"), "tsm", num_frames=T, image_size=64)
    with pytest.raises(ValueError, match="does not take clips"):  # shapes that do not fit
        insert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(7, 3)), "tsm", num_frames=T, where="1")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    assert not logger.disabled


def test_the_error_for_a_refused_frame_size_names_the_size():
    with pytest.raises(ValueError, match=r"does not take clips of 4 x 64 x 64: .* another image_s"):
        insert(small("deit_tiny_distilled_patch16_224"), "tsm", num_frames=T, image_size=64)
