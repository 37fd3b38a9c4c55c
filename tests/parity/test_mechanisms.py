"""Blocks of the reference code (gebob19/M2A at 312686f) and ours: the same numbers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from motionaware.models.official_checkpoints import translate_gate
from motionaware.ops.layout import fold_time, unfold_time
from motionaware.temporal.names import site_maker

NUMBERS = Path(__file__).parent / "numbers"
OURS = {
    "motion": "motion(reduction=4)",
    "attn": "attention(reduction=4)",
    "motion+attn": "m2a(reduction=4)",
    "tea": "tea@official(reduction=4)",
    "tdn": "tdn@official(reduction=4)",
    "tam": "tam@official(reduction=4)",
    "tea+attn": "tea@official+attention(reduction=4)",
    "tdn+attn": "tdn@official+attention(reduction=4)",
    "motion+tam": "motion+tam@official(reduction=4)",
    "tea+tam": "tea@official+tam@official(reduction=4)",
    "tdn+tam": "tdn@official+tam@official(reduction=4)",
    "patch_mattn": "patch@official(reduction=4)",
    "tsm": "tsm(fold=4)",
}


def test_every_block_of_the_reference_is_compared():
    assert {path.name for path in NUMBERS.glob("*-a.safetensors")} == {
        f"{reference}-a.safetensors" for reference in OURS
    }


@pytest.mark.parametrize("reference", OURS)
def test_a_block_gives_the_reference_outputs_and_all_its_gradients(reference):
    numbers = load_file(NUMBERS / f"{reference}-a.safetensors")
    # The reference's own rounding shows in its patches: the last frame's motion all but cancels the
    # frame, and the norm that follows enlarges what is left. So we add no rounding of ours there,
    # and look at the difference beside the largest value.
    by_largest = reference == "patch_mattn"
    if by_largest:
        numbers = {key: value.double() for key, value in numbers.items()}
    maker = site_maker(OURS[reference])
    assert maker is not None
    block = maker(channels=16, num_frames=8).to(numbers["input"].dtype).eval()
    block.load_state_dict(_part(numbers, "param."))
    clips = unfold_time(numbers["input"], num_frames=8).requires_grad_()

    output = block(clips)
    output.backward(unfold_time(numbers["grad_output"], num_frames=8))

    assert clips.grad is not None
    _assert_alike(fold_time(output), numbers["output"], by_largest=by_largest)
    _assert_alike(fold_time(clips.grad), numbers["grad_input"], by_largest=by_largest)
    gradients = _part(numbers, "grad.")
    assert gradients.keys() == dict(block.named_parameters()).keys()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None
        # Sums over 2304 values: 1e-5 of the largest gradient of each tensor.
        _assert_alike(parameter.grad, gradients[name], by_largest=True)


def _assert_alike(ours: Tensor, theirs: Tensor, *, by_largest: bool) -> None:
    if by_largest:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())
    else:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def _part(numbers: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin so, under our names."""
    return {
        translate_gate(key.removeprefix(prefix)): value
        for key, value in numbers.items()
        if key.startswith(prefix)
    }
