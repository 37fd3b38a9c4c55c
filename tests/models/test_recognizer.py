import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from motionaware import ClipSpec, create_model
from motionaware.errors import MotionAwareWarning


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = create_model("resnet18_quarter", temporal="m2a", num_classes=5, num_frames=4).eval()
    nn.init.normal_(model.head.weight)
    return model


def test_uint8_and_floats_in_0_to_1_are_the_same_clip(model):
    clips = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model(clips), model(clips.float() / 255))


def test_the_model_normalises_its_input(model):
    clips = torch.rand(1, 4, 3, 32, 32)
    features = model.backbone(((clips - model.mean) / model.std)[0])
    torch.testing.assert_close(model(clips), model.head(features).mean(dim=0, keepdim=True))


def test_scores_are_the_mean_over_frames():
    torch.manual_seed(0)
    model = create_model("resnet18_quarter", temporal="none", num_classes=5, num_frames=3).eval()
    nn.init.normal_(model.head.weight)
    clip = torch.rand(1, 3, 3, 32, 32)
    still = [model(clip[:, i : i + 1].expand(1, 3, 3, 32, 32)) for i in range(3)]
    torch.testing.assert_close(model(clip), torch.stack(still).mean(dim=0))


def test_without_a_temporal_module_the_order_of_frames_does_not_matter():
    model = create_model("resnet18_quarter", temporal="none", num_classes=5, num_frames=3).eval()
    nn.init.normal_(model.head.weight)
    clips = torch.rand(2, 3, 3, 32, 32)
    torch.testing.assert_close(model(clips), model(clips.flip(1)))


def test_channels_last_gives_the_same_scores(model):
    clips = torch.rand(2, 4, 3, 32, 32)
    before = model(clips)
    after = copy.deepcopy(model).to(memory_format=torch.channels_last)(clips)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "vit_b_16"])
def test_the_error_for_a_refused_frame_size_names_the_wanted_size(name):
    model = create_model(name, temporal="none", num_classes=3, num_frames=2)
    message = r"does not take frames of 96 x 64 pixels .*; wanted 224 x 224, the size in model.clip"
    with pytest.raises(ValueError, match=message):
        model(torch.rand(1, 2, 3, 96, 64))


def test_an_error_at_the_right_frame_size_is_not_reported_as_a_wrong_size(model, monkeypatch):
    def fail(images: torch.Tensor) -> None:
        raise RuntimeError("unrelated error")

    monkeypatch.setattr(model.backbone, "forward", fail)
    size = model.clip.image_size
    with pytest.raises(RuntimeError, match="unrelated error"):
        model(torch.rand(1, 4, 3, size, size))


class Failing(nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("error in the module")


class Halving(nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips[:, ::2]


class Pair(nn.Module):
    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, int]:
        return clips, 0


def test_an_error_in_a_temporal_module_is_not_reported_as_a_wrong_size():
    model = create_model("resnet18_quarter", temporal=Failing, num_classes=2, num_frames=4)
    with pytest.raises(RuntimeError, match="^error in the module$"):
        model(torch.rand(1, 4, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("resnet18_quarter", r"layer1\.0\.conv1"),
        ("convnext_atto", r"stages\.0\.blocks\.0"),
        ("deit_tiny_patch16_224", r"blocks\.0"),
        ("r3d_18", r"layer1\.0"),
    ],
)
def test_the_error_for_a_module_that_changes_the_shape_names_its_site(name, site):
    size = 224 if "224" in name else 32
    clips = torch.rand(1, 4, 3, size, size)
    model = create_model(name, temporal=Halving, num_classes=2, num_frames=4)
    message = rf"module Halving at {site}\S* returned shape \(1, 2, (.*)\); wanted .*: \(1, 4, \1\)"
    with pytest.raises(ValueError, match=message):
        model(clips)


def test_the_error_for_a_module_that_returns_no_tensor_names_its_site():
    model = create_model("resnet18_quarter", temporal=Pair, num_classes=2, num_frames=4)
    with pytest.raises(ValueError, match=r"module Pair at layer1\.0\.conv1 returned tuple; wanted"):
        model(torch.rand(1, 4, 3, 32, 32))


def test_floats_up_to_255_raise_an_error_and_uint8_is_accepted(model):
    clips = torch.randint(256, (1, 4, 3, 32, 32), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"floats up to 25\d; wanted floats in \[0, 1\]"):
        model(clips.float())
    torch.testing.assert_close(model(clips), model(clips / 255))


@pytest.mark.parametrize("name", ["resnet34", "mobilenet_v2", "resnet10t", "mobilenetv3_small_050"])
def test_torchvision_and_timm_networks_open_by_name(name):
    model = create_model(name, temporal="tsm", num_classes=3, num_frames=2).eval()
    assert model(torch.rand(1, 2, 3, 32, 32)).shape == (1, 3)


def test_a_timm_network_has_its_own_mean():
    model = create_model("tf_efficientnet_lite0", temporal="m2a", num_classes=3, num_frames=2)
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_quarter_resnet_has_a_quarter_of_the_channels_and_the_same_depth():
    narrow = create_model("resnet18_quarter", temporal="none", num_classes=2).backbone
    full = create_model("resnet18", temporal="none", num_classes=2).backbone
    widths = {k: v.shape[0] for k, v in full.state_dict().items() if v.ndim == 4}
    quarters = {k: v.shape[0] for k, v in narrow.state_dict().items() if v.ndim == 4}
    assert quarters == {key: width // 4 for key, width in widths.items()}


def test_m2a_adds_the_papers_parameters_to_resnet18():
    def count(temporal: str) -> int:
        model = create_model("resnet18", temporal=temporal, num_classes=174)
        return sum(p.numel() for p in model.parameters())

    assert 0.105e6 < count("m2a") - count("none") < 0.115e6


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 32, 32), "(4, 3, 32, 32) have 4 axes; wanted b t 3 h w with t = 4"),
        ((2, 3, 4, 32, 32), "have 4 colours; wanted b t 3 h w with t = 4; swap axes 1 and 2"),
        (
            (2, 8, 3, 32, 32),
            "have 8 frames; wanted b t 3 h w with t = 4: sample model.clip.num",
        ),
    ],
)
def test_the_error_for_a_wrong_layout_names_the_wanted_layout(model, shape, message):
    with pytest.raises(ValueError) as error:
        model._check_clips(torch.rand(shape))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "backbone 'resnet81' is unknown; did you mean 'resnet18'"),
        ("resnet18", {"temporal": "m2x"}, "temporal 'm2x' is unknown"),
        ("resnet18", {"num_classes": None}, "give num_classes or class_names"),
        ("resnet18", {"class_names": ["a"]}, "num_classes = 3 but class_names has 1"),
        (
            "resnet18",
            {"num_classes": 0},
            "class_names is empty; a classifier needs at least",
        ),
        ("resnet18", {"clip": ClipSpec(num_frames=4)}, "but clip.num_frames is 4"),
        ("resnet18_quarter", {"pretrained": True}, "resnet18_quarter has no published weights"),
        ("resnet18", {"pretrained": "package"}, "no package has weights of 'resnet18'"),
    ],
)
def test_invalid_arguments_of_create_model_raise_an_error(name, options, message):
    with pytest.raises(ValueError) as error:
        create_model(name, **{"temporal": "m2a", "num_classes": 3, **options})
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["r3d_18", "i3d_resnet18_quarter"])
def test_a_3d_network_scores_clips_as_a_whole(name):
    torch.manual_seed(0)
    clip = ClipSpec(num_frames=4, image_size=32)
    model = create_model(name, temporal="m2a", num_classes=3, num_frames=4, clip=clip).eval()
    nn.init.normal_(model.head.weight)
    clips = torch.rand(2, 4, 3, 32, 32)
    scores = model(clips)
    assert scores.shape == (2, 3)
    torch.testing.assert_close(model(clips[1:]), scores[1:], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(clips.flip(1)), scores)


def test_the_error_for_an_impossible_frame_size_names_a_possible_one():
    clip = ClipSpec(image_size=50)
    with pytest.raises(ValueError, match=r"use clip=ClipSpec\(image_size=224"):
        create_model("xcit_nano_12_p8_224", temporal="none", num_classes=3, clip=clip)


COMPILED = """
import torch, motionaware
clips = torch.rand(1, 4, 3, 32, 32)
for temporal in ("none", "m2a(reduction=4)", "tsm", "m2a(reduction=4, temperature=50)"):
    model = motionaware.create_model(
        "resnet18_quarter", temporal=temporal, num_classes=3, num_frames=4
    ).eval()
    torch.nn.init.normal_(model.head.weight)
    with torch.no_grad():
        scores = torch.compile(model, backend="eager")(clips)
        torch.testing.assert_close(scores, model(clips), rtol=1e-4, atol=1e-4)
"""


def test_compiled_models_with_the_same_backbone_run_their_own_temporal_modules():
    # In a separate process: the type checks that tests add to every call would break the graph.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_normalised_clips_give_a_warning():
    model = create_model("resnet18_quarter", temporal="none", num_classes=2, num_frames=2)
    clips = (torch.rand(1, 2, 3, 32, 32) - model.mean) / model.std
    with pytest.warns(MotionAwareWarning, match=r"wanted floats in \[0, 1\]. If you normalised"):
        model(clips)
    model(torch.rand(1, 2, 3, 32, 32) - 0.1)  # undershoot of resampling


def test_repeated_class_names_raise_an_error():
    with pytest.raises(ValueError, match="class_names has 'left' more than once"):
        create_model("resnet18_quarter", temporal="none", class_names=["left", "right", "left"])


@pytest.mark.parametrize("layout", [torch.channels_last, torch.channels_last_3d])
@pytest.mark.parametrize("backbone", ["resnet18_quarter", "i3d_resnet18"])
def test_a_recognizer_converts_to_either_channels_last_format(backbone, layout):
    model = create_model(backbone, temporal="action", num_classes=3, num_frames=4).eval()
    clips = torch.rand(2, 4, 3, 32, 32)
    before = model(clips)
    assert model.to(memory_format=layout) is model
    kernels = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in kernels:
            assert parameter.is_contiguous(memory_format=kernels[parameter.ndim])
    torch.testing.assert_close(model(clips), before, rtol=1e-4, atol=1e-4)
    assert model.to(torch.float64).head.weight.dtype == torch.float64
