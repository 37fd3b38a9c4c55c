"""Insert your own temporal module into a network; it needs no registration."""

import torch
from torch import Tensor, nn

import motionaware


class FrameMixer(nn.Module):
    """Add to each frame a learned mix of itself, its predecessor and its successor, per channel."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=channels)

    def forward(self, clips: Tensor) -> Tensor:
        """Take clips `b t c h w` and return clips of the same shape."""
        return clips + self.mix(clips.transpose(1, 2)).transpose(1, 2)


def make_mixer(*, channels: int, num_frames: int) -> nn.Module:
    """Return the module for one site."""
    return FrameMixer(channels=channels)


model = motionaware.create_model("resnet18", temporal=make_mixer, num_classes=5, num_frames=4)
print(model.backbone.layer1[0].conv1)
print("scores:", tuple(model(torch.rand(2, 4, 3, 64, 64)).shape))
