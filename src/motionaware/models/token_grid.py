"""Find height and width of a sequence of tokens at run time.

The number of tokens does not determine the grid: 64 tokens are 8 x 8 or 4 x 16. A host that takes
tokens gets its grid from the first of these sources:

1. Its own arguments: many blocks take `(h, w)` after the tokens.
2. The layer that made the map whose pixels became the tokens, usually the patch embedding. A
   `MapSize` records the size of this map in each forward pass.
3. If neither is known (a block is called alone): the grid at the time of insertion, or a square.

A grid is used only if it has as many positions as there are tokens. Without a grid, a module that
treats all positions alike still runs; a module that compares neighbouring positions raises an
error.
"""

import warnings
from collections.abc import Sequence
from math import isqrt, prod
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning  # torch.jit has it, its type stubs do not

from motionaware.errors import UsageError
from motionaware.ops.autograd_utils import is_in_backward_pass
from motionaware.temporal.spatial import compares_places

Grid = tuple[int, ...]  # height and width; frames, height and width for tokens of whole clips


class MapSize:
    """Records the size of the maps that a layer takes or returns, in each forward pass.

    Args:
        source: Name of the layer.
        is_input: True to record the layer's input, False to record its output.
        axes: Axes of height and width; of frames, height and width for volumes.

    Copies of a network share the record. Each thread reads the sizes of the forward pass that it runs.
    """

    def __init__(self, source: str, *, is_input: bool, axes: tuple[int, ...]) -> None:
        self.source = source
        self.is_input = is_input
        self.axes = axes
        self._last: Grid | None = None
        self._by_thread: dict[int, Grid] = {}
        self._recorded: set[Grid] = set()

    def __deepcopy__(self, memo: object) -> "MapSize":
        return self

    def __repr__(self) -> str:
        return f"MapSize({self.source!r}, is_input={self.is_input}, axes={self.axes})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None, "_by_thread": {}, "_recorded": set()}

    def record_input(
        self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        """Record the size of the first tensor among the arguments (a forward pre-hook)."""
        tensors = [value for value in (*inputs, *keywords.values()) if isinstance(value, Tensor)]
        if tensors:
            self._record(tensors[0])

    def record_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Record the size of the output (a forward hook)."""
        if isinstance(output, Tensor):
            self._record(output)

    def _record(self, maps: Tensor) -> None:
        if maps.ndim <= max(axis if axis >= 0 else -axis - 1 for axis in self.axes):
            return
        size = tuple(_as_int(maps.shape[axis]) for axis in self.axes)
        self._last = size
        if not torch.compiler.is_compiling():
            self._by_thread[get_ident()] = size
            self._recorded.add(size)

    def sizes(self) -> list[Grid]:
        """Return the sizes that the current pass can have: one, or none if the layer did not run.

        Gradient checkpointing runs a block again during the backward pass. The last record can
        then come from another forward pass, so all recorded sizes are returned.
        """
        if torch.compiler.is_compiling():
            return [] if self._last is None else [self._last]
        if is_in_backward_pass():
            return list(self._recorded)
        of_thread = self._by_thread.get(get_ident())
        return list(self._recorded) if of_thread is None else [of_thread]


def _as_int(size: Any) -> int:
    """Return a size as an integer; torch.jit.trace gives sizes as tensors."""
    if not isinstance(size, Tensor):
        return size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        return int(size)


def find_grid(
    number: int,
    other_arguments: Sequence[Any],
    *,
    site: str,
    module: nn.Module,
    map_sizes: Sequence[Grid],
    scale: tuple[float, float],
    inserted_for: Grid | None,
) -> tuple[int, int]:
    """Return height and width of the tokens of a frame.

    Args:
        number: Image tokens of a frame, without class and register tokens.
        other_arguments: The host's arguments after the tokens.
        site: Name of the host, for the error message.
        module: The temporal module.
        map_sizes: Recorded sizes of the source map; empty if its layer did not run.
        scale: Height and width of the source map, divided by those of the grid.
        inserted_for: The grid when the modules were inserted.

    Raises:
        UsageError: The grid is unknown, and the module compares neighbouring positions.
    """
    given = grid_in_arguments(other_arguments)
    if given is not None and len(given) == 2 and given[0] * given[1] == number:
        return given[0], given[1]
    if len(map_sizes) == 1 and scale == (1.0, 1.0):  # the most frequent case, easy to compile
        h, w = map_sizes[0][-2:]
        if h * w == number:
            return h, w
    candidates = {
        (h, w)
        for size in map_sizes
        for h in _divide(size[-2], scale[0])
        for w in _divide(size[-1], scale[1])
        if h * w == number
    }
    if len(candidates) == 1:
        return candidates.pop()
    if not map_sizes:
        if inserted_for is not None and prod(inserted_for[-2:]) == number:
            return inserted_for[-2], inserted_for[-1]
        side = isqrt(number)
        if side * side == number:
            return side, side
    if compares_places(module):
        maps = ", ".join(f"{size[-2]} x {size[-1]}" for size in map_sizes)
        reason = (
            f"several grids fit: maps of {maps} were recorded before this backward pass; use one "
            "frame size from forward to backward"
            if candidates
            else f"no grid fits maps of {maps}"
            if map_sizes
            else "no earlier layer gave their height and width"
        )
        raise UsageError(
            f"site {site} received {number} tokens, and {reason}; {type(module).__name__} compares "
            "neighbouring positions and needs the grid: call the whole network instead of single "
            "blocks, choose another frame size, or a module that treats all positions alike "
            "(m2a, tsm, tam)"
        )
    return number, 1


def grid_in_arguments(arguments: Sequence[Any]) -> Grid | None:
    """Return the grid at the start of some arguments; None if there is none.

    >>> grid_in_arguments([(4, 16)]), grid_in_arguments([2, 4, None]), grid_in_arguments(["mask"])
    ((4, 16), (2, 4), None)
    """
    if not arguments:
        return None
    first = arguments[0]
    if isinstance(first, tuple | list) and len(first) in (2, 3):
        return tuple(first) if all(isinstance(size, int) for size in first) else None
    pair = tuple(arguments[:2])
    sizes = [size for size in pair if isinstance(size, int) and not isinstance(size, bool)]
    return pair if len(sizes) == 2 else None


def _divide(size: int, scale: float) -> set[int]:
    """Return a size divided by `scale`, rounded down and rounded up."""
    if scale == 1:
        return {size}
    return {int(size / scale), -int(-size // scale)}


def find_clip_grid(
    number: int,
    *,
    site: str,
    map_sizes: Sequence[Grid],
    num_frames: int,
    inserted_for: Grid | None,
) -> tuple[int, int, int]:
    """Return frames, height and width of the `number` image tokens of a clip.

    The other arguments are those of `find_grid`.

    Raises:
        UsageError: The grid is unknown. Every temporal module needs the frames.
    """
    grids = [size if len(size) == 3 else (num_frames, *size) for size in map_sizes]
    if not grids and inserted_for is not None:
        grids = [inserted_for]
    fitting = [grid for grid in grids if prod(grid) == number]
    if len(fitting) == 1:
        t, h, w = fitting[0]
        return t, h, w
    wanted = " or ".join(" x ".join(map(str, grid)) for grid in sorted(grids))
    raise UsageError(
        f"site {site} received {number} tokens; wanted frames x height x width = "
        f"{wanted or 'a known grid'}: give all tokens of whole clips, and do not drop or merge "
        "tokens before this site"
    )
