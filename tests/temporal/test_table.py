"""The contract that every temporal module keeps, run over the whole table."""

import io

import pytest
import torch
from torch import Tensor, nn

from motionaware.temporal import TEMPORAL, site_maker

NAMES = [*sorted(TEMPORAL), "m2a,tsm", "m2a(reduction=2, last=zero)"]


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return make(request.param)


def make(name: str, *, channels: int = 16, num_frames: int = 4) -> nn.Module:
    maker = site_maker(name)
    assert maker is not None
    return maker(channels=channels, num_frames=num_frames)


def clips(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 4, 16, 6, 6)), generator=torch.Generator().manual_seed(1))


def test_shape_and_dtype_are_kept(module):
    assert module(clips()).shape == (2, 4, 16, 6, 6)
    assert module.double()(clips().double()).dtype == torch.float64


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (13, 2)])
def test_any_size_passes(module, size):
    assert module(clips(2, 4, 16, *size)).shape == (2, 4, 16, *size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_frames", [1, 2, 3, 16])
def test_any_number_of_frames_passes(name, num_frames):
    module = make(name, num_frames=num_frames)
    output = module(clips(2, num_frames, 16, 4, 4))
    assert output.isfinite().all()


def test_clips_of_one_batch_do_not_mix(module):
    module.eval()
    both = module(clips())
    for index in range(2):
        alone = module(clips()[index : index + 1])
        torch.testing.assert_close(both[index : index + 1], alone, atol=1e-5, rtol=1e-5)


def test_the_order_of_frames_matters(module):
    module.eval()
    forward, backward = module(clips()), module(clips().flip(1)).flip(1)
    same = torch.allclose(forward, backward, atol=1e-4)
    # Plain attention treats frames as a set: the paper's ablation without motion.
    assert same == (
        isinstance(getattr(module, "inner", None), type(make("attention").inner))
        and isinstance(module.inner.motion, nn.Identity)
    )


def test_gradients_reach_the_input_and_every_parameter(module):
    x = clips().requires_grad_()
    module(x).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_evaluation_is_deterministic(module):
    module.eval()
    assert torch.equal(module(clips()), module(clips()))


def test_bf16_autocast_stays_close_to_float32(module):
    module.eval()
    exact = module(clips())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(clips())
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)


def test_channels_last_frames_give_the_same_numbers(module):
    module.eval()
    x = clips()
    last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(module(last), module(x), atol=1e-5, rtol=1e-5)


def test_a_still_constant_clip_gives_finite_numbers_and_gradients(module):
    x = torch.zeros(2, 4, 16, 6, 6, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_it_exports(module):
    module.eval()
    program = torch.export.export(module, (clips(),))
    torch.testing.assert_close(program.module()(clips()), module(clips()))


def test_its_state_survives_a_round_trip(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    before = module(clips())
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    module.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(module(clips()), before)


def test_its_repr_fits_a_screen(module):
    lines = repr(module).splitlines()
    assert len(lines) < 20
    assert max(map(len, lines)) < 100
