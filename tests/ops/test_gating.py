import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from motionaware.ops import gating, pointwise
from motionaware.ops.gating import Weights, gate_frames, gate_plainly
from motionaware.temporal.gate import Gate


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def weights(c2: int, c: int, dtype: torch.dtype = torch.float64) -> Weights:
    kernel, bias = draw(c2, c, 1, 1, dtype=dtype), draw(c2, dtype=dtype)
    return kernel.requires_grad_(), bias.requires_grad_()


def plainly(frames: Tensor, down: Weights, up: Weights, double: bool = False) -> Tensor:
    return gate_plainly(frames, torch.sin, down=down, up=up, double=double)


def channels_last(frames: Tensor) -> Tensor:
    return frames.contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def use_the_fast_path_for_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gating, "_MIN_TRAINING_SIZE", 0)


@pytest.fixture(params=["small frames", "large frames", "pieces"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "small frames":
        monkeypatch.setattr(pointwise, "_LARGE_PIXELS", 1)
    if request.param == "pieces":
        monkeypatch.setattr(pointwise, "_PIECE_BYTES", 2**10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("layout", [Tensor.contiguous, channels_last])
@pytest.mark.parametrize(
    ("shape", "width"), [((6, 8, 5, 7), 2), ((17, 32, 4, 4), 16), ((5, 4, 1, 1), 1)]
)
@pytest.mark.usefixtures("method")
def test_numbers_and_gradients_equal_those_of_the_formula_and_the_layout_stays(
    dtype, double, layout, shape, width
):
    frames = layout(draw(*shape, dtype=dtype)).requires_grad_()
    down, up = weights(width, shape[1], dtype), weights(shape[1], width, dtype)
    ours = gate_frames(frames, torch.sin, down=down, up=up, double=double)
    wanted = plainly(frames, down, up, double)
    torch.testing.assert_close(ours, wanted)
    assert ours.stride() == frames.stride()
    leaves, grad = (frames, *down, *up), draw(*shape, dtype=dtype)
    grad_before = grad.clone()
    ours_back = torch.autograd.grad(ours, leaves, grad)
    torch.testing.assert_close(
        ours_back, torch.autograd.grad(wanted, leaves, grad), atol=1e-4, rtol=1e-5
    )
    assert torch.equal(grad, grad_before)
    with torch.no_grad():
        torch.testing.assert_close(
            gate_frames(frames, torch.sin, down=down, up=up, double=double), wanted
        )


def test_frames_of_any_strides_are_gated():
    tokens = draw(6, 10, 8)[:, 1:].unflatten(1, (3, 3)).permute(0, 3, 1, 2)
    down, up = weights(2, 8), weights(8, 2)
    output = gate_frames(tokens, torch.sin, down=down, up=up)
    torch.testing.assert_close(output, plainly(tokens, down, up))


@pytest.mark.usefixtures("method")
def test_frames_without_gradient_get_none():
    frames, down, up = draw(4, 8, 3, 3), weights(2, 8), weights(8, 2)
    output = gate_frames(frames, torch.sin, down=down, up=up)
    ours = torch.autograd.grad(output.sum(), (*down, *up))
    wanted = torch.autograd.grad(plainly(frames, down, up).sum(), (*down, *up))
    torch.testing.assert_close(ours, wanted)


@pytest.mark.usefixtures("method")
def test_frozen_weights_get_no_gradient_but_the_frames_do():
    frames, down, up = draw(4, 8, 3, 3).requires_grad_(), weights(2, 8), weights(8, 2)
    for one in (*down, *up):
        one.requires_grad_(False)
    output = gate_frames(frames, torch.sin, down=down, up=up)
    (ours,) = torch.autograd.grad(output.square().sum(), frames)
    (wanted,) = torch.autograd.grad(plainly(frames, down, up).square().sum(), frames)
    torch.testing.assert_close(ours, wanted)


@pytest.mark.usefixtures("method")
def test_only_the_input_and_narrow_tensors_are_kept_for_backward():
    frames, down, up = draw(4, 16, 6, 6).requires_grad_(), weights(2, 16), weights(16, 2)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        gate_frames(frames, nn.Identity(), down=down, up=up)
    wide = {one.data_ptr() for one in kept if one.numel() == frames.numel()}
    assert wide == {frames.data_ptr()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("method")
def test_autocast_sets_the_dtype_of_the_products_only(dtype):
    frames = draw(4, 16, 6, 6, dtype=torch.float32).requires_grad_()
    down, up = weights(2, 16, torch.float32), weights(16, 2, torch.float32)
    dtypes = []
    with torch.autocast("cpu", dtype=dtype):
        output = gate_frames(frames, lambda x: dtypes.append(x.dtype) or x.sin(), down=down, up=up)
    assert dtypes == [dtype]
    assert output.dtype == torch.float32
    wanted = plainly(frames, down, up)
    torch.testing.assert_close(output, wanted, atol=0.1, rtol=0.1)
    leaves = (frames, *down, *up)
    with torch.autocast("cpu", dtype=dtype):  # the backward pass inside autocast
        found = torch.autograd.grad(output.sum(), leaves)
    for one, leaf in zip(found, leaves, strict=True):
        assert one.dtype == leaf.dtype and one.isfinite().all()


@pytest.mark.usefixtures("method")
def test_a_second_derivative_raises_an_error_that_names_torch_func():
    frames, down, up = draw(4, 8, 3, 3).requires_grad_(), weights(2, 8), weights(8, 2)
    output = gate_frames(frames, torch.sin, down=down, up=up)
    (gradient,) = torch.autograd.grad(output.sum(), frames, create_graph=True)
    with pytest.raises(RuntimeError, match="take both derivatives with torch.func"):
        gradient.square().sum().backward()


def test_torch_func_takes_a_second_derivative():
    down, up = weights(2, 8), weights(8, 2)

    def total(frames: Tensor) -> Tensor:
        return gate_frames(frames, torch.sin, down=down, up=up).sum()

    def slope(frames: Tensor) -> Tensor:
        return torch.func.grad(total)(frames).square().sum()

    frames = draw(2, 8, 3, 3)
    step = 1e-6 * draw(2, 8, 3, 3)
    change = (torch.func.grad(slope)(frames) * step).sum()
    torch.testing.assert_close(slope(frames + step) - slope(frames), change, rtol=1e-3, atol=0)


def test_an_exported_gate_accepts_batches_of_any_size(monkeypatch):
    monkeypatch.setattr(gating, "_MIN_TRAINING_SIZE", 2**12)  # 3 frames are below, 4 above
    gate = Gate(nn.Identity(), channels=16).eval()
    clips = draw(3, 1, 16, 9, 9, dtype=torch.float32)
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(gate, (clips,), dynamic_shapes=({0: batch},)).module()
    for size in (1, 2, 9):
        clips = draw(size, 1, 16, 9, 9, dtype=torch.float32)
        torch.testing.assert_close(program(clips), gate(clips))


def test_an_empty_batch_has_gradients():
    frames, down, up = draw(0, 8, 3, 3).requires_grad_(), weights(2, 8), weights(8, 2)
    gate_frames(frames, torch.sin, down=down, up=up).sum().backward()
    assert frames.grad is not None and frames.grad.shape == frames.shape


@pytest.mark.slow
def test_modules_compile_as_one_graph_for_any_batch():
    # In another process: the type checks of the tests cannot be compiled.
    script = """
import torch
from motionaware.temporal.names import site_maker
for name in ("m2a", "m2a(start=identity)", "m2a(heads=2, cosine=True)", "m2a(causal=true)"):
    module = site_maker(name)(channels=16, num_frames=4)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (2, 3):
        clips = torch.randn(batch, 4, 16, 5, 5, requires_grad=True)
        output, wanted = compiled(clips), module(clips)
        torch.testing.assert_close(output, wanted)
        ours, = torch.autograd.grad(output.square().sum(), clips)
        theirs, = torch.autograd.grad(wanted.square().sum(), clips)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("change", ["hook", "another layer"])
def test_replaced_or_hooked_layers_of_a_gate_are_called(change):
    module = Gate(nn.Identity(), channels=16)
    ran = []
    if change == "hook":
        module.up.register_forward_hook(lambda *_: ran.append(1))
    else:

        class Counted(nn.Conv2d):
            def forward(self, input: Tensor) -> Tensor:
                ran.append(1)
                return super().forward(input)

        module.up = Counted(2, 16, 1)
    module(draw(2, 4, 16, 5, 5, dtype=torch.float32))
    assert ran
