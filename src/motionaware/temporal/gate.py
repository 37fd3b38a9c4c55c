"""Gate: run a mechanism on few channels and multiply the input by the result.

    y = x + x * sigmoid(up(inner(down(x))))

Source   The block around every mechanism of Motion Aware Attention, https://arxiv.org/abs/2111.09976
Kept     The factor on x lies in (1, 2) and is about 1.5 at the start. (reference code)
Added    Options, both off. `start="identity"`: y = x * 2 sigmoid(up(...)) with `up` zero at first,
         so the factor lies in (0, 2) and starts at exactly 1, where the sigmoid is steepest. `up`
         learns from the first step on, `inner` and `down` from the second, as in any branch that
         starts at zero. `combine="add"`: y = x + up(...), without the sigmoid.
Changed  The sigmoid is not kept for the backward pass but computed again; see ops/gating.py.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from motionaware.errors import UsageError
from motionaware.ops.autograd_utils import can_use_fast_paths, known_shape
from motionaware.ops.gating import gate_frames
from motionaware.ops.layout import fold_time, per_frame, unfold_time
from motionaware.temporal.layer_checks import read_pointwise
from motionaware.temporal.memory_format import AnyMemoryFormat
from motionaware.temporal.shown_maps import MapKind, ShownMap

Start = Literal["half", "identity"]
Combine = Literal["multiply", "add"]


def narrow_width(channels: int, *, reduction: int) -> int:
    """Return `channels / reduction`, rounded down, at least 1.

    Raises:
        UsageError: `reduction` is below 1.
    """
    if reduction < 1:
        raise UsageError(f"{reduction = }; it divides the channels and must be at least 1")
    return max(channels // reduction, 1)


class Gate(AnyMemoryFormat):
    """Multiply clips by a factor that `inner` computes from few channels.

    Args:
        inner: Module from clips to clips of the same shape, on
            `narrow_width(channels, reduction=reduction)` channels.
        channels: Channels of the clips.
        reduction: Divides the channels for `inner`.
        start: Initial output: `half` gives about 1.5 x, `identity` exactly x.
        combine: `multiply` multiplies x by the factor, `add` adds the output of `up` to x.

    Raises:
        UsageError: `start` or `combine` has another value, or `reduction` is below 1.
    """

    compares_places = False

    def __init__(
        self,
        inner: nn.Module,
        *,
        channels: int,
        reduction: int = 8,
        start: str = "half",
        combine: str = "multiply",
    ) -> None:
        super().__init__()
        if start not in ("half", "identity"):
            raise UsageError(f"{start = }; choose 'half' or 'identity'")
        if combine not in ("multiply", "add"):
            raise UsageError(f"{combine = }; choose 'multiply' or 'add'")
        self.start: Start = start
        self.combine: Combine = combine
        width = narrow_width(channels, reduction=reduction)
        self.down = nn.Conv2d(channels, width, kernel_size=1)
        self.inner = inner
        self.up = nn.Conv2d(width, channels, kernel_size=1)
        if start == "identity":
            nn.init.zeros_(self.up.weight)
            assert self.up.bias is not None
            nn.init.zeros_(self.up.bias)

    def forward(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Multiply the clips by a factor in (1, 2), or as the options say."""
        if self.combine == "add":
            return clips + self._wide(clips)
        double = self.start == "identity"
        down = up = None
        if can_use_fast_paths():
            down, up = read_pointwise(self.down, clips), read_pointwise(self.up, clips)
        if down is None or up is None:
            factor = self._wide(clips).sigmoid()
            return clips * (2 * factor) if double else clips + clips * factor
        num_frames = known_shape(clips)[1]
        gated = gate_frames(
            fold_time(clips),
            lambda narrow: fold_time(self.inner(unfold_time(narrow, num_frames=num_frames))),
            down=down,
            up=up,
            double=double,
        )
        return unfold_time(gated, num_frames=num_frames)

    def _wide(self, clips: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """Return up(inner(down(x))); calls each layer."""
        return per_frame(self.up, self.inner(per_frame(self.down, clips)))

    def shown_maps(self) -> dict[MapKind, ShownMap]:
        """Declare the factor on the input, or what is added to it.

        The hook is on `up`, which runs on frames, `(b t) c h w`; with one clip that is `t c h w`.
        """
        if self.combine == "add":
            read, label = (lambda inputs, frames: frames), "gate: what is added"
        elif self.start == "identity":
            read, label = (lambda inputs, frames: 2 * frames.sigmoid()), "gate, in (0, 2)"
        else:
            read, label = (lambda inputs, frames: 1 + frames.sigmoid()), "gate, in (1, 2)"
        return {"gate": ShownMap(module=self.up, read=read, label=label)}

    def extra_repr(self) -> str:
        """Show the options."""
        return f"start={self.start!r}, combine={self.combine!r}"
