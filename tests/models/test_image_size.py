"""Frame sizes in the forms in which users and libraries write them."""

from collections.abc import Callable

import pytest
import timm
from torch import nn

from motionaware import insert
from motionaware.models.image_size import native_image_size
from motionaware.models.site_hooks import sites

T = 4


@pytest.mark.parametrize("size", [(64, 256), [64, 256]])
def test_insert_accepts_height_and_width(size):
    network = timm.create_model("test_vit", img_size=(64, 256))
    assert len(sites(insert(network, "tsm", num_frames=T, image_size=tuple(size)))) == 6


@pytest.mark.parametrize("size", [0, (64, 0), (-1, 64)])
def test_a_size_below_one_pixel_raises_an_error(size):
    with pytest.raises(ValueError, match="wanted height and width in pixels, at least 1"):
        insert(timm.create_model("test_vit"), "tsm", num_frames=T, image_size=size)


@pytest.mark.parametrize(
    ("model", "config", "options", "size"),
    [
        ("ViTModel", "ViTConfig", {"image_size": 32}, (32, 32)),
        ("ViTModel", "ViTConfig", {"image_size": [16, 64]}, (16, 64)),
        ("CLIPVisionModel", "CLIPVisionConfig", {"image_size": 48}, (48, 48)),
        ("SiglipVisionModel", "SiglipVisionConfig", {"image_size": 48}, (48, 48)),
    ],
)
def test_the_frame_size_is_read_from_the_config_of_transformers(
    model, config, options, size, make_transformer: Callable[..., nn.Module]
):
    network = make_transformer(model, config, patch_size=8, **options)
    assert native_image_size(network) == size
    assert len(sites(insert(network, "tsm", num_frames=T))) == 2


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"image_size": {"height": 16, "width": 64}}, (16, 64)),
        ({"crop_size": 48}, (48, 48)),
        ({"vision_config": {"image_size": 40}}, (40, 40)),
        ({"vision_config": {"image_size": (16, 64)}, "image_size": None}, (16, 64)),
        ({"hidden_size": 8}, (224, 224)),
    ],
)
def test_each_form_of_a_size_in_a_config_is_read(config, size):
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    network.config = config  # pyright: ignore
    assert native_image_size(network) == size
    assert native_image_size(nn.Sequential(network)) == size  # inside another network
