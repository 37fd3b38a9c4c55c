"""No cache of a library keeps a fake tensor of a shape trace."""

import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from motionaware import insert

_CACHED_IN_DICT: dict[int, Tensor] = {}
_CACHED_IN_LIST: list[Tensor] = []
_CACHED_IN_VARIABLE: tuple[int, Tensor] | None = None


@functools.lru_cache(maxsize=2)
def positions(number: int) -> Tensor:
    return torch.arange(number).float()


@functools.cache
def doubled_weight(layer: nn.Conv2d) -> Tensor:
    return layer.weight * 2


def cached_in_a_dict(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    return _CACHED_IN_DICT.setdefault(tokens.shape[1], tokens.new_ones(16))


def cached_in_a_list(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    if not _CACHED_IN_LIST:
        _CACHED_IN_LIST.append(tokens.new_ones(16))
    return _CACHED_IN_LIST[0]


def cached_in_a_variable(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    global _CACHED_IN_VARIABLE
    if _CACHED_IN_VARIABLE is None:
        _CACHED_IN_VARIABLE = tokens.shape[1], tokens.new_ones(16)
    return _CACHED_IN_VARIABLE[1]


def cached_in_a_default(layer: nn.Conv2d, tokens: Tensor, cache: dict[int, Any] = {}) -> Tensor:  # noqa: B006
    return cache.setdefault(tokens.shape[1], [tokens.new_ones(16)])[0]


def cached_in_an_attribute(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    if not hasattr(cached_in_an_attribute, "kept"):
        cached_in_an_attribute.kept = tokens.new_ones(16)  # pyright: ignore
    return cached_in_an_attribute.kept  # pyright: ignore


def cached_in_a_class(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    if Embedding.last is None:
        Embedding.last = tokens.new_ones(16)
    return Embedding.last


def _with_a_closure() -> Callable[[nn.Conv2d, Tensor], Tensor]:
    cache: dict[int, Tensor] = {}

    def cached_in_a_closure(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
        return cache.setdefault(tokens.shape[1], tokens.new_ones(16))

    return cached_in_a_closure


CACHES = {
    "lru_cache, from sizes": lambda layer, tokens: positions(tokens.shape[1])[:, None],
    "lru_cache, of a layer": lambda layer, tokens: doubled_weight(layer).mean(),
    "a dict": cached_in_a_dict,
    "a list": cached_in_a_list,
    "a variable": cached_in_a_variable,
    "a default argument": cached_in_a_default,
    "an attribute of a function": cached_in_an_attribute,
    "an attribute of a class": cached_in_a_class,
    "a closure": _with_a_closure(),
}


class Embedding(nn.Module):
    last: Tensor | None = None

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.patches = nn.Conv2d(3, 16, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        kinds = CACHES if self.kind == "all" else (self.kind,)
        return tokens + sum(CACHES[kind](self.patches, tokens) for kind in kinds)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    blocks = [nn.TransformerEncoderLayer(16, 2, 16, batch_first=True) for _ in range(2)]
    return nn.Sequential(Embedding(kind), nn.Sequential(*blocks))


def fake_tensors() -> list[object]:
    return [thing for thing in gc.get_objects() if type(thing) is FakeTensor]


@pytest.fixture
def new_fake_tensors() -> Callable[[], list[object]]:
    """Return a function that lists the fake tensors made since; earlier tests may keep some."""
    earlier = fake_tensors()  # kept alive, so that no identity is used again

    def new() -> list[object]:
        known = set(map(id, earlier))
        return [thing for thing in fake_tensors() if id(thing) not in known]

    return new


def test_no_kind_of_cache_keeps_a_fake_tensor(new_fake_tensors):
    insert(network("all"), "tsm", num_frames=2, image_size=32)
    assert not new_fake_tensors()
    output = network("all")(torch.rand(2, 3, 32, 32))
    assert type(output) is Tensor
    assert output.isfinite().all()


def test_a_failed_trace_leaves_no_fake_tensor(new_fake_tensors):
    _CACHED_IN_DICT.clear()
    with pytest.raises(ValueError, match="does not take clips"):
        insert(network("a dict"), "tsm", num_frames=2, image_size=4)
    assert not new_fake_tensors()
    assert not _CACHED_IN_DICT


def test_a_list_of_a_user_s_hook_keeps_no_output_of_the_trace():
    collected = []
    plain = network("a dict")
    plain.get_submodule("0").register_forward_hook(
        lambda module, inputs, output: collected.append(output)
    )
    insert(plain, "tsm", num_frames=2, image_size=32)
    assert collected == []
    plain(torch.rand(2, 3, 32, 32))
    assert [type(output) for output in collected] == [Tensor]


def test_a_cached_constant_holds_real_values_after_tracing():
    plain = network("lru_cache, from sizes")
    positions.cache_clear()
    insert(plain, "tsm", num_frames=2, image_size=32)
    cached = positions(16)
    assert positions.cache_info().hits == 1
    assert torch.equal(cached, torch.arange(16).float())


def test_a_new_dinov3_gives_real_tensors_after_insertion_into_another_one(
    make_transformer: Callable[..., nn.Module],
):
    def make_dinov3() -> nn.Module:
        return make_transformer("DINOv3ViTModel", "DINOv3ViTConfig", image_size=56, patch_size=8)

    insert(make_dinov3(), "tsm", num_frames=4)
    assert type(make_dinov3()(torch.rand(1, 3, 56, 56)).last_hidden_state) is Tensor


def test_a_cache_with_layers_as_keys_keeps_no_fake_copy(
    make_transformer: Callable[..., nn.Module],
):
    def make_beit() -> nn.Module:
        options = {"image_size": 32, "patch_size": 8, "use_relative_position_bias": True}
        return make_transformer("BeitModel", "BeitConfig", **options)

    insert(make_beit(), "tsm", num_frames=4)
    assert type(make_beit()(torch.rand(1, 3, 32, 32)).last_hidden_state) is Tensor
