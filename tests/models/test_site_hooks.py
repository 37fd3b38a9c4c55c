"""A temporal module runs once at its site, or the network raises an error."""

import copy
import io
import pickle
import subprocess
import sys
import types

import pytest
import timm
import torch
from timm.layers.norm_act import convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torch.ao.quantization import fuse_modules
from torch.fx import symbolic_trace
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint
from torchvision.models import convnext_tiny, resnet18, swin_t
from torchvision.models.feature_extraction import create_feature_extractor

from motionaware.errors import SiteError
from motionaware.models.insertion import copy_without_modules, insert
from motionaware.models.site_hooks import adapters, sites, temporal_modules

SITE = "layer1.0.conv1"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return insert(resnet18(), "m2a,tsm", num_frames=4).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def scores(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


class LowRank(nn.Module):
    """An adapter as in peft: the wrapped layer and a parallel branch."""

    def __init__(self, base_layer: nn.Conv2d) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.branch = copy.deepcopy(base_layer)
        self.branch._forward_pre_hooks.clear()
        del self.branch.temporal

    def forward(self, images: Tensor) -> Tensor:
        return self.base_layer(images) + self.branch(images)


# ------------------------------------------------------------------ conversions by other libraries


def test_both_branches_of_a_low_rank_adapter_get_the_module_s_output(network, images):
    host = network.get_submodule(SITE)
    wanted = copy.deepcopy(network)
    wanted.get_submodule(SITE).weight.data *= 2  # equals the sum of both branches
    network.layer1[0].conv1 = LowRank(host)
    assert_same(scores(network, images), scores(wanted, images))
    assert sites(network) == sites(wanted)
    assert temporal_modules(network)[SITE] == f"{SITE}.base_layer.temporal"


def test_after_unwrapping_the_module_runs_at_the_host_again(network, images):
    host, wanted = network.get_submodule(SITE), scores(network, images)
    network.layer1[0].conv1 = LowRank(host)
    scores(network, images)
    network.layer1[0].conv1 = host
    assert_same(scores(network, images), wanted)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}])
def test_merging_peft_adapters_does_not_change_the_scores(network, images, options):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = peft.LoraConfig(
        r=4, target_modules=r".*layer\d\.\d\.conv1", init_lora_weights=False, **options
    )
    adapted = peft.get_peft_model(network, config).eval()
    unmerged = scores(adapted, images)
    assert_same(scores(adapted.merge_and_unload(), images), unmerged)


def test_a_norm_as_host_keeps_its_module_in_sync_batchnorm_conversion(images):
    torch.manual_seed(0)
    network = insert(resnet18(), "m2a", num_frames=4, where="layer*.*.bn1").eval()
    wanted = scores(network, images)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network).eval()
    assert_same(scores(converted, images), wanted)
    assert len(sites(converted)) == 8


def test_sync_batchnorm_of_timm_keeps_the_scores_and_frozen_norms_raise_an_error(network, images):
    wanted = scores(network, images)
    assert_same(scores(convert_sync_batchnorm(network).eval(), images), wanted)
    torch.manual_seed(0)
    other = insert(timm.create_model("resnet18"), "m2a", num_frames=4, where="layer1.*.bn1").eval()
    wanted = scores(other, images)
    assert_same(scores(convert_sync_batchnorm(other).eval(), images), wanted)
    with pytest.raises(SiteError, match="layer1.0.bn1 .*a FrozenBatchNorm2d without it"):
        freeze_batch_norm_2d(other)(images)


@pytest.mark.parametrize("names", [("conv1", "bn1"), ("conv1", "bn1", "relu"), ("conv2", "bn2")])
def test_fusing_convolution_and_norm_does_not_change_the_scores(images, names):
    torch.manual_seed(0)
    where = f"layer1.*.{names[0]}"
    network = insert(resnet18(), "m2a,tsm", num_frames=4, where=where).eval()
    for block in network.get_submodule(
        "layer1"
    ).children():  # a ReLU that is used twice cannot be fused into a convolution
        block.relu2 = copy.deepcopy(block.relu)
        block.forward = types.MethodType(_forward_with_two_relus, block)
    wanted = scores(network, images)
    rows = [[f"layer1.{number}.{name}" for name in names] for number in (0, 1)]
    fused = fuse_modules(copy.deepcopy(network), rows)
    assert_same(scores(fused, images), wanted)
    assert len(list(adapters(fused))) == 2


def _forward_with_two_relus(block, x):
    return block.relu2(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))) + x)


def test_a_parametrised_host_keeps_its_module(network, images):
    wanted = scores(network, images)
    weight_norm(network.get_submodule(SITE))
    assert_same(scores(network, images), wanted)


def test_a_removed_hook_is_attached_again(network, images):
    wanted = scores(network, images)
    network.get_submodule(SITE)._forward_pre_hooks.clear()
    assert_same(scores(network, images), wanted)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_runs_and_guards_its_own_modules(network, images, copied):
    other = copied(network)
    assert_same(scores(other, images), scores(network, images))
    other.layer1[0].conv1 = nn.Conv2d(64, 64, 3, padding=1)
    with pytest.raises(SiteError, match=SITE):
        other(images)
    scores(network, images)


def test_torch_save_keeps_modules_and_guards(network, images):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    assert_same(scores(other, images), scores(network, images))


# ------------------------------------------------------------------ lost modules


def test_the_error_for_a_replaced_host_names_the_site(network, images):
    network.layer2[1].conv1 = nn.Conv2d(128, 128, 3, padding=1)
    message = r"layer2.1.conv1 in ResNet is lost: a Conv2d without it .*Build the network again"
    with pytest.raises(SiteError, match=message):
        network(images)
    assert "layer2.1.conv1" not in sites(network)


def test_the_error_for_a_replaced_block_names_the_site(network, images):
    network.layer2[1] = nn.Identity()
    with pytest.raises(SiteError, match=r"layer2.1.conv1 .*Identity no longer has a layer 'conv1'"):
        network(images)


def test_a_lost_module_raises_an_error_when_forward_is_called_directly(network, images):
    network.layer2[1].conv1 = nn.Conv2d(128, 128, 3, padding=1)
    with pytest.raises(SiteError, match="layer2.1.conv1"):
        network.forward(images)


def test_the_error_for_a_deleted_module_names_the_site(network, images):
    scores(network, images)
    del network.get_submodule(SITE).temporal
    with pytest.raises(SiteError, match=SITE):
        network(images)


def test_calling_the_forward_of_a_host_directly_raises_an_error(network, images):
    block = network.layer1[0]

    def forward(x: Tensor) -> Tensor:
        return block.bn2(block.conv2(block.relu(block.bn1(block.conv1.forward(x))))) + x

    block.forward = forward
    with pytest.raises(SiteError, match=f"{SITE} of ResNet did not run in this forward pass"):
        network(images)


def test_a_failed_forward_pass_does_not_affect_the_next_one(network, images):
    with pytest.raises(ValueError, match="whole clips"):
        network(images[:3])
    scores(network, images)


def test_gradient_checkpointing_works(network, images):
    layer, forward = network.layer2, network.layer2.forward
    layer.forward = lambda x: checkpoint(forward, x, use_reentrant=False)
    network(images).sum().backward()
    scores(network, images)


# ------------------------------------------------------------------ tracers


def test_a_module_in_a_host_that_torch_fx_traces_becomes_a_node(images):
    for make, node in ((swin_t, "features.3"), (convnext_tiny, "features.3"), (resnet18, "layer2")):
        torch.manual_seed(0)
        network = insert(make(), "m2a,tsm", num_frames=4, image_size=64).eval()
        kept: list[Tensor] = []
        handle = network.get_submodule(node).register_forward_hook(
            lambda *call, kept=kept: kept.append(call[-1])
        )
        scores(network, images)
        handle.remove()
        extractor = create_feature_extractor(network, [node])
        assert_same(extractor(images)[node], kept[0])


def test_symbolic_tracing_gives_the_same_scores(network, images):
    assert_same(scores(symbolic_trace(network), images), scores(network, images))


COMPILED = """
import warnings
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from motionaware import insert, sites
from motionaware.models.site_hooks import SiteError

resnet = lambda: ResNet(BasicBlock, [1, 1, 1, 1])
torch.manual_seed(0)
images = torch.rand(4, 3, 32, 32)
same = lambda a, b: torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
compiled_by = lambda net: torch.compile(net, fullgraph=True, backend="eager")
with torch.no_grad():
    # A graph that was made before insert does not run after it.
    network, plain = resnet().eval(), resnet().eval()
    compiled = compiled_by(network)
    compiled(images)
    insert(network, "m2a,tsm", num_frames=4).eval()
    same(compiled(images), network(images))

    # The graph of another network of the same class does not run either.
    same(compiled_by(plain)(images), plain(images))
    same(compiled(images), network(images))
    third = insert(resnet(), "m2a,tsm", num_frames=4).eval()
    same(compiled_by(third)(images), third(images))

    # A change after insert is detected while torch.compile traces.
    third.layer1[0].conv1 = nn.Conv2d(64, 64, 3, padding=1)
    try:
        compiled_by(third)(images)
    except Exception as error:
        assert "layer1.0.conv1" in str(error), error
    else:
        raise AssertionError("no error was raised")

    # Blocks may be compiled one by one.
    wanted = network(images)
    for block in [*network.layer1, *network.layer2]:
        block.compile(backend="eager")
    same(network(images), wanted)

    warnings.simplefilter("ignore")  # torch.jit is deprecated
    network = insert(resnet(), "m2a,tsm", num_frames=4).eval()
    same(torch.jit.trace(network, images, check_trace=False)(images), network(images))
"""


def test_compiled_and_traced_networks_run_their_own_modules():
    # In a separate process: the type checks that tests put on every call would break the graph.
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


SHARDED = """
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.resnet import BasicBlock, ResNet
from motionaware import insert, sites

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = dist.init_device_mesh("cpu", (1,))
torch.manual_seed(0)
images = torch.rand(4, 3, 32, 32)
network = insert(ResNet(BasicBlock, [1, 1, 1, 1]), "m2a,tsm", num_frames=4).eval()
wanted = network(images).detach()
torch.testing.assert_close(DistributedDataParallel(network)(images), wanted)
for layer in (network.layer1, network.layer2, network):
    fully_shard(layer, mesh=mesh)
scores = network(images)
torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=1e-4)
scores.sum().backward()
assert len(sites(network)) == 4
"""


def test_data_parallel_and_sharded_networks_run_their_modules():
    subprocess.run([sys.executable, "-W", "ignore", "-c", SHARDED], check=True)


def test_a_copy_without_modules_is_the_plain_network(network, images):
    plain = resnet18().eval()
    copied = copy_without_modules(network)
    plain.load_state_dict(copied.state_dict())
    assert_same(scores(copied, images), scores(plain, images))
