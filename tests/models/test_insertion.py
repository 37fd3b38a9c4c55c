import copy
import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50, resnet101

from motionaware import insert
from motionaware.models.site_hooks import sites

NETWORKS = {"resnet18": resnet18, "resnet50": resnet50, "mobilenet_v2": mobilenet_v2}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return resnet18()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("temporal", ["m2a", "tsm", "m2a,tsm"])
def test_every_tensor_of_the_backbone_stays_bit_for_bit(name, temporal):
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    before = copy.deepcopy(plain.state_dict())
    after = insert(plain, temporal, num_frames=8).state_dict()
    assert before.keys() <= after.keys()
    for key, tensor in before.items():
        assert torch.equal(after[key], tensor), key


def test_nothing_runs_while_inserting(network):
    def refuse(*_: object) -> None:
        raise AssertionError("the network ran")

    for module in network.modules():
        module.register_forward_pre_hook(refuse)
    insert(network, "m2a", num_frames=8)


def test_weights_of_the_plain_network_load_after_insertion(network):
    weights = copy.deepcopy(network.state_dict())
    insert(network, "m2a", num_frames=8)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(".temporal." in name for name in missing)


def test_none_leaves_the_network_as_it_is(network):
    before = repr(network)
    assert repr(insert(network, "none", num_frames=8)) == before
    assert sites(network) == []


def test_modules_go_before_the_first_convolution_of_every_block(network):
    insert(network, "m2a", num_frames=8)
    blocks = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert sites(network) == blocks


def test_from_23_blocks_in_the_third_stage_on_every_second_block_has_one():
    found = sites(insert(resnet101(), "tsm", num_frames=8))
    stages = {stage: [s for s in found if s.startswith(stage)] for stage in ("layer1", "layer3")}
    assert stages["layer1"] == ["layer1.0.conv1", "layer1.2.conv1"]
    assert len(stages["layer3"]) == 12
    assert stages["layer3"][-1] == "layer3.22.conv1"


def test_in_mobilenet_blocks_with_expansion_and_skip_have_one():
    network = insert(mobilenet_v2(), "m2a", num_frames=8)
    numbers = [int(name.split(".")[1]) for name in sites(network)]
    assert numbers == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]


def test_a_site_sees_the_clip_as_clips(network):
    seen = []

    class Look(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(clips.shape))
            return clips

    insert(network, lambda *, channels, num_frames: Look(), num_frames=4, where="layer2.0.conv1")
    network.eval()(torch.rand(8, 3, 64, 64))
    assert seen == [(2, 4, 64, 16, 16)]


def test_a_module_that_changes_nothing_changes_nothing(network):
    network.eval()
    images = torch.rand(4, 3, 32, 32)
    before = network(images)
    insert(network, lambda *, channels, num_frames: nn.Identity(), num_frames=2)
    assert torch.equal(network(images), before)


def test_a_copy_has_modules_of_its_own(network):
    insert(network, "m2a", num_frames=2)
    twin = copy.deepcopy(network)
    gate = twin.get_submodule("layer1.0.conv1.temporal")
    assert gate is not network.get_submodule("layer1.0.conv1.temporal")
    for parameter in gate.parameters():
        nn.init.constant_(parameter, 3.0)
    images = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(twin.eval()(images), network.eval()(images))


def test_it_compiles_without_a_break_in_the_graph():
    # In a process of its own: the type checks that the tests put on every call would break it.
    script = """
import torch
from torchvision.models import resnet18
from motionaware import insert
network = insert(resnet18(), "m2a,tsm", num_frames=2).eval()
images = torch.rand(4, 3, 32, 32)
compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(images), network(images))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_it_exports(network):
    insert(network, "m2a,tsm", num_frames=2).eval()
    images = torch.rand(4, 3, 32, 32)
    program = torch.export.export(network, (images,))
    torch.testing.assert_close(program.module()(images), network(images))


def test_gradients_reach_every_parameter(network):
    insert(network, "m2a", num_frames=2)
    network(torch.rand(4, 3, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_images_that_make_no_whole_clips_are_refused(network):
    insert(network, "m2a", num_frames=8)
    with pytest.raises(ValueError, match="12 images do not make whole clips of 8 frames"):
        network(torch.rand(12, 3, 32, 32))


def test_patterns_choose_sites(network):
    insert(network, "tsm", num_frames=8, where=["layer3.*.conv1", "layer4.0.conv2"])
    assert sites(network) == ["layer3.0.conv1", "layer3.1.conv1", "layer4.0.conv2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"where": "layer9.*"},
            "where='layer9.*' matches no module of ResNet; its children are co",
        ),
        ({"where": "fc"}, "site fc (Linear) takes (88, 512); wanted one clip-like tensor"),
        ({"where": "layer4", "every": 2}, "where = 'layer4' names the sites; stages = None and"),
        ({"stages": (2, 5)}, "stages=(2, 5), but the blocks have 4 parents: layer1, layer2"),
        ({"every": 0}, "every = 0; it steps from block to block"),
        ({"num_frames": 0}, "num_frames = 0; it counts the frames"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_the_network_alone(network, options, words):
    before = repr(network)
    with pytest.raises(ValueError) as error:
        insert(network, "m2a", **{"num_frames": 8, **options})
    assert words in str(error.value)
    assert repr(network) == before


def test_a_second_insertion_at_a_site_is_refused(network):
    insert(network, "tsm", num_frames=8)
    with pytest.raises(ValueError, match="layer1.0.conv1 has a temporal module already"):
        insert(network, "m2a", num_frames=8, where="layer1.0.conv1")


def test_the_rule_does_not_choose_again_where_modules_are(network):
    insert(network, "m2a", num_frames=8)
    before = sites(network)
    words = r"ResNet has 8 temporal modules already, first before layer1.0.conv1; put several in at"
    for every in (None, 2):
        with pytest.raises(ValueError, match=words):
            insert(network, "tsm", num_frames=8, every=every)
    assert sites(network) == before
    assert len(sites(insert(network, "tsm", num_frames=8, where="layer2.*.conv2"))) == 10


def test_what_is_no_network_is_refused_by_what_it_is():
    plain = inspect.unwrap(insert)  # without the types that tests check
    with pytest.raises(ValueError, match="'resnet18' is a str, wanted a network.*create_model"):
        plain("resnet18", "m2a", num_frames=8)


def test_a_network_of_unknown_blocks_asks_for_names():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    with pytest.raises(ValueError, match=r"not for\s+Sequential; name convolutions with where="):
        insert(network, "tsm", num_frames=8)
    assert sites(insert(network, "none", num_frames=8)) == []
    assert sites(insert(network, lambda **_: nn.Identity(), num_frames=8, where="0")) == ["0"]


def test_modules_take_the_type_of_their_network():
    network = insert(resnet18().to(torch.bfloat16), "m2a", num_frames=2)
    assert {one.dtype for one in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("choice", [{"where": []}, {"stages": ()}])
def test_an_empty_choice_of_sites_is_refused(choice):
    with pytest.raises(ValueError, match="an empty one names nothing; leave it out to take all"):
        insert(resnet18(), "m2a", num_frames=2, **choice)


def test_what_makes_no_module_is_refused():
    with pytest.raises(ValueError, match="temporal made None for layer1.0.conv1; wanted an nn"):
        insert(resnet18(), lambda *, channels, num_frames: None, num_frames=2)  # pyright: ignore
