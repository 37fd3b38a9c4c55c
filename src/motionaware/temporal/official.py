"""TEA, TDN, TAM and patches as the M2A authors' code modifies them, for its comparison with M2A.

    tea    BN(expand(m)), m as in tea.py                        no pooling, sigmoid or x
    tdn    (e(d) + e'(d')) / 2, e as in tdn.py                  no x; e' uses fine(fine(d))
    tam    as in tam.py, without its reduction                  (tam.narrow_adaptation)
    patch  as in patch.py; on some maps single pixels           see OfficialPatchAttention

Source   https://github.com/gebob19/M2A at 312686f, which gave the numbers of the M2A paper
Kept     Everything, bugs included: for parity and for weights trained there. For the mechanisms of
         the papers, leave `@official` out of the name.
Changed  Patches check the width as well as the height.

All run inside a gate, on its narrow channels, with a reduction of 1.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.attention import attend_over_time, normalize_frames
from motionaware.ops.autograd_utils import known_shape
from motionaware.ops.layout import per_frame
from motionaware.ops.motion import aligned_difference, temporal_difference
from motionaware.temporal.patch import attend_in_patches, maps_in_patches
from motionaware.temporal.shown_maps import MapKind, ShownMap, output_as_motion
from motionaware.temporal.tdn import BidirectionalDifference
from motionaware.temporal.tea import align_channels, convolve_and_norm


class OfficialExcitation(nn.Module):
    """`tea@official`: TEA's motion between two convolutions, without an excitation."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.squeeze = convolve_and_norm(channels, channels)
        self.align = align_channels(channels)
        self.expand = convolve_and_norm(channels, channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the motion of each frame."""
        narrow = per_frame(self.squeeze, clips)
        motion = aligned_difference(narrow, per_frame(self.align, narrow))
        return per_frame(self.expand, motion)

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the output as motion."""
        return output_as_motion(self)


class OfficialDifference(BidirectionalDifference):
    """`tdn@official`: TDN's excitation only, with a bug that TDN's authors have fixed since.

    Bug kept for parity: the full-size convolution of the backward direction gets the forward
    direction's output instead of the backward difference (issue 6 of https://github.com/MCG-NJU/TDN).
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__(channels=channels, num_outputs=channels)
        self.squeeze = convolve_and_norm(channels, channels)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return the motion of each frame."""
        narrow = per_frame(self.squeeze, clips)
        aligned = per_frame(self.align, narrow)
        forward = aligned_difference(narrow, aligned, toward="next")
        backward = aligned_difference(narrow, aligned, toward="previous")
        fine = per_frame(self.fine, forward)
        wrong_fine = per_frame(self.fine, fine)
        return (self.combine(forward, fine) + self.combine(backward, wrong_fine)) / 2


class OfficialPatchAttention(nn.Module):
    """`patch@official`: patches of 4 x 4 pixels where they cover the map exactly, else pixels.

    Single pixels are ordered by frame, row and column, and each is subtracted from the next: the
    differences are between neighbours in a frame. The attention map has (t h w)^2 entries.
    """

    patch_size = 4

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Add attended motion of patches or pixels to the clips.

        Raises:
            UsageError: Patches cover the height, but not the width (an error in the reference too).
        """
        t, _, h, w = known_shape(clips)[1:]
        if h % self.patch_size:
            pixels = rearrange(clips, "b t c h w -> b (t h w) c 1 1")
            pixels = pixels + attend_over_time(temporal_difference(normalize_frames(pixels)))
            return rearrange(pixels, "b (t h w) c 1 1 -> b t c h w", t=t, h=h, w=w)
        if w % self.patch_size:
            raise UsageError(
                f"patch@official got maps of {h} x {w} pixels, which the reference cannot divide "
                f"into patches of {self.patch_size}; use 'patch', or square frames"
            )
        return attend_in_patches(clips, patch_size=self.patch_size)

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the maps of the patches; single pixels have none."""
        return maps_in_patches(
            self, patch_size=self.patch_size, has_patches=lambda h, w: h % self.patch_size == 0
        )
