import pytest
import torch

from motionaware.models import backbones
from motionaware.models.backbones import open_backbone


def test_the_error_of_a_failed_download_names_the_network_and_the_alternatives(monkeypatch):
    def no_network(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(backbones.TORCHVISION, "resnet18", (no_network, "fc"))
    with pytest.raises(
        OSError, match="weights of resnet18 could not be downloaded .no route"
    ) as error:
        open_backbone("resnet18", pretrained=True)
    assert "pretrained=PATH" in str(error.value)


def test_similar_names_are_suggested_once_for_an_unknown_name():
    with pytest.raises(ValueError, match="did you mean 'resnet18' or ") as error:
        open_backbone("resnet_18")
    assert str(error.value).count("'resnet18'") == 1


def test_only_resnets_and_mobilenets_can_be_inflated_by_name():
    with pytest.raises(ValueError, match="i3d_vgg11': only ResNets and MobileNets can be inflated"):
        open_backbone("i3d_vgg11")


def test_a_network_for_one_image_size_is_built_for_the_requested_size():
    network = open_backbone("test_vit", image_size=64).network.eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 64)


@pytest.mark.parametrize(
    ("name", "num_features"),
    [("squeezenet1_0", 512), ("mnasnet0_5", 1280), ("shufflenet_v2_x0_5", 1024)],
)
def test_other_networks_of_torchvision_open_without_their_classifier(name, num_features):
    backbone = open_backbone(name)
    assert backbone.num_features == num_features
    assert backbone.network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, num_features)


@pytest.mark.parametrize("name", ["mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "i3d_mobilenet_v2"])
def test_video_networks_take_volumes(name):
    backbone = open_backbone(name)
    features = backbone.network.eval()(torch.rand(1, 3, 8, 32, 32))
    assert features.shape == (1, backbone.num_features)
