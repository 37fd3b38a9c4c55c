import errno
import inspect
import json
import os
import re
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from motionaware import ClipSpec, VideoRecognizer, create_model, load, save
from motionaware.models.backbones import open_backbone
from motionaware.models.site_hooks import sites


def tiny(**options) -> VideoRecognizer:
    defaults = {"temporal": "m2a(reduction=4),tsm", "num_classes": 3, "num_frames": 4}
    return create_model("resnet18_quarter", **(defaults | options))


def test_a_model_survives_its_file(tmp_path):
    clip = ClipSpec(num_frames=4, image_size=32, sampling="dense", frame_stride=2)
    model = tiny(class_names=["a", "b", "c"], clip=clip, where="layer2.*.conv1", dropout=0.1)
    model.recipe = {"epochs": 3}
    nn.init.normal_(model.head.weight)
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    clips = torch.rand(1, 4, 3, 32, 32)
    assert torch.equal(read(clips), model.eval()(clips))
    assert (read.clip, read.class_names, read.plan) == (clip, ("a", "b", "c"), model.plan)
    assert read.recipe == {"epochs": 3}
    assert not read.training


def test_what_is_no_recognizer_is_not_saved(tmp_path):
    plain = inspect.unwrap(save)  # without the types that tests check
    with pytest.raises(ValueError, match="a Linear cannot be saved, only a VideoRecognizer, which"):
        plain(nn.Linear(2, 2), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"stages": 2}, {"stages": (2, 3), "every": 2}])
def test_a_model_with_chosen_stages_survives_its_file(tmp_path, options):
    model = tiny(**options)
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    assert sites(read) == sites(model)
    assert read.plan == model.plan


def test_a_file_from_before_stages_could_be_chosen_is_read(tmp_path, monkeypatch):
    def old(plan: object) -> dict[str, object]:
        return {k: v for k, v in asdict(plan).items() if k not in ("stages", "every")}  # pyright: ignore

    monkeypatch.setattr("motionaware.models.checkpoint.asdict", old)
    model = tiny()
    save(model, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").plan == model.plan


def test_a_module_of_ones_own_is_handed_in_again(tmp_path):
    def mine(*, channels: int, num_frames: int) -> nn.Module:
        return nn.Conv3d(channels, channels, 1)

    def clipwise(*, channels: int, num_frames: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm2d(channels), nn.Unflatten(0, (-1, 4)))

    model = tiny(temporal=clipwise)
    save(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="temporal module of your own; hand its maker in again"):
        load(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", temporal=clipwise).plan == model.plan
    with pytest.raises(RuntimeError, match="size mismatch|Missing key"):
        load(tmp_path / "model.safetensors", temporal=mine)


def test_a_model_without_a_plan_is_not_saved(tmp_path):
    model = VideoRecognizer(
        open_backbone("resnet18_quarter"), clip=ClipSpec(), class_names=["a", "b"]
    )
    with pytest.raises(ValueError, match="no plan by which load.. could build it again"):
        save(model, tmp_path / "model.safetensors")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save(tiny(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read as safetensors .* it is damaged"):
        load(path)


def test_a_file_of_another_program_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="has format None, wanted 'motionaware-1'"):
        load(tmp_path / "other.safetensors")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint .*none\.safetensors does not exist"):
        load(tmp_path / "none.safetensors")


def test_a_folder_is_no_checkpoint_and_the_one_inside_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder, wanted a file; it holds no "):
        load(tmp_path)
    for name in ("last", "best"):
        (tmp_path / f"{name}.safetensors").touch()
    words = re.escape(f"{tmp_path} is a folder, wanted a file; give {tmp_path}/best.safetensors")
    with pytest.raises(FileNotFoundError, match=words):
        load(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save(tiny(), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save(tiny(temporal="none"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_checkpoint_of_an_earlier_version_is_not_given_square_pixels(tmp_path):
    path = tmp_path / "model.safetensors"
    model = tiny(class_names=["a", "b", "c"])
    assert model.clip.square_pixels
    save(model, path)
    assert load(path).clip.square_pixels
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    clip = json.loads(header["clip"])
    del clip["square_pixels"]
    save_file(tensors, path, header | {"clip": json.dumps(clip)})
    assert load(path).clip == replace(model.clip, square_pixels=False)
