import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from motionaware import insert
from motionaware.models.fake_tensors import run_fake
from motionaware.models.site_hooks import sites

_IN_A_DICT: dict[int, Tensor] = {}
_IN_A_LIST: list[Tensor] = []
_IN_A_VARIABLE: tuple[int, Tensor] | None = None


@functools.lru_cache(maxsize=2)
def positions(number: int) -> Tensor:
    return torch.arange(number).float()


@functools.cache
def doubled_weight(layer: nn.Conv2d) -> Tensor:
    return layer.weight * 2


def in_a_dict(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    return _IN_A_DICT.setdefault(tokens.shape[1], tokens.new_ones(16))


def in_a_list(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    if not _IN_A_LIST:
        _IN_A_LIST.append(tokens.new_ones(16))
    return _IN_A_LIST[0]


def in_a_variable(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    global _IN_A_VARIABLE
    if _IN_A_VARIABLE is None:
        _IN_A_VARIABLE = tokens.shape[1], tokens.new_ones(16)
    return _IN_A_VARIABLE[1]


def in_a_default(layer: nn.Conv2d, tokens: Tensor, cache: dict[int, Any] = {}) -> Tensor:  # noqa: B006
    return cache.setdefault(tokens.shape[1], [tokens.new_ones(16)])[0]


def in_an_attribute(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    if not hasattr(in_an_attribute, "kept"):
        in_an_attribute.kept = tokens.new_ones(16)  # pyright: ignore
    return in_an_attribute.kept  # pyright: ignore


def in_a_class(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
    if Embedding.last is None:
        Embedding.last = tokens.new_ones(16)
    return Embedding.last


def _with_a_closure() -> Callable[[nn.Conv2d, Tensor], Tensor]:
    cache: dict[int, Tensor] = {}

    def in_a_closure(layer: nn.Conv2d, tokens: Tensor) -> Tensor:
        return cache.setdefault(tokens.shape[1], tokens.new_ones(16))

    return in_a_closure


CACHES = {
    "lru_cache, from sizes": lambda layer, tokens: positions(tokens.shape[1])[:, None],
    "lru_cache, of a layer": lambda layer, tokens: doubled_weight(layer).mean(),
    "a dict": in_a_dict,
    "a list": in_a_list,
    "a variable": in_a_variable,
    "a default argument": in_a_default,
    "an attribute of a function": in_an_attribute,
    "an attribute of a class": in_a_class,
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
        return tokens + CACHES[self.kind](self.patches, tokens)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    blocks = [nn.TransformerEncoderLayer(16, 2, 16, batch_first=True) for _ in range(2)]
    return nn.Sequential(Embedding(kind), nn.Sequential(*blocks))


def fake_tensors() -> list[object]:
    return [one for one in gc.get_objects() if type(one) is FakeTensor]


@pytest.mark.parametrize("kind", CACHES)
def test_no_cache_of_a_library_holds_a_tensor_without_numbers(kind):
    insert(network(kind), "tsm", num_frames=2, image_size=32)
    assert not fake_tensors()
    output = network(kind)(torch.rand(2, 3, 32, 32))
    assert type(output) is Tensor
    assert output.isfinite().all()


def test_a_failed_trace_leaves_no_fake_tensor_either():
    _IN_A_DICT.clear()
    with pytest.raises(ValueError, match="does not take clips"):
        insert(network("a dict"), "tsm", num_frames=2, image_size=4)
    assert not fake_tensors()
    assert not _IN_A_DICT


def test_a_network_of_timm_leaves_no_fake_tensor():
    insert(timm.create_model("test_vit"), "tsm", num_frames=2)
    assert not fake_tensors()


def test_a_hook_that_collects_outputs_collects_none_of_the_trace():
    collected = []
    plain = network("a dict")
    plain.get_submodule("0").register_forward_hook(
        lambda module, inputs, output: collected.append(output)
    )
    insert(plain, "tsm", num_frames=2, image_size=32)
    assert collected == []
    plain(torch.rand(2, 3, 32, 32))
    assert [type(one) for one in collected] == [Tensor]


def test_a_tensor_that_cannot_be_removed_is_an_error():
    kept = []

    def keep(twin: nn.Module, make_input: Callable[[tuple[int, ...]], Tensor]) -> None:
        kept.append(make_input((1, 3, 8, 8)))

    with pytest.raises(ValueError, match=r"Conv2d keeps 1 tensors .*held by a builtins.list"):
        run_fake(nn.Conv2d(3, 4, 3), keep)


def test_tracing_draws_no_random_number_and_computes_constants_for_real():
    state = torch.get_rng_state()
    plain = network("lru_cache, from sizes")
    positions.cache_clear()
    insert(plain, "tsm", num_frames=2, image_size=32)
    kept = positions(16)
    assert positions.cache_info().hits == 1
    assert torch.equal(kept, torch.arange(16).float())
    torch.set_rng_state(state)


def test_where_convolutions_are_named_nothing_is_traced(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("shapes were traced")

    monkeypatch.setattr("motionaware.models.shape_tracing.run_fake", refuse)
    plain = network("a dict")
    assert sites(insert(plain, "m2a", num_frames=2, where="0.patches")) == ["0.patches"]
