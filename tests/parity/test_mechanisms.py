"""Blocks of the reference code (gebob19/M2A at 312686f) and ours: the same numbers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from motionaware.ops.layout import fold_time, unfold_time
from motionaware.temporal import site_maker

NUMBERS = Path(__file__).parent / "numbers"
OURS = {
    "motion": "motion(reduction=4)",
    "attn": "attention(reduction=4)",
    "motion+attn": "m2a(reduction=4)",
    "tsm": "tsm(fold=4)",
}


@pytest.mark.parametrize("reference", OURS)
def test_a_block_gives_the_reference_outputs_and_all_its_gradients(reference):
    numbers = load_file(NUMBERS / f"{reference}-a.safetensors")
    maker = site_maker(OURS[reference])
    assert maker is not None
    block = maker(channels=16, num_frames=8)
    block.load_state_dict(
        {_ours(key): value for key, value in numbers.items() if key.startswith("param.")}
    )
    clips = unfold_time(numbers["input"], num_frames=8).requires_grad_()

    output = block(clips)
    output.backward(unfold_time(numbers["grad_output"], num_frames=8))

    assert clips.grad is not None
    torch.testing.assert_close(fold_time(output), numbers["output"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fold_time(clips.grad), numbers["grad_input"], rtol=1e-5, atol=1e-5)
    gradients = {_ours(key): value for key, value in numbers.items() if key.startswith("grad.")}
    assert gradients.keys() == dict(block.named_parameters()).keys()
    for name, parameter in block.named_parameters():
        # Sums over 2304 values: 1e-5 of the largest gradient of each tensor.
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=1e-5 * scale)


def _ours(key: str) -> str:
    return key.partition(".")[2].replace("conv_", "")
