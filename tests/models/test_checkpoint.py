import errno
import inspect
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from motionaware import ClipSpec, VideoRecognizer, create_model, load, save
from motionaware.errors import MotionAwareWarning
from motionaware.models.backbones import open_backbone
from motionaware.models.site_hooks import adapters, sites
from motionaware.models.weights import checksum_of


def tiny(**options) -> VideoRecognizer:
    defaults = {"temporal": "m2a(reduction=4),tsm", "num_classes": 3, "num_frames": 4}
    return create_model("resnet18_quarter", **(defaults | options))


def test_a_loaded_model_equals_the_saved_one(tmp_path):
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


def test_saving_another_module_raises_an_error(tmp_path):
    unchecked = inspect.unwrap(save)  # without the type checks that tests add
    with pytest.raises(ValueError, match="a Linear cannot be saved; wanted a VideoRecognizer"):
        unchecked(nn.Linear(2, 2), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"stages": 2}, {"stages": (2, 3), "every": 2}])
def test_a_loaded_model_has_the_chosen_stages(tmp_path, options):
    model = tiny(**options)
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    assert sites(read) == sites(model)
    assert read.plan == model.plan


def write_early(model: VideoRecognizer, path: Path, **metadata: str) -> None:
    """Write a file like the first version: without checksum, stages and origin."""
    assert model.plan is not None
    plan = {k: v for k, v in asdict(model.plan).items() if k not in ("stages", "every", "causal")}
    facts = {"clip": asdict(model.clip), "class_names": model.class_names, "plan": plan}
    texts = {key: json.dumps(value) for key, value in facts.items()} | {"recipe": "{}"}
    header = {"format": "motionaware-1", "version": "0.1.0"} | texts | metadata
    save_file(model.state_dict(), path, metadata=header)


def test_a_file_of_an_early_version_loads_with_a_warning(tmp_path):
    path = tmp_path / "early.safetensors"
    model = tiny()
    write_early(model, path)
    with pytest.warns(
        MotionAwareWarning, match="early.safetensors has no checksum, since an early"
    ):
        read = load(path)
    assert read.plan == model.plan
    save(read, path)
    assert load(path).plan == model.plan  # without a warning now


def test_unreadable_metadata_raise_one_error(tmp_path):
    path = tmp_path / "early.safetensors"
    for damage in ({"clip": '{"num_frame": 4}'}, {"clip": "{"}, {"plan": '{"backbone": "x"}'}):
        write_early(tiny(), path, **damage)
        message = (
            f"the metadata '{next(iter(damage))}' cannot be read .* written by motionaware 0.1.0"
        )
        with pytest.warns(MotionAwareWarning), pytest.raises(ValueError, match=message):
            load(path)


def test_a_damaged_checksum_key_raises_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    save(tiny(), path)
    path.write_bytes(path.read_bytes().replace(b'"checksum"', b'"checksun"'))
    with pytest.raises(
        ValueError, match="is damaged: its metadata has no checksum, but 'checksun'"
    ):
        load(path)


@pytest.mark.parametrize("part", ["header", "whole file"])
def test_any_flipped_bit_raises_an_error(tmp_path, part):
    path = tmp_path / "model.safetensors"
    save(tiny(class_names=["left", "right", "up"]), path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little") if part == "header" else len(content)
    random = Random(0)
    for index in (*range(8), *(random.randrange(end) for _ in range(200))):
        damaged = bytearray(content)
        damaged[index] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"model\.safetensors (is damaged|cannot be read|has for)"
        ):
            load(path)


def test_changed_class_names_do_not_match_the_checksum(tmp_path):
    path = tmp_path / "model.safetensors"
    save(tiny(class_names=["left", "right", "up"]), path)
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(ValueError, match="does not match its checksum, so weights or class names"):
        load(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.float32])
def test_the_checksum_covers_names_dtypes_shapes_bytes_and_metadata(dtype):
    tensors = {"a": torch.ones(2, 3, dtype=dtype), "b": torch.ones((), dtype=dtype)}
    plain = checksum_of(tensors, {"k": "v"})
    assert plain == checksum_of(
        {"b": tensors["b"], "a": tensors["a"].t().contiguous().t()}, {"k": "v"}
    )
    others = [
        checksum_of({"a": tensors["a"], "c": tensors["b"]}, {"k": "v"}),
        checksum_of(tensors | {"a": tensors["a"].reshape(3, 2)}, {"k": "v"}),
        checksum_of(tensors | {"b": torch.zeros((), dtype=dtype)}, {"k": "v"}),
        checksum_of(tensors | {"b": tensors["b"].to(torch.complex64)}, {"k": "v"}),
        checksum_of(tensors, {"k": "w"}),
    ]
    assert len({plain, *others}) == 6


def test_a_network_whose_layers_need_a_version_loads(tmp_path):
    model = create_model("mnasnet0_5", temporal="none", num_classes=2)
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in model.state_dict().items())


def test_a_callable_of_the_user_must_be_passed_to_load(tmp_path):
    def conv3d(*, channels: int, num_frames: int) -> nn.Module:
        return nn.Conv3d(channels, channels, 1)

    def batch_norm(*, channels: int, num_frames: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm2d(channels), nn.Unflatten(0, (-1, 4)))

    model = tiny(temporal=batch_norm)
    save(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="temporal module of your own; pass the callable"):
        load(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", temporal=batch_norm).plan == model.plan
    with pytest.raises(ValueError, match="do not fit .*: 16 missing, .*; pass the callable"):
        load(tmp_path / "model.safetensors", temporal=conv3d)


def test_saving_a_model_without_a_plan_raises_an_error(tmp_path):
    model = VideoRecognizer(
        open_backbone("resnet18_quarter"), clip=ClipSpec(), class_names=["a", "b"]
    )
    with pytest.raises(ValueError, match="no plan, which load.. needs to build it again"):
        save(model, tmp_path / "model.safetensors")


def test_a_truncated_checkpoint_raises_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    save(tiny(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match="is no safetensors file, or it is damaged .* copy the file"
    ):
        load(path)


def test_a_file_of_another_program_raises_an_error(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="has format None, wanted 'motionaware-1'"):
        load(tmp_path / "other.safetensors")


def test_the_error_for_a_missing_checkpoint_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint .*none\.safetensors does not exist"):
        load(tmp_path / "none.safetensors")


def test_the_error_for_a_folder_names_the_checkpoint_inside(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder, wanted a file; it has no "):
        load(tmp_path)
    for name in ("last", "best"):
        (tmp_path / f"{name}.safetensors").touch()
    message = re.escape(f"{tmp_path} is a folder, wanted a file; give {tmp_path}/best.safetensors")
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path)


def test_a_full_disk_leaves_the_old_checkpoint_unchanged(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save(tiny(), path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device"):
        save(tiny(temporal="none"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_checkpoint_of_an_earlier_version_loads_without_square_pixels(tmp_path):
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
    early = {key: header[key] for key in ("format", "version", "class_names", "plan", "recipe")}
    save_file(tensors, path, early | {"clip": json.dumps(clip)})
    with pytest.warns(MotionAwareWarning, match="no checksum"):
        assert load(path).clip == replace(model.clip, square_pixels=False)


MIX = """
from torch import nn
import pathlib

pathlib.Path(__file__).with_name("was_run").touch()

class Mix(nn.Module):
    def __init__(self, *, channels, kernel=3):
        super().__init__()
        self.mix = nn.Conv3d(channels, channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
    def forward(self, clips):
        return clips + self.mix(clips.transpose(1, 2)).transpose(1, 2)
"""
NAME = "mix.py:Mix(kernel=1),tsm"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a model whose module is in code/mix.py, and its checkpoint in runs/a."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mix.py").write_text(MIX)
    monkeypatch.chdir(tmp_path)
    model = tiny(temporal=f"code/{NAME}").eval()
    path = tmp_path / "runs" / "a" / "model.safetensors"
    save(model, path)
    (tmp_path / "code" / "was_run").unlink()
    return model, path


def have_same_scores(first: VideoRecognizer, second: VideoRecognizer) -> bool:
    clips = torch.rand(1, 4, 3, 32, 32)
    return torch.equal(first.eval()(clips), second.eval()(clips))


def test_code_named_in_a_checkpoint_runs_only_if_allowed(own, tmp_path):
    model, path = own
    with pytest.raises(ValueError, match=r"names code of its author, mix.py:Mix.*--allow-code"):
        load(path)
    assert not (tmp_path / "code" / "was_run").exists()
    assert have_same_scores(load(path, allow_code=True), model)


def test_own_code_is_found_from_any_folder_and_after_moving_the_project(own, tmp_path, monkeypatch):
    model, path = own
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert have_same_scores(load(path, allow_code=True), model)
    moved = tmp_path / "elsewhere" / "project"
    moved.mkdir()
    for name in ("runs", "code"):
        (tmp_path / name).rename(moved / name)
    read = load(moved / "runs" / "a" / "model.safetensors", allow_code=True)
    assert have_same_scores(read, model)
    save(read, tmp_path / "again.safetensors")
    assert have_same_scores(load(tmp_path / "again.safetensors", allow_code=True), model)


def test_the_error_for_missing_code_names_the_searched_folders(own, tmp_path, monkeypatch):
    model, path = own
    copy = tmp_path / "x" / "copy.safetensors"
    copy.parent.mkdir()
    path.rename(copy)
    with pytest.raises(ValueError, match=r"does not exist; looked for .*Run in the folder that"):
        load(copy, allow_code=True)
    monkeypatch.chdir(tmp_path / "code")
    assert have_same_scores(load(copy, allow_code=True), model)


def test_a_class_can_replace_the_code_named_in_a_checkpoint(own, tmp_path):
    model, path = own
    (tmp_path / "code" / "mix.py").unlink()
    mix = type(model.backbone.get_submodule(f"{sites(model.backbone)[0]}.temporal.0"))
    read = load(path, temporal=mix)
    assert have_same_scores(read, model)
    assert not (tmp_path / "code" / "was_run").exists()


def test_a_temporal_name_can_replace_the_code_named_in_a_checkpoint(own, tmp_path):
    model, path = own
    (tmp_path / "code" / "mix.py").rename(tmp_path / "other.py")
    assert have_same_scores(load(path, temporal="other.py:Mix(kernel=1),tsm"), model)


def test_changed_code_gives_a_warning(own, tmp_path):
    _, path = own
    with (tmp_path / "code" / "mix.py").open("a") as file:
        file.write("# changed")
    with pytest.warns(
        MotionAwareWarning, match="mix.py has changed since .*model.safetensors was saved"
    ):
        load(path, allow_code=True)


def test_a_checkpoint_contains_no_absolute_path(own, tmp_path):
    _, path = own
    assert os.fsencode(tmp_path) not in path.read_bytes()
    assert b"../../code/mix.py:Mix(kernel=1),tsm" in path.read_bytes()


def test_a_causal_own_module_stays_causal_if_its_class_is_passed(tmp_path, monkeypatch):
    text = MIX.replace("kernel=3", "kernel=3, causal=False")
    (tmp_path / "mix.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    model = tiny(temporal="mix.py:Mix(kernel=1, causal=true)").eval()
    path = tmp_path / "model.safetensors"
    save(model, path)
    mix = type(model.backbone.get_submodule(f"{sites(model.backbone)[0]}.temporal"))
    for read in (load(path, temporal=mix), load(path, allow_code=True)):
        assert have_same_scores(read, model)
        assert all(adapter.causal for _, adapter in adapters(read.backbone))
