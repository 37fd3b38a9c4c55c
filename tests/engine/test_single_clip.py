import pytest
import torch
from torch import nn

from motionaware.clip import ClipSpec
from motionaware.engine.single_clip import trains_on_one_clip
from motionaware.models.recognizer import VideoRecognizer, create_model


def network(
    backbone: str, num_frames: int, image_size: int, *, temporal: str = "none"
) -> VideoRecognizer:
    clip = ClipSpec(num_frames=num_frames, image_size=image_size)
    return create_model(
        backbone, temporal=temporal, num_classes=3, num_frames=num_frames, clip=clip
    ).train()


def append_to_features(model: VideoRecognizer, module: nn.Module) -> None:
    """Insert a module between the features and the classifier."""
    model.set_submodule("dropout", module)


@pytest.mark.parametrize(
    ("backbone", "num_frames", "image_size", "trains"),
    [
        ("i3d_resnet18_quarter", 8, 32, False),  # its last map is one pixel of one frame
        ("i3d_resnet18_quarter", 8, 64, True),
        ("resnet18_quarter", 1, 32, False),
        ("resnet18_quarter", 2, 32, True),
    ],
)
def test_one_clip_cannot_be_trained_on_only_if_a_norm_has_one_value_per_channel(
    backbone: str, num_frames: int, image_size: int, trains: bool
):
    assert trains_on_one_clip(network(backbone, num_frames, image_size)) is trains


def test_frozen_norms_can_process_one_clip():
    model = network("resnet18_quarter", 1, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert trains_on_one_clip(model)


def test_a_batch_norm_over_vectors_is_found():
    model = network("resnet18_quarter", 8, 32)
    append_to_features(model, nn.BatchNorm1d(model.head.in_features))  # over frames
    assert trains_on_one_clip(model)
    model = network("i3d_resnet18_quarter", 8, 64)
    append_to_features(model, nn.BatchNorm1d(model.head.in_features))  # over clips
    assert not trains_on_one_clip(model)


def test_the_check_changes_neither_the_model_nor_the_random_state():
    model = network("resnet18_quarter", 4, 32, temporal="m2a")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert trains_on_one_clip(model)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_an_error_with_another_cause_is_raised():
    class Failing(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("another cause")

    model = network("resnet18_quarter", 4, 32)
    append_to_features(model, Failing())
    with pytest.raises(RuntimeError, match="another cause"):
        trains_on_one_clip(model)
