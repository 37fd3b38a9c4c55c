"""The grid that a module gets for tokens of frames that are not square."""

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from motionaware import insert
from motionaware.models.input_layout import Host
from motionaware.models.insertion import copy_sharing_tensors
from motionaware.models.layout_adapters import ADAPTERS
from motionaware.temporal.names import site_maker
from motionaware.temporal.spatial import compares_places
from motionaware.temporal.table import TEMPORAL

T = 4
SIZES = [(64, 256), (96, 160), (128, 128), (256, 64)]


class GridRecorder(nn.Module):
    """Returns its input and records height and width; it counts as one that compares positions."""

    grids: list[tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.grids = []

    def forward(self, clips: Tensor) -> Tensor:
        self.grids.append(tuple(clips.shape[-2:]))
        return clips


def vit(temporal: Any = "tea") -> nn.Module:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", dynamic_img_size=True)
    return insert(network, temporal, num_frames=T, image_size=160).eval()


def recorders(network: nn.Module) -> list[GridRecorder]:
    return [module for module in network.modules() if isinstance(module, GridRecorder)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("call", ["__call__", "forward", "forward_features"])
def test_a_module_gets_the_true_grid(call, size):
    network = vit(lambda **_: GridRecorder())
    getattr(network, call)(torch.rand(T, 3, *size))
    grid = size[0] // 16, size[1] // 16
    assert [recorder.grids for recorder in recorders(network)] == [[grid]] * 6


def test_insert_reads_the_frame_size_of_a_network_for_oblong_frames():
    network = timm.create_model("test_vit", img_size=(64, 256)).eval()
    insert(network, lambda **_: GridRecorder(), num_frames=T)
    network(torch.rand(T, 3, 64, 256))
    assert recorders(network)[0].grids == [(4, 16)]


def test_tokens_without_a_grid_raise_an_error_only_if_the_module_compares_positions():
    host = Host("blocks.0", "tokens", 8, T)
    tokens = torch.rand(T, 6, 8)
    for temporal, message in (("tea", "site blocks.0 received 6 tokens"), ("tsm", None)):
        layer = nn.Identity()
        maker = site_maker(temporal)
        assert maker is not None
        layer.add_module("temporal", maker(channels=8, num_frames=T))
        layer.register_forward_pre_hook(ADAPTERS["tokens"](host))
        if message is None:
            assert layer(tokens).shape == tokens.shape
        else:
            with pytest.raises(ValueError, match=message):
                layer(tokens)


def test_dropped_tokens_raise_an_error_if_the_module_compares_positions():
    network = vit()
    first = network.get_submodule("blocks.1")
    first.register_forward_hook(lambda module, inputs, output: output[:, :-7])
    with pytest.raises(ValueError, match="site blocks.2 received 57 tokens, and no grid fits maps"):
        network(torch.rand(T, 3, 64, 256))


def test_networks_compile_and_export_with_oblong_frames():
    script = """
import timm, torch
from motionaware import insert
torch.manual_seed(0)
network = timm.create_model("test_vit", dynamic_img_size=True)
insert(network, "tea", num_frames=4).eval()
compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
with torch.no_grad():
    for size in ((64, 256), (128, 128), (64, 256)):
        frames = torch.rand(4, 3, *size)
        torch.testing.assert_close(compiled(frames), network(frames))
    frames = torch.rand(4, 3, 64, 256)
    program = torch.export.export(network, (frames,))
    torch.testing.assert_close(program.module()(frames), network(frames))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_with_different_frame_sizes_do_not_affect_each_other():
    network = vit()
    frames = {size: torch.rand(T, 3, *size) for size in ((64, 256), (128, 128))}
    with torch.no_grad():
        wanted = {size: network(images) for size, images in frames.items()}
    wrong: list[tuple[int, int]] = []

    def work(size: tuple[int, int]) -> None:
        with torch.no_grad():
            for _ in range(10):
                if not torch.allclose(network(frames[size]), wanted[size], atol=1e-5):
                    wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_copies_get_the_true_grid():
    network, frames = vit(), torch.rand(T, 3, 64, 256)
    wanted = network(frames)
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        copy_sharing_tensors(network, num_frames=T),
    ):
        assert torch.equal(other(frames), wanted)


def test_checkpointed_blocks_get_the_grid_of_their_forward_pass_or_raise_an_error():
    network = vit().train()
    network.set_grad_checkpointing(True)  # pyright: ignore
    network(torch.rand(T, 3, 64, 256)).sum().backward()
    scores = [network(torch.rand(T, 3, *size)).sum() for size in ((64, 256), (128, 128))]
    with pytest.raises(ValueError, match="several grids fit"):
        (scores[0] + scores[1]).backward()


WITHOUT_GRID = {"m2a", "motion", "attention", "tam", "tam@official", "tsm"}


@pytest.mark.parametrize("name", sorted(TEMPORAL.keys() - {"identity", "tdn_stem"}))
def test_modules_that_need_no_grid_ignore_the_order_of_positions(name):
    torch.manual_seed(0)
    maker = site_maker(name)
    assert maker is not None
    module = maker(channels=16, num_frames=T).eval()
    clips, order = torch.rand(2, T, 16, 4, 8), torch.randperm(32)
    shuffled = clips.flatten(3)[..., order].unflatten(3, (2, 16))
    wanted = module(clips).flatten(3)[..., order].unflatten(3, (2, 16))
    same = torch.allclose(module(shuffled), wanted, atol=1e-5)
    assert compares_places(module) == (name not in WITHOUT_GRID) == (not same)


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (24, 40)])
@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("ViTModel", "ViTConfig"),
        ("CLIPVisionModel", "CLIPVisionConfig"),
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig"),
        ("DINOv3ViTModel", "DINOv3ViTConfig"),
    ],
)
def test_modules_get_the_true_grid_with_interpolated_position_embeddings(
    model, config, size, make_transformer: Callable[..., nn.Module]
):
    network = make_transformer(model, config, image_size=32, patch_size=8)
    insert(network, lambda **_: GridRecorder(), num_frames=T)
    options = {"interpolate_pos_encoding": True} if "DINO" not in model.upper() else {}
    network(pixel_values=torch.rand(T, 3, *size), **options)
    for recorder in recorders(network):
        assert recorder.grids == [(size[0] // 8, size[1] // 8)]


def test_the_grid_in_the_arguments_of_a_block_is_used(make_transformer: Callable[..., nn.Module]):
    options = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4}
    network = make_transformer(
        "SwinModel", "SwinConfig", small=False, image_size=32, patch_size=2, **options
    )
    insert(network, lambda **_: GridRecorder(), num_frames=T)
    network(torch.rand(T, 3, 16, 64), interpolate_pos_encoding=True)
    assert recorders(network)[0].grids == [(8, 32)]
