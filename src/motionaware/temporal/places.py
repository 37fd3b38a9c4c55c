"""Whether a temporal module compares neighbouring places of a frame.

A module that treats all places alike (`m2a`, `tsm`, `tam`: every place for itself, or the frame as
a whole) gives the same numbers whatever the order of the places. Any other needs a frame's true
height and width. A module class says so by the attribute `compares_places`:

    class Mix(nn.Module):
        compares_places = False  # apart from its children, which are asked, too

A class that says nothing is taken to compare places. Layers of torch are known.

| needs the grid | does not |
|---|---|
| `patch`, `tea`, `tdn`, `tdn_stem`, `action`, their `@official` forms, and gates with them | `m2a`,
  `motion`, `attention`, `identity`, `tam`, `tsm`, and gates with these |
"""

from torch import nn

_POOLINGS = ("Pool1d", "Pool2d", "Pool3d", "Unfold", "Fold", "Upsample", "PixelShuffle", "Pad2d")


def compares_places(module: nn.Module) -> bool:
    """Return whether a module, or one inside it, compares neighbouring places.

    >>> compares_places(nn.Conv2d(8, 8, kernel_size=1)), compares_places(nn.Conv2d(8, 8, 3))
    (False, True)
    """
    own = getattr(module, "compares_places", None)
    if own is None:
        own = _of_torch(module) if type(module).__module__.startswith("torch.nn") else True
    return own or any(compares_places(child) for child in module.children())


def _of_torch(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        return any(size > 1 for size in layer.kernel_size[-2:])
    return any(word in type(layer).__name__ for word in _POOLINGS)
