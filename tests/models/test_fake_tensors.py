import gc
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from motionaware import insert
from motionaware.models.fake_tensors import FakeTensorLeak, run_on_fake_tensors
from motionaware.models.site_hooks import sites


def test_insertion_into_a_network_of_timm_leaves_no_fake_tensor():
    insert(timm.create_model("test_vit"), "tsm", num_frames=2)
    assert not [thing for thing in gc.get_objects() if type(thing) is FakeTensor]


def test_a_run_on_fake_tensors_keeps_the_random_state():
    state = torch.get_rng_state()

    def run(network: nn.Module, make_input: Callable[[tuple[int, ...]], torch.Tensor]) -> None:
        torch.rand(3)

    run_on_fake_tensors(nn.Identity(), run)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fake_tensor_that_cannot_be_removed_raises_an_error():
    kept = []

    def keep(network: nn.Module, make_input: Callable[[tuple[int, ...]], torch.Tensor]) -> None:
        kept.append(make_input((1, 3, 8, 8)))

    with pytest.raises(FakeTensorLeak, match=r"Conv2d keeps 1 tensors .*held by a builtins.list"):
        run_on_fake_tensors(nn.Conv2d(3, 4, 3), keep)


def test_named_convolutions_need_no_trace(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("shapes were traced")

    monkeypatch.setattr("motionaware.models.shape_tracing.run_on_fake_tensors", refuse)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    assert sites(insert(network, "m2a", num_frames=2, where="1")) == ["1"]
