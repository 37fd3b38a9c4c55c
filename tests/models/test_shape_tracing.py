"""Networks with temporal modules under tools that trace them, and in other memory formats."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.video import r3d_18

from motionaware.models.insertion import insert
from motionaware.models.recognizer import create_model

CLIPS = torch.export.Dim("clips", min=1, max=64)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return insert(resnet18(), name, num_frames=4, stages=(1, 2)).eval()


def frames(clips: int) -> Tensor:
    return torch.rand(4 * clips, 3, 32, 32, generator=torch.Generator().manual_seed(clips))


@pytest.mark.slow
@pytest.mark.parametrize("host", ["network", "recognizer"])
def test_networks_with_modules_trace_in_silence_to_the_same_numbers(host):
    # In another process: the type checks of the tests cannot read the sizes that a trace gives.
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
def test_sizes_of_a_variable_number_of_clips_do_not_grow_from_site_to_site(name):
    plain, longest = network(name), 0

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal longest
        longest = max(longest, *(len(str(size)) for size in output.shape))

    handles = [module.register_forward_hook(measure) for module in plain.modules()]
    shapes = ({0: 4 * CLIPS},)
    program = torch.export.export(plain, (frames(2),), dynamic_shapes=shapes).module()
    for handle in handles:
        handle.remove()
    assert longest < 20, "such sizes double from site to site, and with them the time of an export"
    for clips in (2, 3):
        torch.testing.assert_close(program(frames(clips)), plain(frames(clips)))


def test_a_wrong_number_of_frames_is_refused_at_export():
    with pytest.raises(ValueError, match="6 images do not make whole clips of 4 frames"):
        torch.export.export(network("m2a"), (frames(2)[:6],))


@pytest.mark.parametrize(
    ("make", "shape", "layout"),
    [
        (resnet18, (8, 3, 32, 32), torch.channels_last),
        (r3d_18, (1, 3, 4, 32, 32), torch.channels_last_3d),
    ],
)
def test_a_network_with_modules_of_other_kernels_takes_its_own_channels_last(make, shape, layout):
    torch.manual_seed(0)
    plain = insert(make(), "m2a,action", num_frames=4).eval().double()
    x = torch.rand(*shape, dtype=torch.float64)
    before = plain(x)
    after = plain.to(memory_format=layout)(x)
    assert (after - before).abs().max() < 1e-9 * before.abs().max()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.channels_last_3d])
@pytest.mark.parametrize("backbone", ["resnet18_quarter", "i3d_resnet18"])
def test_a_recognizer_takes_either_channels_last_format(backbone, layout):
    model = create_model(backbone, temporal="action", num_classes=3, num_frames=4).eval()
    clips = frames(2).unflatten(0, (2, 4))
    before = model(clips)
    assert model.to(memory_format=layout) is model
    kernels = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in kernels:
            assert parameter.is_contiguous(memory_format=kernels[parameter.ndim])
    torch.testing.assert_close(model(clips), before, rtol=1e-4, atol=1e-4)
    assert model.to(torch.float64).head.weight.dtype == torch.float64
