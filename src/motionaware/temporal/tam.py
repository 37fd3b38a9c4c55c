"""Temporal Adaptive Module (TAM, of TANet): kernels along time, computed from each clip.

    p = pool(x)                                            one number per frame and channel
    s = sigmoid(conv1(relu(BN(conv3(p)))))                 weights of frames, by neighbours
    k = softmax(linear(relu(BN(linear(p)))))               3 weights per channel, by the clip
    y_t = k_1 (s x)_{t-1} + k_2 (s x)_t + k_3 (s x)_{t+1}  zeros beyond the ends

Source   Liu, Wang, Wu, Qian, Lu, 2021, https://arxiv.org/abs/2005.06803, and their code,
         https://github.com/liu-zhy/temporal-adaptive-module
Kept     The first linear layer reads T numbers: a module works for one T only.
Kept     No skip connection: y replaces x.
Changed  The site: in TANet before the 3x3 convolution of every bottleneck, here any site;
         `where="layer*.*.conv2"` gives those of TANet in a ResNet with bottlenecks.
Changed  The kernels are applied by adding shifted clips instead of a convolution with one group per
         clip and channel: the same numbers, at any batch size.

After a `+` the module is `MotionAdaptation`, the M2A authors' combination: y = x +
TAM(motion(norm(x))), without the fourfold reduction before the sigmoid, since the gate reduces the
channels.
"""

from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.attention import normalize_frames
from motionaware.ops.autograd_utils import known_shape
from motionaware.ops.motion import convolve_over_time
from motionaware.temporal.gate import narrow_width

KERNEL_SIZE = 3


class TemporalAdaptation(nn.Module):
    """Multiply frames by learned weights, then convolve over time with kernels computed per clip.

    Args:
        channels: Channels of the clips.
        num_frames: Frames of the clips.
        reduction: Divides the channels for the weights of frames.
    """

    compares_places = False

    def __init__(self, *, channels: int, num_frames: int, reduction: int = 4) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.kernel = nn.Sequential(
            nn.Linear(num_frames, 2 * num_frames, bias=False),
            nn.BatchNorm1d(2 * num_frames),
            nn.ReLU(),
            nn.Linear(2 * num_frames, KERNEL_SIZE, bias=False),
        )
        width = narrow_width(channels, reduction=reduction)
        self.importance = nn.Sequential(
            nn.Conv1d(channels, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, channels, kernel_size=1, bias=False),
        )

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Mix each frame with its neighbours.

        Raises:
            UsageError: The clips do not have `num_frames` frames.
        """
        b, t = clips.shape[0], known_shape(clips)[1]
        if t != self.num_frames:
            raise UsageError(
                f"tam got clips of {t} frames, wanted {self.num_frames}: its kernels read all "
                f"frames at once; make it with num_frames={t}"
            )
        pooled = reduce(clips, "b t c h w -> b c t", "mean")
        importance = rearrange(self.importance(pooled).sigmoid(), "b c t -> b t c 1 1")
        kernels = self.kernel(rearrange(pooled, "b c t -> (b c) t")).softmax(dim=-1)
        return convolve_over_time(clips * importance, rearrange(kernels, "(b c) k -> b c k", b=b))


def narrow_adaptation(*, channels: int, num_frames: int) -> TemporalAdaptation:
    """Return TAM on the channels of a gate, without a reduction."""
    return TemporalAdaptation(channels=channels, num_frames=num_frames, reduction=1)


class MotionAdaptation(nn.Module):
    """Add the motion of the frames, convolved over time with kernels computed from that motion.

    Args:
        motion: Module from normalised clips to their motion, of the same shape.
        channels: Channels of the clips.
        num_frames: Frames of the clips.
    """

    compares_places = False

    def __init__(self, motion: nn.Module, *, channels: int, num_frames: int) -> None:
        super().__init__()
        self.motion = motion
        self.mix = narrow_adaptation(channels=channels, num_frames=num_frames)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add convolved motion to the clips."""
        return clips + self.mix(self.motion(normalize_frames(clips)))
