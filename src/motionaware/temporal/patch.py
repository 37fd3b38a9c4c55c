"""Patch motion attention: M2A in every patch of the map, then attention between the patches.

    p = p + softmax(m m^T / sqrt(d)) m,  m = diff(norm(p))    over time, for each patch
    p = p + softmax(n n^T / sqrt(d)) n,  n = norm(p)          over the patches of each frame

p are the d = size * size * c numbers of a patch in a frame.

Source   The M2A authors' code, https://github.com/gebob19/M2A (`patch_mattn`)
Changed  A map that patches do not cover exactly is padded at its right and lower edge with the
         values of the edge, and cropped afterwards. The reference and `patch@official` use single
         pixels there, and subtract neighbouring pixels instead of frames.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.attention import attend_over_time, normalize_frames, time_attention_map
from motionaware.ops.autograd_utils import known_shape
from motionaware.ops.layout import per_frame
from motionaware.ops.motion import temporal_difference
from motionaware.temporal.shown_maps import MapKind, ShownMap


def attend_in_patches(
    clips: Float[Tensor, "b t c h w"], *, patch_size: int
) -> Float[Tensor, "b t c h w"]:
    """Apply motion attention over time in each patch, then attention over the patches of a frame.

    Height and width must be multiples of the patch size.
    """
    y, x = (size // patch_size for size in known_shape(clips)[-2:])
    patches = rearrange(clips, "b t c (y p) (x q) -> (b y x) t c p q", y=y, x=x)
    patches = patches + attend_over_time(temporal_difference(normalize_frames(patches)))
    tokens = rearrange(patches, "(b y x) t c p q -> b t (y x) (c p q)", y=y, x=x)
    normal = F.layer_norm(tokens, known_shape(tokens)[-1:])
    tokens = tokens + F.scaled_dot_product_attention(normal, normal, normal)
    return rearrange(
        tokens, "b t (y x) (c p q) -> b t c (y p) (x q)", y=y, x=x, p=patch_size, q=patch_size
    )


def maps_in_patches(
    module: nn.Module,
    *,
    patch_size: int,
    has_patches: Callable[[int, int], bool] = lambda h, w: True,
) -> dict[MapKind, ShownMap]:
    """Declare the motion inside each patch, and the attention over time averaged over patches.

    Args:
        module: The module whose input is divided into patches.
        patch_size: Height and width of a patch, in pixels of the map.
        has_patches: False for the height and width of maps that the module does not divide.
    """

    def motion_in_patches(clips: Float[Tensor, "1 t c h w"]) -> Float[Tensor, "n t c p q"]:
        h, w = known_shape(clips)[-2:]
        padding = (0, -w % patch_size, 0, -h % patch_size)
        padded = F.pad(clips[0], padding, mode="replicate")
        patches = rearrange(padded, "t c (y p) (x q) -> (y x) t c p q", p=patch_size, q=patch_size)
        return temporal_difference(normalize_frames(patches))

    def read_motion(inputs: tuple[Any, ...], output: Any) -> Float[Tensor, "t c h w"] | None:
        h, w = known_shape(inputs[0])[-2:]
        if not has_patches(h, w):
            return None
        motion = motion_in_patches(inputs[0])
        return rearrange(motion, "(y x) t c p q -> t c (y p) (x q)", y=-(-h // patch_size))[
            ..., :h, :w
        ]

    def read_attention(inputs: tuple[Any, ...], output: Any) -> Float[Tensor, "t t2"] | None:
        if not has_patches(*known_shape(inputs[0])[-2:]):
            return None
        weights = time_attention_map(motion_in_patches(inputs[0]))
        return reduce(weights, "n 1 t t2 -> t t2", "mean")

    return {
        "motion": ShownMap(module=module, read=read_motion),
        "attention": ShownMap(module=module, read=read_attention),
    }


class PatchMotionAttention(nn.Module):
    """Apply motion attention in patches to maps of any size.

    Args:
        patch_size: Height and width of a patch, in pixels of the map.

    Raises:
        UsageError: `patch_size` is below 1.
    """

    def __init__(self, *, patch_size: int = 4) -> None:
        super().__init__()
        if patch_size < 1:
            raise UsageError(f"{patch_size = }; it is a number of pixels and must be at least 1")
        self.patch_size = patch_size

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add attended motion of the patches to the clips."""
        h, w = known_shape(clips)[-2:]
        padding = (0, -w % self.patch_size, 0, -h % self.patch_size)
        padded = per_frame(lambda frames: F.pad(frames, padding, mode="replicate"), clips)
        return attend_in_patches(padded, patch_size=self.patch_size)[..., :h, :w]

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the motion in each patch and the mean attention over time."""
        return maps_in_patches(self, patch_size=self.patch_size)

    def extra_repr(self) -> str:
        """Show the patch size."""
        return f"patch_size={self.patch_size}"
