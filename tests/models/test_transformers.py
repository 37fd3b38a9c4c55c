"""Networks of the transformers library: their sizes, the order of their tokens, their caches."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from motionaware import insert
from motionaware.models.shape_tracing import own_image_size
from motionaware.models.site_hooks import sites

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")

T = 4
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def make(model: str, config: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(**options))
    for parameter in network.parameters():  # position embeddings and class tokens start as zeros
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network.eval()


def video_mae(model: str = "VideoMAEModel", **options: Any) -> nn.Module:
    options = {"image_size": 32, "patch_size": 8, "num_frames": 8, **SMALL, **options}
    return make(model, "VideoMAEConfig", **options)


def timesformer(**options: Any) -> nn.Module:
    options = {"image_size": 32, "patch_size": 8, "num_frames": 8, **SMALL, **options}
    return make("TimesformerModel", "TimesformerConfig", **options)


def vivit() -> nn.Module:
    options = {"image_size": 32, "num_frames": 8, "tubelet_size": [2, 8, 8], **SMALL}
    return make("VivitModel", "VivitConfig", **options)


def v_jepa_2() -> nn.Module:
    return make(
        "VJEPA2Model",
        "VJEPA2Config",
        crop_size=32,
        patch_size=8,
        frames_per_clip=8,
        tubelet_size=2,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        pred_hidden_size=12,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=2,
        pred_num_mask_tokens=1,
    )


# network -> its maker, height and width, sites, written-out order of tokens after the class token,
# frames that come to a site
VIDEOS: dict[str, tuple[Callable[[], nn.Module], int, int, list[str], str, int]] = {
    "VideoMAE": (video_mae, 32, 32, [f"encoder.layer.{i}" for i in (0, 1)], "b (t h w) c", 4),
    "oblong VideoMAE": (
        lambda: video_mae(image_size=[32, 48]),
        32,
        48,
        [f"encoder.layer.{i}" for i in (0, 1)],
        "b (t h w) c",
        4,
    ),
    "TimeSformer": (timesformer, 32, 32, [f"encoder.layer.{i}" for i in (0, 1)], "b (h w t) c", 8),
    "joint TimeSformer": (
        lambda: timesformer(attention_type="joint_space_time"),
        32,
        32,
        [f"encoder.layer.{i}" for i in (0, 1)],
        "b (h w t) c",
        8,
    ),
    "ViViT": (vivit, 32, 32, [f"layers.{i}" for i in (0, 1)], "b (t h w) c", 4),
    "V-JEPA 2": (v_jepa_2, 32, 32, [f"encoder.layer.{i}" for i in (0, 1)], "b (t h w) c", 4),
}


class Look(nn.Module):
    """Keeps what it is given; takes the place of a module that compares neighbouring places."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.seen.append(clips)
        return clips


@pytest.mark.parametrize("name", VIDEOS)
def test_a_module_in_a_network_of_videos_sees_the_tokens_as_the_network_orders_them(name):
    maker, height, width, _, order, num_frames = VIDEOS[name]
    network = maker()
    insert(network, lambda **_: Look(), num_frames=8)
    site = sites(network)[0]
    given = []
    block: Any = network.get_submodule(site)
    forward = block.forward
    block.forward = lambda tokens, *rest, **options: (
        given.append(tokens) or forward(tokens, *rest, **options)
    )
    network(torch.rand(2, 8, 3, height, width))
    h, w = height // 8, width // 8
    tokens = given[0][:, given[0].shape[1] - num_frames * h * w :]
    wanted = rearrange(tokens, f"{order} -> b t c h w", t=num_frames, h=h, w=w)
    look: Any = network.get_submodule(f"{site}.temporal")
    assert torch.equal(look.seen[0], wanted)


@pytest.mark.parametrize("name", VIDEOS)
def test_a_mark_in_one_frame_and_patch_reaches_that_place_of_the_clip(name):
    maker, height, width, _, _, num_frames = VIDEOS[name]
    network = insert(maker(), lambda **_: Look(), num_frames=8)
    clips = torch.zeros(2, 8, 3, height, width)
    clips[1, 6, :, 8:16, 24:32] = 1  # frame 6, line 1, column 3 of patches of 8 pixels
    network(clips)
    look: Any = network.get_submodule(f"{sites(network)[0]}.temporal")
    still, marked = look.seen[0]
    places = (still - marked).abs().sum(dim=1).nonzero().tolist()
    assert places == [[6 * num_frames // 8, 1, 3]]


@pytest.mark.parametrize("name", VIDEOS)
def test_a_network_of_videos_gets_sites_learns_and_keeps_clips_apart(name):
    maker, height, width, wanted, *_ = VIDEOS[name]
    network = insert(maker(), "m2a", num_frames=8)
    assert sites(network) == wanted
    clips = torch.rand(2, 8, 3, height, width)
    output = network(clips).last_hidden_state
    torch.testing.assert_close(
        network(clips[1:]).last_hidden_state, output[1:], rtol=1e-4, atol=1e-5
    )
    output.square().sum().backward()
    for site in sites(network):
        for parameter in network.get_submodule(f"{site}.temporal").parameters():
            assert parameter.grad is not None and parameter.grad.any()


@pytest.mark.parametrize("name", ["VideoMAE", "TimeSformer"])
def test_a_module_that_changes_nothing_changes_nothing_in_a_network_of_videos(name):
    network = VIDEOS[name][0]()
    clips = torch.rand(2, 8, 3, 32, 32)
    before = network(clips).last_hidden_state
    insert(network, lambda **_: nn.Identity(), num_frames=8)
    assert torch.equal(network(clips).last_hidden_state, before)


def test_a_classifier_of_videos_gets_the_sites_of_its_encoder():
    network = insert(video_mae("VideoMAEForVideoClassification"), "tsm", num_frames=8)
    assert sites(network) == ["videomae.encoder.layer.0", "videomae.encoder.layer.1"]
    assert network(torch.rand(2, 8, 3, 32, 32)).logits.shape == (2, 2)


def test_a_network_of_videos_made_for_other_clips_says_which():
    with pytest.raises(ValueError, match=r"does not take clips of 4 x 32 x 32.*num_frames = 8"):
        insert(video_mae(), "m2a", num_frames=4)


def test_a_network_of_videos_cannot_be_causal():
    with pytest.raises(ValueError, match=r"looks at whole clips.*cannot be causal"):
        insert(video_mae(), "tsm", num_frames=8, causal=True)


def test_rows_of_a_frame_and_rows_of_a_place_that_look_alike_are_refused():
    options = {"num_spatial_layers": 2, "num_temporal_layers": 2, "num_attention_heads": 2}
    options |= {"image_size": 32, "tubelet_size": [1, 8, 8], "hidden_size": 24}
    make_prism = lambda num_frames: make(  # noqa: E731
        "VideoPrismVisionModel", "VideoPrismVisionConfig", num_frames=num_frames, **options
    )
    with pytest.raises(ValueError, match="16 tokens a row come to spatial_layers"):
        insert(make_prism(16), "tsm", num_frames=16)  # 4 x 4 patches, 16 frames
    network = insert(make_prism(8), "tsm", num_frames=8)
    assert sites(network) == ["spatial_layers.0", "spatial_layers.1"]


@pytest.mark.parametrize(
    ("model", "config", "options", "size"),
    [
        ("ViTModel", "ViTConfig", {"image_size": 32}, (32, 32)),
        ("ViTModel", "ViTConfig", {"image_size": [16, 64]}, (16, 64)),
        ("CLIPVisionModel", "CLIPVisionConfig", {"image_size": 48}, (48, 48)),
        ("SiglipVisionModel", "SiglipVisionConfig", {"image_size": 48}, (48, 48)),
    ],
)
def test_the_size_in_a_config_is_read(model, config, options, size):
    network = make(model, config, patch_size=8, **SMALL, **options)
    assert own_image_size(network) == size
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
def test_every_way_to_write_a_size_in_a_config_is_understood(config, size):
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    network.config = config  # pyright: ignore
    assert own_image_size(network) == size
    assert own_image_size(nn.Sequential(network)) == size  # inside another network


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (24, 40)])
@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("ViTModel", "ViTConfig"),
        ("CLIPVisionModel", "CLIPVisionConfig"),
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig"),
        ("DINOv3ViTModel", "DINOv3ViTConfig"),
    ],
)
def test_interpolated_positions_bring_the_true_grid(model, config, size):
    network = make(model, config, image_size=32, patch_size=8, **SMALL)
    insert(network, lambda **_: Look(), num_frames=T)
    words = {"interpolate_pos_encoding": True} if "DINO" not in model.upper() else {}
    network(pixel_values=torch.rand(T, 3, *size), **words)
    for site in sites(network):
        look: Any = network.get_submodule(f"{site}.temporal")
        assert look.seen[0].shape[-2:] == (size[0] // 8, size[1] // 8)


def test_blocks_that_are_told_their_grid_use_it():
    options = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4}
    network = make("SwinModel", "SwinConfig", image_size=32, patch_size=2, **options)
    insert(network, lambda **_: Look(), num_frames=T)
    network(torch.rand(T, 3, 16, 64), interpolate_pos_encoding=True)
    look: Any = network.get_submodule(f"{sites(network)[0]}.temporal")
    assert look.seen[0].shape[-2:] == (8, 32)


def test_tokens_out_of_order_are_refused_where_a_module_compares_places():
    options = {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 2, 1]}
    hiera = lambda: make("HieraModel", "HieraConfig", num_heads=[1, 1, 1, 1], **options)  # noqa: E731
    with pytest.raises(ValueError, match=r"HieraModel at \S+ do not lie line by line"):
        insert(hiera(), "tea", num_frames=T)
    assert len(sites(insert(hiera(), "m2a", num_frames=T))) > 1


def test_a_fresh_dinov3_gives_numbers_after_an_insertion_into_another():
    dinov3 = lambda: make(  # noqa: E731
        "DINOv3ViTModel", "DINOv3ViTConfig", image_size=56, patch_size=8, **SMALL
    )
    insert(dinov3(), "tsm", num_frames=T)
    assert type(dinov3()(torch.rand(1, 3, 56, 56)).last_hidden_state) is Tensor


def test_a_cache_that_keys_by_layer_keeps_no_copy_of_the_network():
    beit = lambda: make(  # noqa: E731
        "BeitModel",
        "BeitConfig",
        image_size=32,
        patch_size=8,
        use_relative_position_bias=True,
        **SMALL,
    )
    insert(beit(), "tsm", num_frames=T)
    assert type(beit()(torch.rand(1, 3, 32, 32)).last_hidden_state) is Tensor
