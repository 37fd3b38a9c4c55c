"""Tokens of frames that are not square: the grid a module sees, in every way a network runs."""

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from motionaware import insert
from motionaware.models.insertion import ADAPTERS, twin
from motionaware.models.shape_tracing import Host
from motionaware.models.site_hooks import sites
from motionaware.temporal.names import site_maker
from motionaware.temporal.spatial import compares_places
from motionaware.temporal.table import TEMPORAL

T = 4
SIZES = [(64, 256), (96, 160), (128, 128), (256, 64)]


class Look(nn.Module):
    """Notes the grids it is given; takes the place of a module that compares places."""

    seen: list[tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def forward(self, clips: Tensor) -> Tensor:
        self.seen.append(tuple(clips.shape[-2:]))
        return clips


def vit(temporal: Any = "tea") -> nn.Module:
    torch.manual_seed(0)
    network = timm.create_model("test_vit", dynamic_img_size=True)
    return insert(network, temporal, num_frames=T, image_size=160).eval()


def looks(network: nn.Module) -> list[Look]:
    return [one for one in network.modules() if isinstance(one, Look)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("call", ["__call__", "forward", "forward_features"])
def test_a_module_sees_the_true_grid(call, size):
    network = vit(lambda **_: Look())
    getattr(network, call)(torch.rand(T, 3, *size))
    grid = size[0] // 16, size[1] // 16
    assert [one.seen for one in looks(network)] == [[grid]] * 6


def test_a_network_made_for_oblong_frames_is_inserted_into_without_a_size():
    network = timm.create_model("test_vit", img_size=(64, 256)).eval()
    insert(network, lambda **_: Look(), num_frames=T)
    network(torch.rand(T, 3, 64, 256))
    assert looks(network)[0].seen == [(4, 16)]


@pytest.mark.parametrize("size", [(64, 256), [64, 256]])
def test_a_size_may_be_a_pair(size):
    network = timm.create_model("test_vit", img_size=(64, 256))
    assert len(sites(insert(network, "tsm", num_frames=T, image_size=tuple(size)))) == 6


@pytest.mark.parametrize("size", [0, (64, 0), (-1, 64)])
def test_a_size_below_one_pixel_is_refused(size):
    with pytest.raises(ValueError, match="height and width are pixels and start at 1"):
        insert(timm.create_model("test_vit"), "tsm", num_frames=T, image_size=size)


def test_maps_of_oblong_frames_are_told_from_channels():
    for name, layout in (("test_convnext", "frames"), ("test_mambaout", "maps")):
        network = timm.create_model(name)
        insert(network, lambda **_: Look(), num_frames=T, image_size=(64, 128)).eval()
        network(torch.rand(T, 3, 64, 128))
        h, w = looks(network)[0].seen[0]
        assert (layout, w) == (layout, 2 * h)


def test_tokens_that_fit_no_grid_are_refused_where_a_module_compares_places():
    host = Host("blocks.0", "tokens", 8, T)
    tokens = torch.rand(T, 6, 8)
    for temporal, words in (("tea", "6 tokens came to site blocks.0"), ("tsm", None)):
        layer = nn.Identity()
        maker = site_maker(temporal)
        assert maker is not None
        layer.add_module("temporal", maker(channels=8, num_frames=T))
        layer.register_forward_pre_hook(ADAPTERS["tokens"](host))
        if words is None:
            assert layer(tokens).shape == tokens.shape
        else:
            with pytest.raises(ValueError, match=words):
                layer(tokens)


def test_dropped_tokens_are_refused_where_a_module_compares_places():
    network = vit()
    first = network.get_submodule("blocks.1")
    first.register_forward_hook(lambda module, inputs, output: output[:, :-7])
    with pytest.raises(ValueError, match="57 tokens came to site blocks.2, and no grid fits maps"):
        network(torch.rand(T, 3, 64, 256))


def test_it_compiles_and_exports_with_oblong_frames():
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


def test_threads_with_frames_of_different_sizes_do_not_disturb_one_another():
    network = vit()
    frames = {size: torch.rand(T, 3, *size) for size in ((64, 256), (128, 128))}
    with torch.no_grad():
        wanted = {size: network(one) for size, one in frames.items()}
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


def test_copies_and_twins_see_the_true_grid():
    network, frames = vit(), torch.rand(T, 3, 64, 256)
    wanted = network(frames)
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        twin(network, num_frames=T),
    ):
        assert torch.equal(other(frames), wanted)


def test_checkpointed_blocks_see_the_grid_of_their_forward_pass_or_are_refused():
    network = vit().train()
    network.set_grad_checkpointing(True)  # pyright: ignore
    network(torch.rand(T, 3, 64, 256)).sum().backward()
    scores = [network(torch.rand(T, 3, *size)).sum() for size in ((64, 256), (128, 128))]
    with pytest.raises(ValueError, match="several grids fit"):
        (scores[0] + scores[1]).backward()


WHOLE = {"m2a", "motion", "attention", "tam", "tam@official", "tsm"}


@pytest.mark.parametrize("name", sorted(TEMPORAL.keys() - {"identity", "tdn_stem"}))
def test_modules_that_need_no_grid_give_the_same_for_places_in_any_order(name):
    torch.manual_seed(0)
    maker = site_maker(name)
    assert maker is not None
    module = maker(channels=16, num_frames=T).eval()
    clips, order = torch.rand(2, T, 16, 4, 8), torch.randperm(32)
    shuffled = clips.flatten(3)[..., order].unflatten(3, (2, 16))
    wanted = module(clips).flatten(3)[..., order].unflatten(3, (2, 16))
    same = torch.allclose(module(shuffled), wanted, atol=1e-5)
    assert compares_places(module) == (name not in WHOLE) == (not same)
