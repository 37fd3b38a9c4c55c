"""The switch for the fast paths, and the fallbacks for private names that torch may lack."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motionaware.models.insertion import insert
from motionaware.ops import attention, autograd_utils, gating
from motionaware.ops.attention import add_attended_motion
from motionaware.ops.autograd_utils import (
    can_use_fast_paths,
    is_in_backward_pass,
    is_traced,
    known_shape,
    make_compile_check_hooks,
    runs_only_forward,
    softmax_gradient,
    use_fast_paths,
)
from motionaware.ops.gating import gate_frames
from motionaware.temporal.gate import Gate
from motionaware.temporal.m2a import MotionAttention, TemporalDifference
from motionaware.temporal.names import site_maker


@pytest.fixture(autouse=True)
def restore_the_switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gating, "_MIN_TRAINING_SIZE", 0)
    with use_fast_paths(True):
        yield


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def forbid_fast_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise AssertionError("a fast path ran")

    monkeypatch.setattr(gating, "_multiply", fail)
    monkeypatch.setattr(attention, "_attend", fail)


def results(module: nn.Module, clips: Tensor) -> list[Tensor]:
    """Output, gradient of the input and gradients of all parameters."""
    clips = clips.detach().requires_grad_()
    output = module(clips)
    leaves = (clips, *module.parameters())
    return [output.detach(), *torch.autograd.grad(output, leaves, random(*output.shape))]


@pytest.mark.parametrize(
    "name",
    ["m2a", "m2a(start=identity)", "attention", "m2a(last=zero, cosine=True)", "tea", "patch"],
)
@pytest.mark.parametrize("pixels", [7, 16])
def test_results_and_gradients_are_the_same_with_and_without_fast_paths(name, pixels):
    torch.manual_seed(0)
    maker = site_maker(name)
    assert maker is not None
    module, clips = maker(channels=32, num_frames=4).eval(), random(2, 4, 32, pixels, pixels)
    fast = results(module, clips)
    with use_fast_paths(False):
        plain = results(module, clips)
    torch.testing.assert_close(fast[:2], plain[:2], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(fast[2:], plain[2:], strict=True):  # sums over all pixels
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * clips.numel())


@pytest.mark.parametrize("grad", [True, False])
def test_no_fast_path_runs_when_they_are_switched_off(monkeypatch, grad):
    forbid_fast_paths(monkeypatch)
    gate = Gate(MotionAttention(TemporalDifference()), channels=16)
    weights = ((gate.down.weight, gate.down.bias), (gate.up.weight, gate.up.bias))
    clips = random(2, 4, 16, 5, 5)
    with torch.set_grad_enabled(grad):
        with pytest.raises(AssertionError, match="a fast path ran"):
            gate(clips)
        with use_fast_paths(False):
            gate(clips)
            add_attended_motion(clips)
            gate_frames(clips[0], torch.sin, down=weights[0], up=weights[1])  # pyright: ignore


def test_the_switch_is_a_function_and_a_context_manager():
    use_fast_paths(False)
    assert not can_use_fast_paths()
    with use_fast_paths(True):
        assert can_use_fast_paths()
        with use_fast_paths(False):
            assert not can_use_fast_paths()
        assert can_use_fast_paths()
    assert not can_use_fast_paths()


def test_the_switch_is_restored_after_an_error():
    with pytest.raises(KeyError), use_fast_paths(False):
        raise KeyError
    assert can_use_fast_paths()


def test_a_network_has_second_derivatives_without_fast_paths():
    network = insert(nn.Sequential(nn.Conv2d(16, 4, 1)), "m2a", num_frames=4, where="0").double()
    frames = random(4, 16, 3, 3).double().requires_grad_()
    with use_fast_paths(False):
        (gradient,) = torch.autograd.grad(network(frames).sum(), frames, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), frames)
    assert second.abs().sum() > 0


PRIVATE = [
    (torch._C, "_is_tracing"),
    (torch._C, "_are_functorch_transforms_active"),
    (torch._C, "_len_torch_dispatch_stack"),
]


@pytest.mark.parametrize(("owner", "name"), PRIVATE)
def test_without_a_way_to_detect_tracers_the_plain_formulas_run(monkeypatch, owner, name):
    monkeypatch.delattr(owner, name)
    forbid_fast_paths(monkeypatch)
    assert is_traced() and not can_use_fast_paths()
    Gate(MotionAttention(TemporalDifference()), channels=16)(random(2, 4, 16, 5, 5))


@pytest.mark.parametrize(
    ("owner", "name"),
    [(nn.Module, "_call_impl"), (autograd_utils.torch_module, "_has_any_global_hook")],
)
def test_without_a_way_to_detect_hooks_layers_are_called(monkeypatch, owner, name):
    layer = nn.Conv2d(4, 4, 1)
    assert runs_only_forward(layer)
    monkeypatch.delattr(owner, name)
    assert not runs_only_forward(layer)


def test_a_module_without_torch_s_hook_attributes_is_called():
    layer = nn.Conv2d(4, 4, 1)
    del layer._forward_hooks
    assert not runs_only_forward(layer)


def test_the_softmax_gradient_has_a_fallback(monkeypatch):
    logits = random(2, 5, 5).requires_grad_()
    weights, d_weights = logits.softmax(dim=-1), random(2, 5, 5)
    (wanted,) = torch.autograd.grad(weights, logits, d_weights)
    torch.testing.assert_close(softmax_gradient(d_weights, weights.detach()), wanted)

    class NoPrivateOps:
        aten = object()

    monkeypatch.setattr(autograd_utils.torch, "ops", NoPrivateOps)
    torch.testing.assert_close(softmax_gradient(d_weights, weights.detach()), wanted)


def traced_shape(tensor: Tensor) -> list[torch.Size]:
    shapes: list[torch.Size] = []

    def note(x: Tensor) -> Tensor:
        shapes.append(known_shape(x))
        return x + 1

    torch.jit.trace(note, tensor, check_trace=False)
    return shapes


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("missing", [None, "_set_tracing_state", "_get_tracing_state"])
def test_shapes_are_integers_while_torch_traces(monkeypatch, missing):
    if missing is not None:
        monkeypatch.delattr(torch._C, missing)
    (shape,) = traced_shape(torch.zeros(2, 3))
    assert shape == (2, 3)
    assert all(type(size) is int for size in shape)


def test_a_backward_pass_is_detected():
    during: list[bool] = []
    x = torch.ones(1, requires_grad=True)
    y = 2 * x
    y.register_hook(lambda _: during.append(is_in_backward_pass()))
    y.backward()
    assert during == [True] and not is_in_backward_pass()


def test_without_a_way_to_detect_a_backward_pass_one_is_assumed(monkeypatch):
    monkeypatch.delattr(torch._C, "_current_graph_task_id")
    assert is_in_backward_pass()


def test_compile_settings_that_torch_lacks_are_left_alone(monkeypatch):
    import torch._dynamo

    monkeypatch.setattr(torch._dynamo, "config", object())
    make_compile_check_hooks()
