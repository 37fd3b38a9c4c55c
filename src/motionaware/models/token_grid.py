"""Height and width of a row of tokens, found at run time.

A row of tokens does not say where its lines end: 64 tokens are 8 x 8 or 4 x 16. The network knows.
In this order, a host of tokens gets its grid from

1. its own arguments: many blocks are told `(h, w)` after the tokens;
2. the layer that made the map of which the tokens are the pixels, mostly the convolution that
   embeds patches. A `MapSize` notes the size of its map in each forward pass.
3. If neither says anything (a block is called alone), the grid is that of the size for which the
   modules were inserted, or a square.

A grid counts only if it has as many places as there are tokens. Without one, a module that treats
all places alike runs, and a module that compares neighbouring places is refused.
"""

import warnings
from collections.abc import Sequence
from math import isqrt, prod
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from motionaware.errors import UsageError
from motionaware.ops.autograd_utils import is_in_backward_pass
from motionaware.temporal.spatial import compares_places

Grid = tuple[int, ...]  # height and width; frames before them for tokens of whole clips


class MapSize:
    """Notes the size of the maps that a layer takes or gives, in each forward pass.

    Args:
        source: Name of the layer.
        takes: Note the layer's input instead of its output.
        axes: Axes of height and width (of frames, too, for volumes).

    Copies of a network share the notes; each thread reads its own.
    """

    def __init__(self, source: str, *, takes: bool, axes: tuple[int, ...]) -> None:
        self.source = source
        self.takes = takes
        self.axes = axes
        self._last: Grid | None = None
        self._by_thread: dict[int, Grid] = {}
        self._seen: set[Grid] = set()

    def __deepcopy__(self, memo: object) -> "MapSize":
        return self

    def __repr__(self) -> str:
        return f"MapSize({self.source!r}, takes={self.takes}, axes={self.axes})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None, "_by_thread": {}, "_seen": set()}

    def note_input(
        self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        """Note the first tensor that comes to the layer (a forward pre-hook)."""
        tensors = [one for one in (*inputs, *keywords.values()) if isinstance(one, Tensor)]
        if tensors:
            self._note(tensors[0])

    def note_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Note the tensor that the layer gives (a forward hook)."""
        if isinstance(output, Tensor):
            self._note(output)

    def _note(self, maps: Tensor) -> None:
        if maps.ndim <= max(axis if axis >= 0 else -axis - 1 for axis in self.axes):
            return
        size = tuple(_whole(maps.shape[axis]) for axis in self.axes)
        self._last = size
        if not torch.compiler.is_compiling():
            self._by_thread[get_ident()] = size
            self._seen.add(size)

    def sizes(self) -> list[Grid]:
        """Sizes that the current pass can have: one, or none if the layer did not run.

        Gradient checkpointing runs a block again during the backward pass, when another pass may
        have been noted: then all sizes seen so far are possible.
        """
        if torch.compiler.is_compiling():
            return [] if self._last is None else [self._last]
        if is_in_backward_pass():
            return list(self._seen)
        own = self._by_thread.get(get_ident())
        return list(self._seen) if own is None else [own]


def _whole(size: Any) -> int:
    """A size as a number: under torch.jit.trace sizes are tensors."""
    if not isinstance(size, Tensor):
        return size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        return int(size)


def find_grid(
    number: int,
    rest: Sequence[Any],
    *,
    site: str,
    module: nn.Module,
    noted: Sequence[Grid],
    scale: tuple[float, float],
    made_for: Grid | None,
) -> tuple[int, int]:
    """Return height and width of `number` tokens.

    Args:
        number: Tokens of a frame, without class and register tokens.
        rest: The host's arguments after the tokens.
        site: Name of the host, for the error.
        module: The temporal module.
        noted: Sizes of the source's map; empty if it did not run.
        scale: The source's map is so many times higher and wider than the tokens.
        made_for: The grid when the modules were inserted.

    Raises:
        ValueError: The grid is unknown, and the module compares neighbouring places.
    """
    told = told_grid(rest)
    if told is not None and len(told) == 2 and told[0] * told[1] == number:
        return told[0], told[1]
    if len(noted) == 1 and scale == (1.0, 1.0):  # by far the most frequent, and easy to compile
        h, w = noted[0][-2:]
        if h * w == number:
            return h, w
    fitting = {
        (h, w)
        for size in noted
        for h in _scaled(size[-2], scale[0])
        for w in _scaled(size[-1], scale[1])
        if h * w == number
    }
    if len(fitting) == 1:
        return fitting.pop()
    if not noted:
        if made_for is not None and prod(made_for[-2:]) == number:
            return made_for[-2], made_for[-1]
        side = isqrt(number)
        if side * side == number:
            return side, side
    if compares_places(module):
        maps = ", ".join(f"{size[-2]} x {size[-1]}" for size in noted)
        why = (
            f"several grids fit, since maps of {maps} were noted before this backward pass; "
            "run one size of frames from forward to backward"
            if fitting
            else f"no grid fits maps of {maps}"
            if noted
            else "no layer before it said their height and width"
        )
        raise UsageError(
            f"{number} tokens came to site {site}, and {why}; {type(module).__name__} compares "
            "neighbouring places and needs the grid: call the whole network and not its blocks, "
            "choose frames of another size, or a module that treats all places alike (m2a, tsm, "
            "tam)"
        )
    return number, 1


def told_grid(rest: Sequence[Any]) -> Grid | None:
    """Return the grid in the arguments after the tokens: `(h, w)`, `(t, h, w)`, or h and w."""
    if not rest:
        return None
    first = rest[0]
    if isinstance(first, tuple | list) and len(first) in (2, 3):
        return tuple(first) if all(isinstance(one, int) for one in first) else None
    pair = tuple(rest[:2])
    sizes = [one for one in pair if isinstance(one, int) and not isinstance(one, bool)]
    return pair if len(sizes) == 2 else None


def _scaled(size: int, scale: float) -> set[int]:
    """Sizes of a map that is `scale` times smaller, rounded either way."""
    if scale == 1:
        return {size}
    return {int(size / scale), -int(-size // scale)}


def find_clip_grid(
    number: int,
    *,
    site: str,
    noted: Sequence[Grid],
    num_frames: int,
    made_for: Grid | None,
) -> tuple[int, int, int]:
    """Return frames, height and width of the `number` tokens of a clip.

    Raises:
        ValueError: The grid is unknown. Every temporal module needs to know the frames.
    """
    grids = [size if len(size) == 3 else (num_frames, *size) for size in noted]
    if not grids and made_for is not None:
        grids = [made_for]
    fitting = [grid for grid in grids if prod(grid) == number]
    if len(fitting) == 1:
        t, h, w = fitting[0]
        return t, h, w
    raise UsageError(
        f"{number} tokens came to site {site}; wanted frames x height x width = "
        f"{' or '.join(' x '.join(map(str, grid)) for grid in sorted(grids)) or 'a known grid'}: "
        "give all tokens of whole clips, and do not drop or merge tokens before this site"
    )
