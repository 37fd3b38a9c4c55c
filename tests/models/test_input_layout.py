from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from motionaware import insert
from motionaware.models.site_hooks import sites

T = 4


class GridRecorder(nn.Module):
    """Returns its input and records height and width; it counts as one that compares positions."""

    grids: list[tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.grids = []

    def forward(self, clips: Tensor) -> Tensor:
        self.grids.append(tuple(clips.shape[-2:]))
        return clips


def recorders(network: nn.Module) -> list[GridRecorder]:
    return [module for module in network.modules() if isinstance(module, GridRecorder)]


def test_spatial_axes_of_oblong_maps_are_distinguished_from_channels():
    for name, layout in (("test_convnext", "frames"), ("test_mambaout", "maps")):
        network = timm.create_model(name)
        insert(network, lambda **_: GridRecorder(), num_frames=T, image_size=(64, 128)).eval()
        network(torch.rand(T, 3, 64, 128))
        h, w = recorders(network)[0].grids[0]
        assert (layout, w) == (layout, 2 * h)


def test_sequences_that_may_be_of_frames_or_of_positions_raise_an_error(
    make_transformer: Callable[..., nn.Module],
):
    def make_prism(num_frames: int) -> nn.Module:
        return make_transformer(
            "VideoPrismVisionModel",
            "VideoPrismVisionConfig",
            small=False,
            num_frames=num_frames,
            num_spatial_layers=2,
            num_temporal_layers=2,
            num_attention_heads=2,
            image_size=32,
            tubelet_size=[1, 8, 8],
            hidden_size=24,
        )

    with pytest.raises(ValueError, match="spatial_layers.* take sequences of 16 tokens"):
        insert(make_prism(16), "tsm", num_frames=16)  # 4 x 4 patches, 16 frames
    network = insert(make_prism(8), "tsm", num_frames=8)
    assert sites(network) == ["spatial_layers.0", "spatial_layers.1"]
