"""The contract of every temporal module, tested over the table and its combinations."""

import io
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from motionaware.temporal.names import site_maker
from motionaware.temporal.table import TEMPORAL, Mechanism


def names_with_role(*roles: str) -> list[str]:
    """Return the names of the table that have one of these roles."""
    return [
        name
        for name, entry in TEMPORAL.items()
        if isinstance(entry, Mechanism) and any(getattr(entry, role) for role in roles)
    ]


ALONE = names_with_role("site", "gate") + [n for n, e in TEMPORAL.items() if isinstance(e, str)]
COMBINATIONS = [
    f"{motion}+{attention}"
    for motion in names_with_role("motion")
    for attention in names_with_role("attention")
    if attention != "tam@official"  # inside a gate the same as `tam`: test_names.py
]
OPTIONS = [
    "m2a,tsm",
    "tdn,tsm",
    "m2a(reduction=2, last=zero)",
    "m2a(temperature=0.5)",
    "m2a(cosine=True, temperature=0.1)",
    "m2a(heads=2)",
    "m2a(skip=false)",
    "m2a(both_directions=True)",
    "m2a(start=identity)",
    "m2a(combine=add)",
    "m2a(combine=add, start=identity)",
    "motion+identity(combine=add)",
    "attention(heads=2, cosine=True)",
    "patch(patch_size=3)",
    "tea(reduction=4)",
]
CAUSAL = [
    "m2a(causal=true)",
    "m2a(causal=true, last=zero, heads=2, cosine=True)",
    "m2a(causal=true, skip=false)",
    "motion(causal=true)",
    "attention(causal=true)",
    "motion+identity(causal=true)",
    "tsm(causal=true)",
    "tea(causal=true)",
    "tea+attention(causal=true)",
    "tdn(causal=true)",
    "tdn+attention(causal=true)",
    "m2a(causal=true),tsm(causal=true)",
]
NAMES = ALONE + COMBINATIONS + OPTIONS + CAUSAL

# Attention without motion ignores the order of frames: the paper's ablation.
SETS = {"attention", "attention(heads=2, cosine=True)"}
# TDN's two directions share their weights: a reversed clip gives the reversed output (see tdn.py).
BACKWARDS_ALIKE = {"tdn", "tdn+attention", "tdn+identity"}
# TAM's kernels read all frames at once, so the number of frames is fixed.
ONE_LENGTH = {name for name in NAMES if "tam" in name}
CHANNELS = {"tdn_stem": 3}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def module(name: str) -> nn.Module:
    return make(name)


def make(name: str, *, num_frames: int = 4) -> nn.Module:
    torch.manual_seed(0)
    maker = site_maker(name)
    assert maker is not None
    return maker(channels=CHANNELS.get(name, 16), num_frames=num_frames)


def clips(name: str, *, t: int = 4, h: int = 6, w: int = 6) -> Tensor:
    shape = (2, t, CHANNELS.get(name, 16), h, w)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_shape_and_dtype_are_kept(name, module):
    x = clips(name)
    assert module(x).shape == x.shape
    assert module.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (13, 2), (8, 8)])
def test_frames_of_any_size_are_accepted(name, module, size):
    x = clips(name, h=size[0], w=size[1])
    output = module(x)
    assert output.shape == x.shape
    assert output.isfinite().all()


@pytest.mark.parametrize("num_frames", [1, 2, 3, 16])
def test_any_number_of_frames_is_accepted(name, num_frames):
    output = make(name, num_frames=num_frames)(clips(name, t=num_frames, h=4, w=4))
    assert output.isfinite().all()


def test_another_number_of_frames_is_accepted_or_an_error_says_what_to_do(name, module):
    x = clips(name, t=5)
    if name in ONE_LENGTH:
        with pytest.raises(ValueError, match="clips of 5 frames, .* make it with num_frames=5"):
            module(x)
    else:
        assert module(x).shape == x.shape


def test_clips_of_one_batch_do_not_mix(name, module):
    module.eval()
    x = clips(name)
    both = module(x)
    for index in range(2):
        alone = module(x[index : index + 1])
        torch.testing.assert_close(both[index : index + 1], alone, atol=1e-5, rtol=1e-5)


def test_the_order_of_frames_matters(name, module):
    nonzero_gate(name, module).double()
    order = torch.tensor([2, 0, 3, 1])
    x = clips(name).double()
    same = torch.allclose(module(x[:, order]), module(x)[:, order], rtol=1e-9, atol=1e-12)
    assert same == (name in SETS)


def test_a_clip_and_its_reverse_give_different_features(name, module):
    nonzero_gate(name, module).double()
    x = clips(name).double()
    same = torch.allclose(module(x.flip(1)), module(x).flip(1), rtol=1e-9, atol=1e-12)
    assert same == (name in SETS | BACKWARDS_ALIKE)


def test_gradients_reach_the_input_and_every_parameter(name, module):
    nonzero_gate(name, module).train()
    x = clips(name).requires_grad_()
    module(x).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def nonzero_gate(name: str, module: nn.Module) -> nn.Module:
    """Return the module in eval mode; a gate that starts as the identity gets nonzero weights."""
    if "start=identity" in name:
        nn.init.normal_(module.get_submodule("up").get_parameter("weight"), std=0.1)
    return module.eval()


def test_evaluation_is_deterministic(name, module):
    module.eval()
    assert torch.equal(module(clips(name)), module(clips(name)))


def test_evaluation_leaves_the_module_as_it_was(name, module):
    before = {key: value.clone() for key, value in module.eval().state_dict().items()}
    fields = {key: set(vars(part)) for key, part in module.named_modules()}
    module(clips(name))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert fields == {key: set(vars(part)) for key, part in module.named_modules()}


def test_bf16_autocast_stays_close_to_float32(name, module):
    module.eval()
    exact = module(clips(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        approximate = module(clips(name))
    torch.testing.assert_close(approximate.float(), exact, atol=0.05, rtol=0.05)


def test_channels_last_frames_give_the_same_numbers(name, module):
    module.eval()
    x = clips(name)
    last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(module(last), module(x), atol=1e-5, rtol=1e-5)


def test_a_still_clip_gives_bounded_gradients(name, module):
    x = clips(name)[:, :1].expand(2, 4, -1, -1, -1).clone().requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 1e3


def test_a_black_clip_gives_finite_numbers_and_gradients(name, module):
    x = torch.zeros_like(clips(name)).requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_it_can_be_exported(name, module):
    module.eval()
    program = torch.export.export(module, (clips(name),))
    torch.testing.assert_close(program.module()(clips(name)), module(clips(name)))


def test_every_module_can_be_traced_without_warnings():
    # In another process: the type checks of the tests cannot read the sizes of a trace.
    script = f"""
import torch, warnings
from motionaware.temporal.names import site_maker
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "`torch.jit.*is deprecated")
for name in {NAMES}:
    channels = {CHANNELS}.get(name, 16)
    module = site_maker(name)(channels=channels, num_frames=4).eval()
    for size in ((1, 1), (5, 5), (6, 8)):
        x = torch.randn(2, 4, channels, *size)
        traced = torch.jit.trace(module, x, check_trace=False)
        torch.testing.assert_close(traced(x), module(x), rtol=1e-4, atol=1e-5)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.channels_last_3d])
def test_both_channels_last_formats_apply_to_all_kernels(name, module, layout):
    module.eval()
    x, kernels = clips(name), {4: torch.channels_last, 5: torch.channels_last_3d}
    before = module(x)
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    module.to(memory_format=layout)
    assert shapes == {key: tensor.shape for key, tensor in module.state_dict().items()}
    for parameter in module.parameters():
        if parameter.ndim in kernels:
            assert parameter.is_contiguous(memory_format=kernels[parameter.ndim])
    torch.testing.assert_close(module(x), before, atol=1e-5, rtol=1e-5)


def test_its_state_dict_restores_it(name, module):
    buffer = io.BytesIO()
    torch.save(module.eval().state_dict(), buffer)
    buffer.seek(0)
    before = module(clips(name))
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(7.0)
    module.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(module(clips(name)), before)


def test_its_repr_fits_a_screen(module):
    lines = repr(module).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize("name", CAUSAL)
def test_a_later_frame_does_not_change_a_causal_modules_earlier_output(name):
    module = make(name).eval()
    x = clips(name, t=6)
    other = torch.cat([x[:, :3], torch.randn(2, 3, 16, 6, 6)], dim=1)
    torch.testing.assert_close(module(x)[:, :3], module(other)[:, :3])
    assert not torch.allclose(module(x)[:, 3:], module(other)[:, 3:])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tam", "temporal 'tam' reads future frames and has no causal variant"),
        ("motion+tam", "temporal 'tam' reads future frames"),
        ("patch", "choose one of attention, identity, motion, tdn, tea, tsm, m2a, or leave causal"),
        ("m2a(both_directions=True)", "has no option 'both_directions' in its causal variant"),
        ("m2a(causal=false)", "has causal=false, but causal=True holds for all modules"),
        ("m2a(causal=maybe)", "has causal='maybe'; choose true or false"),
    ],
)
def test_a_module_without_a_causal_variant_is_an_error(name, message):
    with pytest.raises(ValueError) as error:
        site_maker(name, causal=True)
    assert message in str(error.value)


def test_a_causal_callable_must_have_the_keyword_causal():
    with pytest.raises(ValueError, match="has no keyword 'causal'; add one"):
        site_maker(lambda *, channels, num_frames: nn.Identity(), causal=True)
