"""A gate reads the weights of a layer only while a call does nothing but the layer's formula."""

import subprocess
import sys
import types
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.overrides import TorchFunctionMode

from motionaware.ops import gating
from motionaware.temporal.gate import Gate
from motionaware.temporal.layer_checks import is_untouched, read_pointwise
from motionaware.temporal.m2a import MotionAttention, TemporalDifference

CHANNELS = 16


@pytest.fixture(autouse=True)
def use_the_fast_path_for_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gating, "_MIN_TRAINING_SIZE", 0)


def clips() -> Tensor:
    return torch.randn(2, 4, CHANNELS, 5, 5, generator=torch.Generator().manual_seed(1))


def gate() -> Gate:
    torch.manual_seed(0)
    return Gate(nn.Tanh(), channels=CHANNELS)


def call_layers(module: Gate, x: Tensor) -> Tensor:
    """Compute the formula of a gate by calls of its layers."""
    frames = x.flatten(0, 1)
    wide = module.up(module.inner(module.down(frames)))
    return x * (1 + wide.sigmoid().unflatten(0, x.shape[:2]))


def replace_forward(module: Gate) -> None:
    layer = module.down
    layer.forward = lambda frames: F.conv2d(frames, layer.weight + 1)  # pyright: ignore


def replace_forward_by_a_method(module: Gate) -> None:
    def forward(self: nn.Conv2d, frames: Tensor) -> Tensor:
        return -nn.Conv2d.forward(self, frames)

    module.up.forward = types.MethodType(forward, module.up)


def replace_conv_forward(module: Gate) -> None:
    module.down._conv_forward = lambda frames, kernel, bias: F.conv2d(frames, 3 * kernel)  # pyright: ignore


def hook_output(module: Gate) -> None:
    module.up.register_forward_hook(lambda layer, inputs, output: output.neg())


def hook_input(module: Gate) -> None:
    module.down.register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))


def hook_output_with_keywords(module: Gate) -> None:
    module.down.register_forward_hook(lambda _, inputs, kw, output: output + 1, with_kwargs=True)


def hook_input_with_keywords(module: Gate) -> None:
    module.up.register_forward_pre_hook(lambda _, a, kw: ((a[0] - 1,), kw), with_kwargs=True)


def swap_in_a_subclass(module: Gate) -> None:
    class Doubled(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    module.up = Doubled(CHANNELS // 8, CHANNELS, 1)


def swap_in_another_class(module: Gate) -> None:
    module.up = nn.Sequential(module.up, nn.ReLU())  # pyright: ignore


def drop_a_bias(module: Gate) -> None:
    module.up.bias = None


def widen_the_kernel(module: Gate) -> None:
    module.down = nn.Conv2d(CHANNELS, CHANNELS // 8, 3, padding=1)


def pad_by_a_mode(module: Gate) -> None:
    module.down = nn.Conv2d(CHANNELS, CHANNELS // 8, 3, padding="same", padding_mode="circular")


def group(module: Gate) -> None:
    module.down = nn.Conv2d(CHANNELS, CHANNELS // 8, 1, groups=2)


def prune_weights(module: Gate) -> None:
    prune.l1_unstructured(module.down, "weight", amount=0.5)


def prune_permanently(module: Gate) -> None:
    prune_weights(module)
    prune.remove(module.down, "weight")


def new_weight_norm(module: Gate) -> None:
    weight_norm(module.up)
    module.up.parametrizations.weight.original0.data.mul_(3)  # pyright: ignore


def new_spectral_norm(module: Gate) -> None:
    spectral_norm(module.down.eval())


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def parametrize_the_bias(module: Gate) -> None:
    nn.utils.parametrize.register_parametrization(module.down, "bias", Halved())


def shadow_the_weight(module: Gate) -> None:
    weight = module.up.weight.detach()
    del module.up.weight
    module.up.weight = 2 * weight  # a plain attribute, as torch's older weight_norm leaves it


class Scaled(Tensor):
    """A weight that is scaled in the convolution, like quantised weights."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.conv2d or func is torch.conv2d:
            args = [2 * a.as_subclass(Tensor) if isinstance(a, cls) else a for a in args]
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})


def weight_of_another_type(module: Gate) -> None:
    weight = module.down.weight.detach().as_subclass(Scaled)
    module.down.weight = nn.Parameter(weight, requires_grad=False)


def give_it_a_child(module: Gate) -> None:
    module.down.add_module("temporal", nn.Identity())


TOUCHED: list[Callable[[Gate], None]] = [
    replace_forward,
    replace_forward_by_a_method,
    replace_conv_forward,
    hook_output,
    hook_input,
    hook_output_with_keywords,
    hook_input_with_keywords,
    swap_in_a_subclass,
    swap_in_another_class,
    drop_a_bias,
    widen_the_kernel,
    pad_by_a_mode,
    group,
    prune_weights,
    new_weight_norm,
    new_spectral_norm,
    parametrize_the_bias,
    shadow_the_weight,
    weight_of_another_type,
    give_it_a_child,
]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("touch", TOUCHED, ids=lambda touch: touch.__name__)
def test_a_touched_layer_of_a_gate_is_called(touch: Callable[[Gate], None], grad: bool):
    module = gate().eval()
    touch(module)
    assert None in [read_pointwise(layer, clips()) for layer in (module.down, module.up)]
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(module(clips()), call_layers(module, clips()))


def test_permanently_pruned_weights_are_read():
    module = gate()
    prune_permanently(module)
    assert read_pointwise(module.down, clips()) is not None
    torch.testing.assert_close(module(clips()), call_layers(module, clips()))


@pytest.mark.parametrize("kind", ["backward", "backward pre"])
def test_backward_hooks_of_a_layer_run(kind):
    module, ran = gate(), []
    if kind == "backward":
        module.up.register_full_backward_hook(lambda *_: ran.append(1))
    else:
        module.up.register_full_backward_pre_hook(lambda *_: ran.append(1))
    module(clips().requires_grad_()).sum().backward()
    assert ran


@pytest.fixture
def global_hook() -> Iterator[list[nn.Module]]:
    called: list[nn.Module] = []
    handle = torch_module.register_module_forward_hook(lambda layer, *_: called.append(layer))
    yield called
    handle.remove()


def test_a_global_hook_runs_for_every_layer(global_hook: list[nn.Module]):
    module = gate()
    attention = MotionAttention(TemporalDifference())
    module.inner = attention
    module(clips())
    assert {module.down, module.up, attention, attention.motion} <= set(global_hook)


def test_a_compiled_layer_runs_its_compiled_code():
    module, ran = gate(), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        ran.append(1)
        return graph.forward

    module.down.compile(backend=backend)
    assert read_pointwise(module.down, clips()) is None
    assert not is_untouched(module.down, nn.Conv2d)
    layer = module.down
    layer._compiled_call_impl = lambda frames: F.conv2d(frames, layer.weight + 1)
    torch.testing.assert_close(module(clips()), call_layers(module, clips()))


def test_layers_on_the_meta_device_are_called():
    module = gate()
    module.down.to("meta")
    assert read_pointwise(module.down, clips()) is None
    assert Gate(nn.Tanh(), channels=CHANNELS).to("meta")(clips().to("meta")).is_meta


def test_weights_of_another_dtype_are_read_under_autocast_only():
    module = gate()
    module.down.to(torch.bfloat16)
    assert read_pointwise(module.down, clips()) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert read_pointwise(module.down, clips()) is not None


def test_a_replaced_torch_function_runs(monkeypatch: pytest.MonkeyPatch):
    module, plain = gate(), F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args: plain(*args).neg())
    torch.testing.assert_close(module(clips()), call_layers(module, clips()))


def test_the_weights_of_a_new_gate_are_read():
    module = gate()
    for layer in (module.down, module.up):
        assert read_pointwise(layer, clips()) == (layer.weight, layer.bias)


@pytest.mark.parametrize("touch", ["hook", "pre-hook", "forward", "subclass", "identity"])
def test_a_touched_motion_module_is_called(touch):
    attention = MotionAttention(None if touch == "identity" else TemporalDifference())
    if touch == "hook":
        attention.motion.register_forward_hook(lambda layer, inputs, output: output.neg())
    elif touch == "pre-hook":
        attention.motion.register_forward_pre_hook(lambda layer, inputs: (inputs[0] ** 2,))
    elif touch == "subclass":
        attention.motion = type("Own", (TemporalDifference,), {"forward": lambda self, x: 3 * x})()
    else:
        attention.motion.forward = lambda x: 3 * x  # pyright: ignore
    x = clips()
    motion = attention.motion(F.layer_norm(x, x.shape[2:]))
    rows = motion.flatten(2)
    weights = (rows @ rows.mT / rows.shape[-1] ** 0.5).softmax(dim=-1)
    torch.testing.assert_close(attention(x), x + (weights @ rows).view_as(x))


class Counts(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_results_are_the_same_under_a_torch_function_mode():
    module = gate()
    with Counts():
        torch.testing.assert_close(module(clips()), call_layers(module, clips()))


@pytest.mark.slow
def test_layers_sharded_by_fsdp2_are_called():
    # In another process, because it initialises a process group.
    script = """
import copy, tempfile, torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from motionaware.ops import gating
from motionaware.temporal.gate import Gate
gating._MIN_TRAINING_SIZE = 0
with tempfile.TemporaryDirectory() as folder:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    plain, clips = Gate(torch.nn.Tanh(), channels=16), torch.rand(2, 4, 16, 5, 5)
    for sharded in ("layers", "gate", "both"):
        gate = copy.deepcopy(plain)
        for layer in (gate.down, gate.up) if sharded != "gate" else ():
            fully_shard(layer, mesh=mesh)
        if sharded != "layers":
            fully_shard(gate, mesh=mesh)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(gate(clips), plain(clips))
        gate(clips).sum().backward()
    dist.destroy_process_group()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
