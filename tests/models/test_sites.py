import copy
import logging

import pytest
import timm
import torch
from torch import nn

from motionaware import insert
from motionaware.models.backbones import open_backbone
from motionaware.models.insertion import ADAPTERS
from motionaware.models.shape_tracing import Host, takes_volumes
from motionaware.models.site_hooks import sites
from motionaware.models.sites import Choice, find_hosts

# name -> height and width of a frame, layout of its sites, the first of them, their number
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
def test_the_rule_finds_the_blocks(name):
    size, layout, first, number = NETWORKS[name]
    hosts = find_hosts(small(name), Choice(), num_frames=T, image_size=size)
    assert (hosts[0].name, hosts[0].layout, len(hosts)) == (first, layout, number)


@pytest.mark.parametrize("temporal", ["m2a", "tsm"])
@pytest.mark.parametrize("name", ["test_convnext", "test_mambaout", "test_vit", "r3d_18"])
def test_a_network_of_each_layout_runs_learns_and_keeps_its_tensors(name, temporal):
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
def test_modules_that_change_nothing_change_nothing(name):
    network, size = small(name), NETWORKS[name][0]
    inputs = batch(network, size)
    before = network(inputs)
    insert(network, lambda **_: nn.Identity(), num_frames=T, image_size=size)
    assert torch.equal(network(inputs), before)


@pytest.mark.parametrize("layout", ["frames", "maps", "tokens", "volumes", "volumemaps"])
def test_an_adapter_shows_its_module_clips_and_its_host_the_layout(layout):
    b, c, h = 2, 5, 3
    clips = torch.arange(b * T * c * h * h).unflatten(0, (b, T, c, h, h)).float()
    seen = []

    class Add(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(clips)
            return clips + 1

    host = nn.Identity()
    host.add_module("temporal", Add())
    given = {
        "frames": clips.flatten(0, 1),
        "maps": clips.flatten(0, 1).movedim(1, -1),
        "tokens": clips.flatten(0, 1).flatten(2).movedim(1, -1),
        "volumes": clips.movedim(2, 1),
        "volumemaps": clips.movedim(2, -1),
    }[layout]
    host.register_forward_pre_hook(ADAPTERS[layout](Host("", layout, c, T)))
    assert torch.equal(host(given), given + 1)
    assert torch.equal(seen[0], clips)


def test_class_and_register_tokens_pass_untouched():
    host = nn.Identity()
    host.add_module("temporal", nn.ReLU())
    host.register_forward_pre_hook(ADAPTERS["tokens"](Host("", "tokens", 8, T, num_prefix=2)))
    tokens = -torch.rand(T, 2 + 9, 8)
    assert torch.equal(host(tokens)[:, :2], tokens[:, :2])
    assert host(tokens)[:, 2:].abs().sum() == 0


def test_tokens_of_a_volume_are_laid_out_as_their_grid_says():
    seen = []

    class Look(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(clips)
            return clips * 2

    class Block(nn.Module):
        def forward(self, tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
            return tokens

    host = Block()
    host.add_module("temporal", Look())
    host.register_forward_pre_hook(ADAPTERS["volumetokens"](Host("", "volumetokens", 8, 2, 1)))
    tokens = torch.rand(3, 1 + 2 * 4 * 5, 8)
    output = host(tokens, (2, 4, 5))
    assert torch.equal(seen[0], tokens[:, 1:].unflatten(1, (2, 4, 5)).movedim(-1, 2))
    assert torch.equal(output, torch.cat([tokens[:, :1], 2 * tokens[:, 1:]], dim=1))


def test_the_modules_of_a_vision_transformer_see_its_patches_as_a_picture():
    seen = []

    class Look(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(clips.shape))
            return clips

    network = insert(small("test_vit"), lambda **_: Look(), num_frames=T, where="blocks.1")
    network(torch.rand(2 * T, 3, 160, 160))
    assert seen == [(2, T, 64, 10, 10)]


def test_where_time_shrinks_modules_are_made_for_the_frames_they_see():
    made = []

    def make(*, channels: int, num_frames: int) -> nn.Module:
        made.append((channels, num_frames))
        return nn.Identity()

    network = insert(small("r3d_18"), make, num_frames=8, image_size=32)
    assert made == [(64, 8)] * 3 + [(128, 4)] * 2 + [(256, 2)] * 2
    assert "layer4.1.conv1.0" not in sites(network)  # sees one frame


def test_a_network_whose_sites_all_see_one_frame_is_refused():
    with pytest.raises(ValueError, match="each of the 1 sites of VideoResNet sees one frame of 8"):
        insert(small("r3d_18"), "tsm", num_frames=8, image_size=32, where="layer4.1.conv2.0")


def test_stages_and_every_thin_out_the_rule():
    network = timm.create_model("test_convnext", depths=(1, 2, 3, 1))
    insert(network, "tsm", num_frames=T, stages=(2, 3), every=2, image_size=64)
    blocks = ["stages.1.blocks.0", "stages.2.blocks.0", "stages.2.blocks.2"]
    assert sites(network) == [f"{block}.conv_dw" for block in blocks]


def test_every_replaces_the_step_of_deep_resnets():
    network = insert(small("resnet101"), "tsm", num_frames=8, stages=3, every=1)
    assert len(sites(network)) == 23


def test_of_layers_inside_one_another_the_outermost_is_taken():
    network = insert(small("test_vit"), "tsm", num_frames=T, where="blocks.[12]*")
    assert sites(network) == ["blocks.1", "blocks.2"]


def test_a_sequence_hands_its_place_to_its_first_member():
    network = insert(small("resnet18"), "tsm", num_frames=T, where="layer2", image_size=64)
    assert sites(network) == ["layer2.0"]


def test_a_second_insertion_elsewhere_goes_by_the_networks_own_layers():
    network = insert(small("test_vit"), "m2a", num_frames=T, where="norm")
    insert(network, "m2a", num_frames=T, stages=1)
    assert sites(network) == [*(f"blocks.{number}" for number in range(6)), "norm"]


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "r3d_18"])
def test_the_rule_does_not_choose_other_layers_the_second_time(name):
    network = insert(open_backbone(name).network, "m2a", num_frames=8, image_size=64)
    before = sites(network)
    with pytest.raises(ValueError, match=rf"has {len(before)} temporal modules already"):
        insert(network, "tsm", num_frames=8, image_size=64)
    assert sites(network) == before


def test_watching_touches_no_tensor_no_hook_and_no_chance():
    network = small("test_mambaout").train()
    before = copy.deepcopy(network.state_dict())
    chance = torch.get_rng_state()
    find_hosts(network, Choice(), num_frames=T)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())
    for key, tensor in network.state_dict().items():
        assert type(tensor) is torch.Tensor and torch.equal(tensor, before[key])


def test_a_refused_size_is_said_by_us_alone(caplog, capfd):
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    with pytest.raises(ValueError, match="does not take clips"):
        insert(small("deit_tiny_distilled_patch16_224"), "tsm", num_frames=T, image_size=64)
    with pytest.raises(ValueError, match="does not take clips"):  # shapes that do not fit
        insert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(7, 3)), "tsm", num_frames=T, where="1")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    assert not logger.disabled


def test_images_that_a_network_does_not_take_are_said():
    with pytest.raises(ValueError, match=r"does not take clips of 4 x 64 x 64: .* another image_s"):
        insert(small("deit_tiny_distilled_patch16_224"), "tsm", num_frames=T, image_size=64)
