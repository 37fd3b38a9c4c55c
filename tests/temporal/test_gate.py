import pytest
import torch
from torch import Tensor, nn

from motionaware.temporal.gate import Gate


def gate(**options) -> Gate:
    torch.manual_seed(0)
    return Gate(nn.Tanh(), channels=16, **options)


def clips() -> Tensor:
    return torch.rand(2, 4, 16, 5, 5, generator=torch.Generator().manual_seed(1)) + 0.1


def test_the_factor_lies_between_one_and_two():
    factor = gate()(clips()) / clips()
    assert factor.min() > 1
    assert factor.max() < 2
    assert abs(factor.mean() - 1.5) < 0.1


@pytest.mark.parametrize("combine", ["multiply", "add"])
def test_a_gate_can_start_as_the_exact_identity(combine):
    assert torch.equal(gate(start="identity", combine=combine)(clips()), clips())


@pytest.mark.parametrize("combine", ["multiply", "add"])
def test_a_gate_that_starts_as_the_identity_trains_all_parameters_from_the_second_step(combine):
    module = gate(start="identity", combine=combine)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    trained = []
    for _ in range(2):
        optimizer.zero_grad()
        module(clips()).square().mean().backward()
        trained.append(
            {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        )
        optimizer.step()
    assert trained[0] == {"up.weight", "up.bias"}
    assert trained[1] == set(dict(module.named_parameters()))


def test_a_gate_that_starts_as_the_identity_can_reach_the_factors_0_and_2():
    module = gate(start="identity")
    for bias, factor in ((-50.0, 0.0), (50.0, 2.0)):
        assert module.up.bias is not None
        nn.init.constant_(module.up.bias, bias)
        torch.testing.assert_close(module(clips()), factor * clips())


def test_a_gate_can_add_instead_of_multiplying():
    module = gate(combine="add")
    added = module(clips()) - clips()
    other = module(clips() + 0) - clips()
    torch.testing.assert_close(added, other)
    frames = clips().flatten(0, 1)
    wide = module.up(module.inner(module.down(frames)))
    torch.testing.assert_close(added.flatten(0, 1), wide, atol=1e-6, rtol=1e-5)
