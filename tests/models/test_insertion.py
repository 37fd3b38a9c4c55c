import copy
import inspect
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18, resnet50, resnet101
from torchvision.models.video import r3d_18

from motionaware import insert
from motionaware.models.site_hooks import sites

NETWORKS = {"resnet18": resnet18, "resnet50": resnet50, "mobilenet_v2": mobilenet_v2}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return resnet18()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("temporal", ["m2a", "tsm", "m2a,tsm"])
def test_every_tensor_of_the_backbone_is_bitwise_unchanged(name, temporal):
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    before = copy.deepcopy(plain.state_dict())
    after = insert(plain, temporal, num_frames=8).state_dict()
    assert before.keys() <= after.keys()
    for key, tensor in before.items():
        assert torch.equal(after[key], tensor), key


def test_insert_does_not_run_the_network(network):
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


def test_temporal_none_leaves_the_network_unchanged(network):
    before = repr(network)
    assert repr(insert(network, "none", num_frames=8)) == before
    assert sites(network) == []


def test_modules_go_before_the_first_convolution_of_every_block(network):
    insert(network, "m2a", num_frames=8)
    blocks = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert sites(network) == blocks


def test_resnets_with_23_blocks_in_the_third_stage_get_a_module_in_every_second_block():
    found = sites(insert(resnet101(), "tsm", num_frames=8))
    stages = {stage: [s for s in found if s.startswith(stage)] for stage in ("layer1", "layer3")}
    assert stages["layer1"] == ["layer1.0.conv1", "layer1.2.conv1"]
    assert len(stages["layer3"]) == 12
    assert stages["layer3"][-1] == "layer3.22.conv1"


def test_mobilenet_blocks_with_expansion_and_skip_get_a_module():
    network = insert(mobilenet_v2(), "m2a", num_frames=8)
    numbers = [int(name.split(".")[1]) for name in sites(network)]
    assert numbers == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]


def test_a_module_gets_clips_b_t_c_h_w(network):
    shapes = []

    class ShapeRecorder(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(clips.shape))
            return clips

    insert(network, lambda **_: ShapeRecorder(), num_frames=4, where="layer2.0.conv1")
    network.eval()(torch.rand(8, 3, 64, 64))
    assert shapes == [(2, 4, 64, 16, 16)]


def test_identity_modules_leave_the_output_unchanged(network):
    network.eval()
    images = torch.rand(4, 3, 32, 32)
    before = network(images)
    insert(network, lambda *, channels, num_frames: nn.Identity(), num_frames=2)
    assert torch.equal(network(images), before)


def test_a_deep_copy_has_separate_modules(network):
    insert(network, "m2a", num_frames=2)
    copied = copy.deepcopy(network)
    gate = copied.get_submodule("layer1.0.conv1.temporal")
    assert gate is not network.get_submodule("layer1.0.conv1.temporal")
    for parameter in gate.parameters():
        nn.init.constant_(parameter, 3.0)
    images = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(copied.eval()(images), network.eval()(images))


def test_a_network_with_modules_compiles_without_graph_breaks():
    # In a separate process: the type checks that tests add to every call would break the graph.
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


def test_a_network_with_modules_exports(network):
    insert(network, "m2a,tsm", num_frames=2).eval()
    images = torch.rand(4, 3, 32, 32)
    program = torch.export.export(network, (images,))
    torch.testing.assert_close(program.module()(images), network(images))


def test_gradients_reach_every_parameter(network):
    insert(network, "m2a", num_frames=2)
    network(torch.rand(4, 3, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_batch_that_is_no_multiple_of_num_frames_raises_an_error(network):
    insert(network, "m2a", num_frames=8)
    with pytest.raises(ValueError, match="12 images do not make whole clips of 8 frames"):
        network(torch.rand(12, 3, 32, 32))


def test_patterns_select_sites(network):
    insert(network, "tsm", num_frames=8, where=["layer3.*.conv1", "layer4.0.conv2"])
    assert sites(network) == ["layer3.0.conv1", "layer3.1.conv1", "layer4.0.conv2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"where": "layer9.*"},
            "where='layer9.*' matches no module of ResNet; its children are co",
        ),
        (
            {"where": "fc"},
            "site fc (Linear) takes (88, 512); wanted a first argument that",
        ),
        ({"where": "layer4", "every": 2}, "where = 'layer4' names the sites; stages = None and"),
        ({"stages": (2, 5)}, "stages=(2, 5), but the blocks have 4 parents: layer1, layer2"),
        ({"every": 0}, "every = 0; wanted the step from block to block"),
        ({"num_frames": 0}, "num_frames = 0; wanted the number of frames in a clip"),
    ],
)
def test_invalid_arguments_raise_an_error_and_change_nothing(network, options, message):
    before = repr(network)
    with pytest.raises(ValueError) as error:
        insert(network, "m2a", **{"num_frames": 8, **options})
    assert message in str(error.value)
    assert repr(network) == before


def test_a_second_insertion_at_the_same_site_raises_an_error(network):
    insert(network, "tsm", num_frames=8)
    with pytest.raises(ValueError, match="layer1.0.conv1 has a temporal module already"):
        insert(network, "m2a", num_frames=8, where="layer1.0.conv1")


def test_the_default_rule_raises_an_error_for_a_network_that_has_modules(network):
    insert(network, "m2a", num_frames=8)
    before = sites(network)
    message = r"ResNet has 8 temporal modules already, first before layer1.0.conv1; insert several"
    for every in (None, 2):
        with pytest.raises(ValueError, match=message):
            insert(network, "tsm", num_frames=8, every=every)
    assert sites(network) == before
    assert len(sites(insert(network, "tsm", num_frames=8, where="layer2.*.conv2"))) == 10


def test_an_argument_that_is_no_network_raises_an_error():
    unchecked = inspect.unwrap(insert)  # without the type checks that tests add
    with pytest.raises(ValueError, match="'resnet18' is a str, wanted a network.*create_model"):
        unchecked("resnet18", "m2a", num_frames=8)


def test_the_error_for_a_network_without_repeated_blocks_names_where():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    with pytest.raises(ValueError, match="Sequential has no repeated blocks, .* name convol"):
        insert(network, "tsm", num_frames=8)
    assert sites(insert(network, "none", num_frames=8)) == []
    assert sites(insert(network, lambda **_: nn.Identity(), num_frames=8, where="0")) == ["0"]


def test_modules_get_the_dtype_of_their_network():
    network = insert(resnet18().to(torch.bfloat16), "m2a", num_frames=2)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("choice", [{"where": []}, {"stages": ()}])
def test_an_empty_selection_of_sites_raises_an_error(choice):
    with pytest.raises(ValueError, match="an empty one selects nothing; leave it out to take all"):
        insert(resnet18(), "m2a", num_frames=2, **choice)


def test_a_callable_that_returns_no_module_raises_an_error():
    with pytest.raises(ValueError, match="temporal made None for layer1.0.conv1; wanted an nn"):
        insert(resnet18(), lambda *, channels, num_frames: None, num_frames=2)  # pyright: ignore


BATCH = torch.export.Dim("clips", min=1, max=64)


def small_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return insert(resnet18(), name, num_frames=4, stages=(1, 2)).eval()


def frames(clips: int) -> Tensor:
    return torch.rand(4 * clips, 3, 32, 32, generator=torch.Generator().manual_seed(clips))


@pytest.mark.slow
@pytest.mark.parametrize("host", ["network", "recognizer"])
def test_torch_jit_trace_gives_the_same_scores_without_warnings(host):
    # In a separate process: the type checks of the tests cannot read the sizes of a trace.
    script = f"""
import torch, warnings
from torchvision.models import resnet18
from motionaware import create_model, insert
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "`torch.jit.*is deprecated")
for name in ("m2a", "tdn", "action"):
    x = torch.rand(2, 4, 3, 32, 32)
    if {host == "network"}:
        model, x = insert(resnet18(), name, num_frames=4, stages=1), x.flatten(0, 1)
    else:
        model = create_model(
            "resnet18_quarter", temporal=name, num_classes=3, num_frames=4, stages=1
        )
    traced = torch.jit.trace(model.eval(), x, check_trace=False)
    torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-4)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


@pytest.mark.parametrize("name", ["m2a", "tsm", "tam", "tdn", "action"])
def test_symbolic_sizes_do_not_grow_from_site_to_site_in_an_export_with_dynamic_batch(name):
    plain, longest = small_network(name), 0

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal longest
        longest = max(longest, *(len(str(size)) for size in output.shape))

    handles = [module.register_forward_hook(measure) for module in plain.modules()]
    shapes = ({0: 4 * BATCH},)
    program = torch.export.export(plain, (frames(2),), dynamic_shapes=shapes).module()
    for handle in handles:
        handle.remove()
    assert longest < 20, "sizes double from site to site, and so does the time of an export"
    for clips in (2, 3):
        torch.testing.assert_close(program(frames(clips)), plain(frames(clips)))


def test_exporting_with_a_wrong_number_of_frames_raises_an_error():
    with pytest.raises(ValueError, match="6 images do not make whole clips of 4 frames"):
        torch.export.export(small_network("m2a"), (frames(2)[:6],))


@pytest.mark.parametrize(
    ("make", "shape", "layout"),
    [
        (resnet18, (8, 3, 32, 32), torch.channels_last),
        (r3d_18, (1, 3, 4, 32, 32), torch.channels_last_3d),
    ],
)
def test_channels_last_does_not_change_the_scores(make, shape, layout):
    torch.manual_seed(0)
    plain = insert(make(), "m2a,action", num_frames=4).eval().double()
    x = torch.rand(*shape, dtype=torch.float64)
    before = plain(x)
    after = plain.to(memory_format=layout)(x)
    assert (after - before).abs().max() < 1e-9 * before.abs().max()
