import pytest
import torch
from torch import nn

from motionaware import insert
from motionaware.models.backbones import open_backbone
from motionaware.models.input_layout import Host
from motionaware.models.layout_adapters import ADAPTERS

T = 4


@pytest.mark.parametrize("layout", ["frames", "maps", "tokens", "volumes", "volumemaps"])
def test_each_adapter_converts_its_layout_to_clips_and_back(layout):
    b, c, h = 2, 5, 3
    clips = torch.arange(b * T * c * h * h).unflatten(0, (b, T, c, h, h)).float()
    module_inputs = []

    class Add(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            module_inputs.append(clips)
            return clips + 1

    host = nn.Identity()
    host.add_module("temporal", Add())
    given = {
        "frames": clips.flatten(0, 1),
        "maps": clips.flatten(0, 1).movedim(1, -1),
        "tokens": clips.flatten(0, 1).flatten(2).movedim(1, -1),
        "volumes": clips.movedim(2, 1),
        "volumemaps": clips.movedim(2, -1),
    }[layout]
    host.register_forward_pre_hook(ADAPTERS[layout](Host("", layout, c, T)))
    assert torch.equal(host(given), given + 1)
    assert torch.equal(module_inputs[0], clips)


def test_prefix_tokens_pass_unchanged():
    host = nn.Identity()
    host.add_module("temporal", nn.ReLU())
    host.register_forward_pre_hook(ADAPTERS["tokens"](Host("", "tokens", 8, T, num_prefix=2)))
    tokens = -torch.rand(T, 2 + 9, 8)
    assert torch.equal(host(tokens)[:, :2], tokens[:, :2])
    assert host(tokens)[:, 2:].abs().sum() == 0


def test_tokens_of_clips_are_arranged_by_the_grid_in_the_arguments():
    module_inputs = []

    class Double(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            module_inputs.append(clips)
            return clips * 2

    class Block(nn.Module):
        def forward(self, tokens: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
            return tokens

    host = Block()
    host.add_module("temporal", Double())
    host.register_forward_pre_hook(ADAPTERS["volumetokens"](Host("", "volumetokens", 8, 2, 1)))
    tokens = torch.rand(3, 1 + 2 * 4 * 5, 8)
    output = host(tokens, (2, 4, 5))
    assert torch.equal(module_inputs[0], tokens[:, 1:].unflatten(1, (2, 4, 5)).movedim(-1, 2))
    assert torch.equal(output, torch.cat([tokens[:, :1], 2 * tokens[:, 1:]], dim=1))


def test_modules_in_a_vision_transformer_get_its_patches_as_images():
    shapes = []

    class ShapeRecorder(nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(clips.shape))
            return clips

    plain = open_backbone("test_vit").network.eval()
    network = insert(plain, lambda **_: ShapeRecorder(), num_frames=T, where="blocks.1")
    network(torch.rand(2 * T, 3, 160, 160))
    assert shapes == [(2, T, 64, 10, 10)]
