"""Temporal Adaptive Module (TAM, of TANet): each clip makes its own kernels along time.

    p = pool(x)                                            one number a frame and channel
    s = sigmoid(conv1(relu(BN(conv3(p)))))                 which frames matter, from their vicinity
    k = softmax(linear(relu(BN(linear(p)))))               3 weights a channel, from the whole clip
    y_t = k_1 (s x)_{t-1} + k_2 (s x)_t + k_3 (s x)_{t+1}  zeros beyond the ends

Source   Liu, Wang, Wu, Qian, Lu, 2021, https://arxiv.org/abs/2005.06803, and their code,
         https://github.com/liu-zhy/temporal-adaptive-module
Kept     The first linear layer reads a row of T numbers: a module serves one T only.
Kept     No skip: what comes out takes the place of x.
Changed  The place: there before the 3x3 convolution of every bottleneck, here where it is put;
         `where="layer*.*.conv2"` is that place in a ResNet with bottlenecks.
Changed  The kernels are applied by adding shifted clips, not as one convolution with a group for
         each clip and channel: the same numbers, at any batch size.

After a `+` it is `MotionAdaptation`, as the M2A authors combine it: y = x + TAM(motion(norm(x))),
and without the fourfold reduction before the sigmoid, since the gate has narrowed already.
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
    """Weigh frames by their vicinity, then mix each channel with a kernel made for this clip.

    Args:
        channels: Channels of the clips.
        num_frames: Frames of the clips.
        reduction: How many times fewer channels the weights of frames are made from.
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
        """Mix every frame with its neighbours.

        Raises:
            ValueError: The clips have another number of frames than the module was made for.
        """
        b, t = clips.shape[0], known_shape(clips)[1]
        if t != self.num_frames:
            raise UsageError(
                f"clips of {t} frames came to a tam made for {self.num_frames}, whose kernels read "
                f"all frames at once; make it with num_frames={t}"
            )
        pooled = reduce(clips, "b t c h w -> b c t", "mean")
        importance = rearrange(self.importance(pooled).sigmoid(), "b c t -> b t c 1 1")
        kernels = self.kernel(rearrange(pooled, "b c t -> (b c) t")).softmax(dim=-1)
        return convolve_over_time(clips * importance, rearrange(kernels, "(b c) k -> b c k", b=b))


def narrow_adaptation(*, channels: int, num_frames: int) -> TemporalAdaptation:
    """TAM on the channels of a gate, without a reduction of its own."""
    return TemporalAdaptation(channels=channels, num_frames=num_frames, reduction=1)


class MotionAdaptation(nn.Module):
    """Add the motion of the frames, mixed along time by kernels that the motion itself makes.

    Args:
        motion: Clip -> clip of the same shape: what counts as motion.
        channels: Channels of the clips.
        num_frames: Frames of the clips.
    """

    compares_places = False

    def __init__(self, motion: nn.Module, *, channels: int, num_frames: int) -> None:
        super().__init__()
        self.motion = motion
        self.mix = narrow_adaptation(channels=channels, num_frames=num_frames)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add mixed motion to the clips."""
        return clips + self.mix(self.motion(normalize_frames(clips)))
