import errno
from pathlib import Path

import pytest
import torch

from motionaware.engine import run_folder as run_folder_module
from motionaware.engine.config import Recipe
from motionaware.engine.run_folder import RunFolder


def test_any_flipped_bit_of_the_state_is_an_error(tiny_recipe: Recipe, tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.save_state({"epoch": 1, "model": {"weight": torch.rand(20)}})
    path = tmp_path / "resume.pt"
    content = path.read_bytes()
    for index in range(len(content)):
        damaged = bytearray(content)
        damaged[index] ^= 1 << index % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"resume\.pt is damaged"):
            folder.load_state()


def test_a_state_of_an_early_version_is_read_and_its_damage_is_an_error(tmp_path: Path):
    torch.save({"epoch": 3, "weights": torch.rand(50)}, tmp_path / "resume.pt")
    state = RunFolder(tmp_path).load_state()
    assert state is not None and state["epoch"] == 3
    content = bytearray((tmp_path / "resume.pt").read_bytes())
    content[content.index(state["weights"].numpy().tobytes()) + 7] ^= 1
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged .* does not match its checksum"):
        RunFolder(tmp_path).load_state()


def test_an_error_while_closing_the_curves_does_not_hide_why_the_run_ended(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def close(writer: object) -> None:
        raise OSError(errno.ENOSPC, "curves")

    monkeypatch.setattr(run_folder_module.SummaryWriter, "close", close)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="the true reason"), folder.curves(first_epoch=0):
        raise ValueError("the true reason")


def test_a_run_folder_is_not_overwritten(tiny_recipe: Recipe, tmp_path: Path):
    RunFolder(tmp_path / "run").begin(tiny_recipe)
    with pytest.raises(FileExistsError, match=r"run already holds a run; resume it with --resume"):
        RunFolder(tmp_path / "run").begin(tiny_recipe)


def test_the_state_is_read_once_until_it_is_released_or_saved(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert (folder.load_state(), folder.history()) == (None, [])
    folder.save_state({"epoch": 1, "log": [{"val_top1": 0.5}]})
    state = folder.load_state()
    assert folder.load_state() is state
    assert folder.history() == [{"val_top1": 0.5}]
    folder.release_state()
    assert folder.load_state() is not state
    folder.save_state({"epoch": 2, "log": []})
    assert folder.load_state() == {"epoch": 2, "log": []}
