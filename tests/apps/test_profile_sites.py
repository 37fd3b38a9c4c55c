import pytest
import torch
from torch import nn

from motionaware.apps.profile_sites import Site, profile_sites, sites_table
from motionaware.clip import ClipSpec
from motionaware.errors import SiteError
from motionaware.models.backbones import Backbone
from motionaware.models.insertion import insert
from motionaware.models.recognizer import VideoRecognizer, create_model

CLIP = ClipSpec(num_frames=4, image_size=32)


def small(temporal: str) -> VideoRecognizer:
    torch.manual_seed(0)
    return create_model(
        "resnet18_quarter", temporal=temporal, num_classes=3, num_frames=4, clip=CLIP
    )


def wrap(network: nn.Module, *, num_features: int) -> VideoRecognizer:
    """Make a recognizer of a network without a plan of its sites."""
    return VideoRecognizer(
        Backbone(network, num_features), clip=CLIP, class_names=["left", "right"], dropout=0.0
    )


class TwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, kernel_size=1, bias=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(frames)).mean(dim=(2, 3))


def test_sites_are_listed_with_the_shape_of_their_input():
    found = profile_sites(small("m2a,tsm"))
    assert [site.name for site in found] == [
        f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)
    ]
    assert [site.channels for site in found] == [16, 16, 16, 32, 32, 64, 64, 128]
    assert found[0] == Site(
        name="layer1.0.conv1",
        layout="frames",
        channels=16,
        num_frames=4,
        module="Gate(MotionAttention(TemporalDifference)), TemporalShift",
    )


def test_the_table_of_sites_has_one_line_per_site():
    lines = sites_table(profile_sites(small("tsm"))).splitlines()
    assert lines[0] == "site            layout  channels  frames  module"
    assert lines[8] == "layer4.1.conv1  frames       128       4  TemporalShift"
    assert len(lines) == 9


def identity(*, channels: int, num_frames: int) -> nn.Module:
    return nn.Identity()


def test_a_site_with_only_a_module_of_torch_shows_its_class_name():
    network = insert(TwoConvolutions(), identity, num_frames=4, where="conv1")
    table = sites_table(profile_sites(wrap(network, num_features=8)))
    assert table.splitlines()[1:] == ["conv1  frames         3       4  Identity"]


def test_a_site_that_does_not_run_is_an_error():
    class Forgetful(TwoConvolutions):
        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return self.conv1(frames).mean(dim=(2, 3))

    network = insert(Forgetful(), identity, num_frames=4, where="conv*")
    with pytest.raises(SiteError, match="conv2 of Forgetful did not run"):
        profile_sites(wrap(network, num_features=8))


def test_a_model_without_temporal_modules_has_no_sites():
    assert profile_sites(small("none")) == []
    assert sites_table([]) == "no temporal modules: the scores of all frames are averaged"


def test_sites_with_one_frame_left_are_listed_without_a_module():
    clip = ClipSpec(num_frames=8, image_size=32)
    model = create_model("r3d_18", temporal="tsm", num_classes=3, num_frames=8, clip=clip)
    found = profile_sites(model)
    assert [(site.channels, site.num_frames) for site in found[4:]] == [
        (128, 4),
        (128, 4),
        (256, 2),
        (256, 2),
        (512, 1),
    ][1:]
    lines = sites_table(found).splitlines()
    assert lines[1] == "layer1.0.conv1.0  volumes        64       8  TemporalShift"
    assert lines[8] == "layer4.1.conv1.0  volumes       512       1  none"
    assert lines[-1].startswith("Sites without a module have only one frame left")


def test_the_layout_of_each_site_is_listed():
    clip = ClipSpec(num_frames=4, image_size=64)
    for name, layout in {"test_mambaout": "maps", "test_vit": "tokens"}.items():
        model = create_model(name, temporal="tsm", num_classes=3, num_frames=4, clip=clip)
        assert {site.layout for site in profile_sites(model)} == {layout}
