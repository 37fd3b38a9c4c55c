"""The order of tokens in video networks of transformers, and in Hiera."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from motionaware import insert
from motionaware.models.site_hooks import sites

T = 4
MakeTransformer = Callable[..., nn.Module]


class VideoNetwork(NamedTuple):
    """How to make a video network, and the tokens at its sites."""

    model: str
    config: str
    options: dict[str, Any]
    sites: list[str]
    order: str  # of the tokens after the class token
    num_frames: int  # at a site, of 8
    height: int = 32
    width: int = 32


LAYERS = [f"encoder.layer.{i}" for i in (0, 1)]
COMMON = {"image_size": 32, "patch_size": 8, "num_frames": 8}
V_JEPA_2 = {
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 8,
    "tubelet_size": 2,
    "mlp_ratio": 2,
    "pred_hidden_size": 12,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 2,
    "pred_num_mask_tokens": 1,
}
VIDEO_NETWORKS = {
    "VideoMAE": VideoNetwork(
        "VideoMAEModel", "VideoMAEConfig", COMMON, LAYERS, "b (t h w) c", num_frames=4
    ),
    "oblong VideoMAE": VideoNetwork(
        "VideoMAEModel",
        "VideoMAEConfig",
        {**COMMON, "image_size": [32, 48]},
        LAYERS,
        "b (t h w) c",
        num_frames=4,
        width=48,
    ),
    "TimeSformer": VideoNetwork(
        "TimesformerModel", "TimesformerConfig", COMMON, LAYERS, "b (h w t) c", num_frames=8
    ),
    "joint TimeSformer": VideoNetwork(
        "TimesformerModel",
        "TimesformerConfig",
        {**COMMON, "attention_type": "joint_space_time"},
        LAYERS,
        "b (h w t) c",
        num_frames=8,
    ),
    "ViViT": VideoNetwork(
        "VivitModel",
        "VivitConfig",
        {"image_size": 32, "num_frames": 8, "tubelet_size": [2, 8, 8]},
        [f"layers.{i}" for i in (0, 1)],
        "b (t h w) c",
        num_frames=4,
    ),
    "V-JEPA 2": VideoNetwork(
        "VJEPA2Model", "VJEPA2Config", V_JEPA_2, LAYERS, "b (t h w) c", num_frames=4
    ),
}


class ClipRecorder(nn.Module):
    """Returns its input and keeps it; it counts as a module that compares positions."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.inputs.append(clips)
        return clips


@pytest.fixture
def make_video_network(make_transformer: MakeTransformer) -> Callable[[str], nn.Module]:
    def make(name: str) -> nn.Module:
        facts = VIDEO_NETWORKS[name]
        return make_transformer(facts.model, facts.config, **facts.options)

    return make


@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_a_module_in_a_video_transformer_gets_the_tokens_in_the_network_s_order(
    name, make_video_network
):
    facts = VIDEO_NETWORKS[name]
    network = make_video_network(name)
    insert(network, lambda **_: ClipRecorder(), num_frames=8)
    site = sites(network)[0]
    block_inputs = []
    block: Any = network.get_submodule(site)
    forward = block.forward
    block.forward = lambda tokens, *rest, **options: (
        block_inputs.append(tokens) or forward(tokens, *rest, **options)
    )
    network(torch.rand(2, 8, 3, facts.height, facts.width))
    t, h, w = facts.num_frames, facts.height // 8, facts.width // 8
    tokens = block_inputs[0][:, block_inputs[0].shape[1] - t * h * w :]
    wanted = rearrange(tokens, f"{facts.order} -> b t c h w", t=t, h=h, w=w)
    recorder: Any = network.get_submodule(f"{site}.temporal")
    assert torch.equal(recorder.inputs[0], wanted)


@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_a_change_in_one_frame_and_patch_reaches_the_same_position_of_the_clip(
    name, make_video_network
):
    facts = VIDEO_NETWORKS[name]
    network = insert(make_video_network(name), lambda **_: ClipRecorder(), num_frames=8)
    clips = torch.zeros(2, 8, 3, facts.height, facts.width)
    clips[1, 6, :, 8:16, 24:32] = 1  # frame 6, row 1 and column 3 of patches of 8 pixels
    network(clips)
    recorder: Any = network.get_submodule(f"{sites(network)[0]}.temporal")
    plain, marked = recorder.inputs[0]
    positions = (plain - marked).abs().sum(dim=1).nonzero().tolist()
    assert positions == [[6 * facts.num_frames // 8, 1, 3]]


@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_a_video_transformer_gets_sites_and_gradients_and_does_not_mix_clips(
    name, make_video_network
):
    facts = VIDEO_NETWORKS[name]
    network = insert(make_video_network(name), "m2a", num_frames=8)
    assert sites(network) == facts.sites
    clips = torch.rand(2, 8, 3, facts.height, facts.width)
    output = network(clips).last_hidden_state
    torch.testing.assert_close(
        network(clips[1:]).last_hidden_state, output[1:], rtol=1e-4, atol=1e-5
    )
    output.square().sum().backward()
    for site in sites(network):
        for parameter in network.get_submodule(f"{site}.temporal").parameters():
            assert parameter.grad is not None and parameter.grad.any()


@pytest.mark.parametrize("name", ["VideoMAE", "TimeSformer"])
def test_identity_modules_leave_the_output_of_a_video_transformer_unchanged(
    name, make_video_network
):
    network = make_video_network(name)
    clips = torch.rand(2, 8, 3, 32, 32)
    before = network(clips).last_hidden_state
    insert(network, lambda **_: nn.Identity(), num_frames=8)
    assert torch.equal(network(clips).last_hidden_state, before)


def test_a_video_classifier_gets_the_sites_of_its_encoder(make_transformer: MakeTransformer):
    network = make_transformer("VideoMAEForVideoClassification", "VideoMAEConfig", **COMMON)
    insert(network, "tsm", num_frames=8)
    assert sites(network) == ["videomae.encoder.layer.0", "videomae.encoder.layer.1"]
    assert network(torch.rand(2, 8, 3, 32, 32)).logits.shape == (2, 2)


def test_the_error_for_a_wrong_number_of_frames_names_that_of_the_config(make_video_network):
    with pytest.raises(ValueError, match=r"does not take clips of 4 x 32 x 32.*num_frames = 8"):
        insert(make_video_network("VideoMAE"), "m2a", num_frames=4)


def test_a_video_transformer_cannot_be_causal(make_video_network):
    with pytest.raises(ValueError, match=r"processes whole clips.*cannot be causal"):
        insert(make_video_network("VideoMAE"), "tsm", num_frames=8, causal=True)


def test_tokens_in_another_order_raise_an_error_if_the_module_compares_positions(
    make_transformer: MakeTransformer,
):
    def make_hiera() -> nn.Module:
        options = {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 2, 1]}
        heads = [1, 1, 1, 1]
        return make_transformer(
            "HieraModel", "HieraConfig", small=False, num_heads=heads, **options
        )

    with pytest.raises(ValueError, match=r"HieraModel at \S+ are not in row-major order"):
        insert(make_hiera(), "tea", num_frames=T)
    assert len(sites(insert(make_hiera(), "m2a", num_frames=T))) > 1
