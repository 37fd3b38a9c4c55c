"""Protocol by which a temporal module declares the maps that can be drawn of it.

    class Mix(nn.Module):
        def forward(self, clips): return clips + self.motion(clips)

        def shown_maps(self):
            return {"motion": ShownMap(module=self.motion, read=lambda inputs, output: output[0])}

`motionaware visualize` calls `shown_maps` on each temporal module of a site and on the modules
inside it, and reads the maps with forward hooks. If several modules declare the same kind of map,
the first one in the order of `nn.Module.modules()` is drawn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

MapKind = Literal["motion", "gate", "attention"]
MAP_KINDS: tuple[MapKind, ...] = ("motion", "gate", "attention")

Reader = Callable[[tuple[Any, ...], Any], Tensor | None]


@dataclass(frozen=True, kw_only=True)
class ShownMap:
    """A map that can be drawn, and how to read it during a forward pass.

    Attributes:
        module: The module that gets the forward hook: the declaring module or one inside it.
        read: Called with the hooked module's inputs and output for a batch of one clip. Returns
            the map without the batch axis, or None if there is none for this input:

            - `motion`: the motion features, `t c h w`. Their root mean square over `c` is drawn.
            - `gate`: the factor on the input, or what is added to it, `t c h w`. Its mean over
              `c` is drawn.
            - `attention`: how much each frame (row) attends to each frame (column), `t t`.
        label: What the numbers of a gate mean, and their range.
    """

    module: nn.Module
    read: Reader
    label: str = "gate"


@runtime_checkable
class ShowsMaps(Protocol):
    """A module that declares maps to draw. It need not derive from this class."""

    def shown_maps(self) -> Mapping[MapKind, ShownMap]:
        """Return the maps of this module by kind; maps of modules inside it are found there."""
        ...


def output_as_motion(module: nn.Module) -> dict[MapKind, ShownMap]:
    """Declare that the output of a module, clips of shape `b t c h w`, is motion."""
    return {"motion": ShownMap(module=module, read=_first_clip)}


def _first_clip(
    inputs: tuple[Any, ...], output: Float[Tensor, "b t c h w"]
) -> Float[Tensor, "t c h w"]:
    return output[0]
