"""Reading a file of weights gives tensors or one error, whatever the file contains."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.serialization import set_crc32_options

from motionaware import load_official
from motionaware.models.backbones import open_backbone
from motionaware.models.weights import checksum_of, read_weights, tensors_of

FACTS = {"backbone": "resnet18_quarter", "temporal": "tsm", "num_classes": 3, "num_frames": 4}


@pytest.mark.parametrize("name", ["ckpt.pth.tar", "ckpt.pth", "ckpt.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"x" * 100, b"\x80\x02}q."])
def test_random_bytes_raise_one_error(name: str, content: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    for read in (
        lambda: load_official(tmp_path / name, **FACTS),
        lambda: open_backbone("resnet18", pretrained=tmp_path / name),
    ):
        with pytest.raises(
            ValueError, match=rf"{name} (cannot be read as weights|holds )"
        ) as error:
            read()
        assert "\n" not in str(error.value)


def test_a_truncated_checkpoint_raises_one_error(tmp_path: Path):
    torch.save({"weight": torch.rand(100)}, tmp_path / "complete.pth")
    content = (tmp_path / "complete.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated.pth cannot be read as weights"):
        read_weights(tmp_path / "truncated.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_flipped_bit_in_weights_with_a_checksum_raises_one_error(suffix: str, tmp_path: Path):
    """torch.load does not verify the checksums that torch.save wrote."""
    weight, path = torch.rand(100), tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"weight": weight}, path)
    else:
        save_file({"weight": weight}, path, {"checksum": checksum_of({"weight": weight}, {})})
    assert torch.equal(read_weights(path)["weight"], weight)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.\w+ .*damaged: .* does not match its checksum"):
        read_weights(path)


def test_weights_saved_without_checksums_are_read(tmp_path: Path):
    set_crc32_options(False)
    try:
        torch.save({"weight": torch.ones(3)}, tmp_path / "quick.pth")
    finally:
        set_crc32_options(True)
    assert torch.equal(read_weights(tmp_path / "quick.pth")["weight"], torch.ones(3))


class Code:
    """A class that unpickling would have to import."""


def test_a_file_that_would_run_code_raises_an_error(tmp_path: Path):
    torch.save({"state_dict": Code()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="code.pth cannot be read as weights"):
        read_weights(tmp_path / "code.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "the checkpoint holds list, wanted named tensors: a state dict"),
        ({}, "the checkpoint holds dict, wanted named tensors"),
        ({"state_dict": 3}, "the checkpoint holds int, wanted named tensors"),
        ({"epoch": 3}, "holds int under 'epoch', wanted a tensor"),
    ],
)
def test_the_error_for_a_file_without_tensors_names_its_content(content: object, message: str):
    with pytest.raises(ValueError, match=message):
        tensors_of(content, source="the checkpoint")


def test_tensors_of_a_checkpoint_are_its_state_dict():
    tensors = {"weight": torch.rand(2)}
    assert tensors_of(tensors, source="x") == tensors
    assert tensors_of({"epoch": 3, "state_dict": tensors}, source="x") == tensors
