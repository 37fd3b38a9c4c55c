"""Which tensors a model takes from a checkpoint, and the notes about the others."""

from pathlib import Path

import pytest
import torch
from torch import nn

from motionaware import ClipSpec, VideoRecognizer, create_model, load, save
from motionaware.models.weights import file_checksum

CLASSES = ("left", "right", "up")


def tiny(backbone: str = "resnet18_quarter", **options) -> VideoRecognizer:
    defaults = {"temporal": "m2a", "class_names": CLASSES, "num_frames": 4}
    return create_model(backbone, **(defaults | options))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = tiny()
    nn.init.normal_(model.head.weight)
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save(model, path)
    return path


def notes(model: VideoRecognizer) -> tuple[str, ...]:
    assert model.origin is not None
    return model.origin.notes


def assert_taken(model: VideoRecognizer, file: Path, *, but: tuple[str, ...] = ()) -> None:
    given, ours = load(file).state_dict(), model.state_dict()
    for name, tensor in ours.items():
        if not any(part in name for part in but):
            assert torch.equal(tensor, given[name]), name


def test_the_same_model_takes_every_tensor(file):
    model = tiny(pretrained=file)
    assert_taken(model, file)
    assert notes(model) == ()


def test_the_origin_is_saved_with_the_weights(file, tmp_path):
    model = tiny(pretrained=file, class_names=["a", "b"])
    save(model, tmp_path / "tuned.safetensors")
    origin = load(tmp_path / "tuned.safetensors").origin
    assert origin == model.origin
    assert origin is not None
    assert (origin.file, origin.checksum) == (str(file), file_checksum(file))
    assert origin.lines()[0] == f"weights from {file}: 154 of 156 tensors"


def test_a_run_folder_means_its_best_checkpoint(file, tmp_path):
    assert_taken(tiny(pretrained=file.parent), file)
    with pytest.raises(FileNotFoundError, match=r"is a folder without best\.safetensors, wanted"):
        tiny(pretrained=tmp_path)
    (tmp_path / "last.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"give .*last\.safetensors"):
        tiny(pretrained=tmp_path)


def test_other_classes_get_a_new_head(file):
    model = tiny(pretrained=file, class_names=["left", "right"])
    assert_taken(model, file, but=("head.",))
    assert notes(model) == ("new: head.weight, head.bias (3 classes in the file, 2 here)",)
    (note,) = notes(tiny(pretrained=file, class_names=["left", "right", "down"]))
    assert note.endswith("(3 classes in the file, 3 here, other names)")


def test_the_same_classes_in_another_order_keep_their_scores(file):
    model = tiny(pretrained=file, class_names=["up", "left", "right"]).eval()
    clips = torch.rand(2, 4, 3, 32, 32)
    torch.testing.assert_close(model(clips), load(file)(clips)[:, [2, 0, 1]])
    assert notes(model) == ("head: rows reordered by the class names",)


def test_other_temporal_modules_keep_their_initial_weights(file):
    model = tiny(pretrained=file, temporal="tea")
    assert_taken(model, file, but=(".temporal.",))
    first, new, left = notes(model)
    assert first == "temporal modules: m2a in the file, tea here"
    assert new == "new: temporal modules at 8 sites, first layer1.0.conv1"
    assert left == "not taken: temporal modules of the file at 8 sites, first layer1.0.conv1"


@pytest.mark.parametrize("temporal", ["motion+attention", "m2a(start=identity)"])
def test_an_alias_of_the_temporal_name_takes_the_weights(file, temporal):
    model = tiny(pretrained=file, temporal=temporal)
    assert_taken(model, file)
    assert notes(model) == ()


def test_modules_with_the_same_tensors_but_another_name_are_not_taken(file):
    model = tiny(pretrained=file, temporal="motion")
    assert notes(model)[0] == "temporal modules: m2a in the file, motion here"
    down = "backbone.layer1.0.conv1.temporal.down.weight"
    assert not torch.equal(model.state_dict()[down], load(file).state_dict()[down])


def test_fewer_sites_take_their_modules(file):
    model = tiny(pretrained=file, stages=2)
    assert_taken(model, file)
    assert notes(model) == (
        "not taken: temporal modules of the file at 6 sites, first layer1.0.conv1",
    )


def test_additional_sites_get_new_modules(tmp_path):
    save(tiny(stages=2), tmp_path / "two.safetensors")
    (note,) = notes(tiny(pretrained=tmp_path / "two.safetensors"))
    assert note.startswith("new: temporal modules at 6 sites, first layer1.0.conv1; the file has")


def test_modules_for_another_number_of_frames_are_new(tmp_path):
    save(tiny(temporal="tam"), tmp_path / "four.safetensors")
    model = tiny(pretrained=tmp_path / "four.safetensors", temporal="tam", num_frames=8)
    assert_taken(model, tmp_path / "four.safetensors", but=(".temporal.",))
    assert "(made for 4 frames, here 8; " in notes(model)[0]


def test_m2a_takes_weights_from_clips_of_another_length(file):
    model = tiny(pretrained=file, num_frames=8)
    assert_taken(model, file)
    assert notes(model) == ()


def test_position_embeddings_are_resampled_for_another_image_size(tmp_path):
    small, large = (ClipSpec(num_frames=4, image_size=size) for size in (64, 96))
    save(tiny("test_vit", clip=small), tmp_path / "vit.safetensors")
    model = tiny("test_vit", clip=large, pretrained=tmp_path / "vit.safetensors").eval()
    assert_taken(model, tmp_path / "vit.safetensors", but=("pos_embed",))
    assert notes(model) == ("resampled from frames of 64 pixels to 96: pos_embed",)
    assert model(torch.rand(1, 4, 3, 96, 96)).shape == (1, 3)
    given = load(tmp_path / "vit.safetensors").state_dict()["backbone.pos_embed"]
    ours = model.state_dict()["backbone.pos_embed"]
    prefix = given.shape[1] - (64 // 16) ** 2
    assert torch.equal(ours[:, :prefix], given[:, :prefix])
    torch.testing.assert_close(ours.mean(), given.mean(), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("saved", "wanted"), [("resnet18", "resnet34"), ("resnet34", "resnet18")])
def test_another_backbone_raises_an_error_even_if_its_first_layers_agree(saved, wanted, tmp_path):
    path = tmp_path / "other.safetensors"
    save(tiny(saved, temporal="none"), path)
    with pytest.raises(
        ValueError, match=f"holds the backbone {saved}, wanted {wanted}; .* Set model"
    ):
        tiny(wanted, temporal="none", pretrained=path)


def test_mean_and_std_are_taken_with_the_weights(tmp_path):
    path = tmp_path / "scaled.safetensors"
    model = tiny()
    model.mean.fill_(0.5)
    save(model, path)
    tuned = tiny(pretrained=path)
    assert torch.equal(tuned.mean, model.mean)
    assert notes(tuned) == (
        "mean of the pixels: 0.500, 0.500, 0.500 from the file instead of 0.485, 0.456, 0.406",
    )


def test_a_damaged_checkpoint_raises_an_error(file, tmp_path):
    damaged = bytearray(file.read_bytes())
    damaged[-9] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged\.safetensors is damaged: .* its checksum"):
        tiny(pretrained=tmp_path / "damaged.safetensors")


def test_a_file_of_backbone_weights_is_recorded_as_origin(file, tmp_path):
    torch.save(tiny(temporal="none").backbone.state_dict(), tmp_path / "backbone.pth")
    model = tiny(pretrained=tmp_path / "backbone.pth")
    assert model.origin is not None
    assert model.origin.num_taken == 120
    assert model.origin.checksum == file_checksum(tmp_path / "backbone.pth")
    assert tiny().origin is None


def test_modules_of_the_user_take_weights_if_their_tensors_fit(tmp_path):
    def conv3d(*, channels: int) -> nn.Module:
        return nn.Conv3d(channels, channels, 1, groups=channels)

    def frames_first(*, channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm2d(channels), nn.Unflatten(0, (-1, 4)))

    path = tmp_path / "own.safetensors"
    save(tiny(temporal=frames_first), path)
    assert notes(tiny(temporal=frames_first, pretrained=path)) == ()
    new, _ = notes(tiny(temporal="m2a", pretrained=path))[1:]
    assert new.startswith("new: temporal modules at 8 sites")
