"""Errors in a user's own temporal modules: they become OwnCodeErrors with file and line."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motionaware.errors import OwnCodeError, UsageError
from motionaware.models.insertion import insert
from motionaware.temporal.names import site_maker

CODE = """
from torch import nn

class Mix(nn.Module):
    def __init__(self, *, channels, error=""):
        super().__init__()
        self.mix = nn.Conv3d(channels, channels, 1)
        self.error = error
        if error == "constructor":
            1 / 0
    def forward(self, clips):
        if self.error == "forward":
            raise IndexError("no such frame")
        if self.error == "torch":
            return self.mix(clips)
        if self.error == "memory":
            import torch
            raise torch.OutOfMemoryError("full")
        return clips
"""
CLIPS = torch.zeros(1, 4, 16, 5, 5)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file mix.py in the working folder."""
    path = tmp_path / "mix.py"
    path.write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return path


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(CODE.splitlines(), 1) if text in line)


def make(temporal: str) -> Any:
    maker = site_maker(temporal)
    assert maker is not None
    return maker(channels=16, num_frames=4)


def network(temporal: Any) -> nn.Module:
    """One layer with a temporal module before it, as `insert` makes it."""
    return insert(nn.Sequential(nn.Conv2d(16, 16, 1)), temporal, num_frames=4, where="0")


def test_an_error_in_a_constructor_names_file_and_line(file):
    with pytest.raises(OwnCodeError) as caught:
        make("mix.py:Mix(error=constructor)")
    place = f"{file}, line {line_of('1 / 0')}"
    assert str(caught.value) == f"{place}: ZeroDivisionError: division by zero"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("temporal", ["mix.py:Mix", "m2a,mix.py:Mix", "mix.py:Mix({}),tsm"])
def test_an_error_in_forward_names_file_and_line(file, temporal):
    name = temporal.format("error=forward") if "{}" in temporal else f"{temporal}(error=forward)"
    with pytest.raises(OwnCodeError) as caught:
        network(name)(torch.zeros(4, 16, 5, 5))
    place = f"{file}, line {line_of('raise IndexError')}"
    assert str(caught.value) == f"{place}: IndexError: no such frame"
    assert isinstance(caught.value.__cause__, IndexError)


def test_an_error_inside_torch_names_the_line_of_the_user_s_file(file):
    with pytest.raises(OwnCodeError, match=f"mix.py, line {line_of('return self.mix')}: Runtime"):
        network("mix.py:Mix(error=torch)")(torch.zeros(4, 16, 5, 5))


def test_an_error_in_another_module_of_the_site_is_not_an_own_code_error(file):
    site = network("mix.py:Mix,tsm")
    site.get_submodule("0.temporal.1").forward = lambda clips: 1 / 0  # pyright: ignore
    with pytest.raises(ZeroDivisionError):
        site(torch.zeros(4, 16, 5, 5))


def test_running_out_of_memory_is_not_an_own_code_error(file):
    with pytest.raises(torch.OutOfMemoryError):
        network("mix.py:Mix(error=memory)")(torch.zeros(4, 16, 5, 5))


def test_our_errors_inside_a_user_s_code_do_not_change(file):
    file.write_text("from motionaware.temporal.tsm import TemporalShift as Mix")
    with pytest.raises(UsageError, match="fold = 100 with 16 channels"):
        make("mix.py:Mix(fold=100)")


def test_a_callable_from_python_raises_its_own_error():
    class Mix(nn.Module):
        def forward(self, clips: Tensor) -> Tensor:
            raise IndexError("no such frame")

    with pytest.raises(IndexError):
        network(Mix)(torch.zeros(4, 16, 5, 5))


@pytest.mark.parametrize("temporal", ["mix.py:Mix(error=forward)", "mix.py:Mix(error=forward),tsm"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_report_their_errors_too(file, temporal, copied):
    with pytest.raises(OwnCodeError):
        copied(network(temporal))(torch.zeros(4, 16, 5, 5))


def test_parameters_keep_their_names(file):
    assert list(make("mix.py:Mix").state_dict()) == ["mix.weight", "mix.bias"]
    assert list(make("mix.py:Mix,tsm").state_dict()) == ["0.mix.weight", "0.mix.bias"]


def test_modules_with_own_code_can_be_exported(file):
    for temporal in ("mix.py:Mix", "mix.py:Mix,tsm"):
        site = network(temporal).eval()
        frames = torch.rand(4, 16, 5, 5)
        program = torch.export.export(site, (frames,))
        torch.testing.assert_close(program.module()(frames), site(frames))


@pytest.mark.slow
def test_modules_with_own_code_compile_as_one_graph(file):
    # In another process: the type checks of the tests cannot be compiled.
    script = """
import torch
from torch import nn
from motionaware.models.insertion import insert
for temporal in ("mix.py:Mix", "mix.py:Mix,tsm"):
    network = insert(nn.Sequential(nn.Conv2d(16, 16, 1)), temporal, num_frames=4, where="0")
    frames = torch.rand(4, 16, 5, 5)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(frames), network(frames))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
