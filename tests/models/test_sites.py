import copy

import pytest
import timm
import torch
from torch import nn

from motionaware import insert
from motionaware.models.backbones import open_backbone
from motionaware.models.shape_tracing import takes_volumes
from motionaware.models.site_hooks import sites
from motionaware.models.sites import Choice, find_hosts

# name -> frame size, layout at the sites, first site, number of sites
NETWORKS = {
    "test_resnet": (64, "frames", "layer1.0.conv1", 4),
    "test_convnext": (64, "frames", "stages.0.blocks.0.conv_dw", 9),
    "test_efficientnet": (64, "frames", "blocks.1.0.conv_exp", 4),
    "test_nfnet": (64, "frames", "stages.0.0.conv1", 4),
    "test_mambaout": (64, "maps", "stages.0.blocks.0", 6),
    "test_vit": (160, "tokens", "blocks.0", 6),
    "test_vit4": (160, "tokens", "blocks.0", 9),
    "vgg11": (32, "frames", "features.3", 9),
    "densenet121": (32, "frames", "features.denseblock1.denselayer1.conv1", 58),
    "mobilevit_xxs": (64, "frames", "stages.0.0.conv1_1x1.conv", 10),
    "deit_tiny_distilled_patch16_224": (224, "tokens", "blocks.0", 12),
    "squeezenet1_1": (64, "frames", "features.3.squeeze", 8),
    "r3d_18": (32, "volumes", "layer1.0.conv1.0", 8),
    "i3d_resnet18": (32, "volumes", "layer1.0.conv1", 8),
    "swin3d_t": (32, "volumemaps", "features.0.0", 12),
}
T = 4


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return open_backbone(name).network.eval()


def batch(network: nn.Module, size: int, num_frames: int = T) -> torch.Tensor:
    if takes_volumes(network):
        return torch.rand(2, 3, num_frames, size, size)
    return torch.rand(2 * num_frames, 3, size, size)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_has_the_expected_default_hosts(name):
    size, layout, first, number = NETWORKS[name]
    hosts = find_hosts(small(name), Choice(), num_frames=T, image_size=size)
    assert (hosts[0].name, hosts[0].layout, len(hosts)) == (first, layout, number)


@pytest.mark.parametrize("temporal", ["m2a", "tsm"])
@pytest.mark.parametrize("name", ["test_convnext", "test_mambaout", "test_vit", "r3d_18"])
def test_a_network_of_each_layout_runs_gets_gradients_and_keeps_its_tensors(name, temporal):
    network, size = small(name), NETWORKS[name][0]
    before = copy.deepcopy(network.state_dict())
    inputs = batch(network, size)
    shape = network(inputs).shape
    insert(network, temporal, num_frames=T, image_size=size)
    after = network.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    output = network(inputs)
    assert output.shape == shape
    assert torch.equal(network(inputs), output)
    output.square().sum().backward()
    modules = [network.get_submodule(f"{site}.temporal") for site in sites(network)]
    assert all(p.grad is not None for module in modules for p in module.parameters())


@pytest.mark.parametrize("name", ["test_convnext", "test_mambaout", "test_vit", "swin3d_t"])
def test_identity_modules_leave_the_output_of_each_layout_unchanged(name):
    network, size = small(name), NETWORKS[name][0]
    inputs = batch(network, size)
    before = network(inputs)
    insert(network, lambda **_: nn.Identity(), num_frames=T, image_size=size)
    assert torch.equal(network(inputs), before)


def test_modules_are_made_for_the_number_of_frames_at_their_site():
    made = []

    def make(*, channels: int, num_frames: int) -> nn.Module:
        made.append((channels, num_frames))
        return nn.Identity()

    network = insert(small("r3d_18"), make, num_frames=8, image_size=32)
    assert made == [(64, 8)] * 3 + [(128, 4)] * 2 + [(256, 2)] * 2
    assert "layer4.1.conv1.0" not in sites(network)  # sees one frame


def test_an_error_is_raised_if_all_sites_receive_a_single_frame():
    with pytest.raises(ValueError, match="each of the 1 sites of VideoResNet receives one frame"):
        insert(small("r3d_18"), "tsm", num_frames=8, image_size=32, where="layer4.1.conv2.0")


def test_stages_and_every_select_among_the_sites_of_the_rule():
    network = timm.create_model("test_convnext", depths=(1, 2, 3, 1))
    insert(network, "tsm", num_frames=T, stages=(2, 3), every=2, image_size=64)
    blocks = ["stages.1.blocks.0", "stages.2.blocks.0", "stages.2.blocks.2"]
    assert sites(network) == [f"{block}.conv_dw" for block in blocks]


def test_every_overrides_the_step_of_deep_resnets():
    network = insert(small("resnet101"), "tsm", num_frames=8, stages=3, every=1)
    assert len(sites(network)) == 23


def test_only_the_outermost_of_nested_matching_layers_is_a_site():
    network = insert(small("test_vit"), "tsm", num_frames=T, where="blocks.[12]*")
    assert sites(network) == ["blocks.1", "blocks.2"]


def test_the_first_layer_of_a_sequence_is_its_host():
    network = insert(small("resnet18"), "tsm", num_frames=T, where="layer2", image_size=64)
    assert sites(network) == ["layer2.0"]


def test_a_second_insertion_at_other_sites_ignores_temporal_modules():
    network = insert(small("test_vit"), "m2a", num_frames=T, where="norm")
    insert(network, "m2a", num_frames=T, stages=1)
    assert sites(network) == [*(f"blocks.{number}" for number in range(6)), "norm"]


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "r3d_18"])
def test_a_second_insertion_by_the_default_rule_raises_an_error(name):
    network = insert(open_backbone(name).network, "m2a", num_frames=8, image_size=64)
    before = sites(network)
    with pytest.raises(ValueError, match=rf"has {len(before)} temporal modules already"):
        insert(network, "tsm", num_frames=8, image_size=64)
    assert sites(network) == before
