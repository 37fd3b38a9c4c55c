import ctypes
import resource
import subprocess
import sys
from dataclasses import replace

import pytest

from motionaware.engine import train as train_module
from motionaware.engine.config import Recipe
from motionaware.engine.malloc import keep_freed_memory
from motionaware.engine.train import train
from motionaware.errors import DataError


def page_faults(*, keep: bool) -> int:
    """Return the page faults of a process that allocates and frees 64 MB twenty times."""
    script = f"""
import resource, torch
from motionaware.engine.malloc import keep_freed_memory
if {keep}:
    keep_freed_memory()
for _ in range(20):  # at first the heap grows, because small blocks split the freed large ones
    torch.empty(2**24).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(2**24).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    return int(subprocess.check_output([sys.executable, "-c", script]))


def test_freed_memory_is_used_again_without_page_faults():
    assert resource.getpagesize() <= 2**16
    assert page_faults(keep=True) < page_faults(keep=False) / 4


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_without_glibc_nothing_is_set(error: type[Exception], monkeypatch: pytest.MonkeyPatch):
    def no_library(name: str) -> None:
        raise error(name)

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert not keep_freed_memory()


@pytest.mark.parametrize(
    ("is_on", "is_glibc", "num_notes"), [(False, True, 0), (True, True, 0), (True, False, 1)]
)
def test_train_keeps_freed_memory_only_if_the_recipe_says_so(
    is_on: bool,
    is_glibc: bool,
    num_notes: int,
    tiny_recipe: Recipe,
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
):
    calls, lines = [], []
    monkeypatch.setattr(
        train_module, "keep_freed_memory", lambda: calls.append(True) is None and is_glibc
    )
    recipe = replace(
        tiny_recipe,
        data=replace(tiny_recipe.data, kind="folder", root=str(tmp_path)),
        train=replace(tiny_recipe.train, keep_freed_memory=is_on),
    )
    with pytest.raises(DataError):  # the folder is empty: nothing is trained
        train(recipe, tmp_path / "run", log=lines.append)
    assert len(calls) == is_on
    assert len(lines) == num_notes
    assert all("train.keep_freed_memory has no effect" in line for line in lines)
