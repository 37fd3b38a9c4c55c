"""Checks whether a temporal module depends on the spatial order of the pixels or tokens.

A module that processes each pixel independently or each frame as a whole gives the same numbers for
any order of the pixels. Every other module needs the height and width of the frame. A class
declares this by the attribute `compares_places`:

    class Mix(nn.Module):
        compares_places = False  # the children are checked separately

A class without this attribute counts as True, unless it is a layer of torch.

| needs height and width | does not |
|---|---|
| `patch`, `tea`, `tdn`, `tdn_stem`, `action`, their `@official` forms, and gates with them | `m2a`,
  `motion`, `attention`, `identity`, `tam`, `tsm`, and gates with these |
"""

from torch import nn

_POOLINGS = ("Pool1d", "Pool2d", "Pool3d", "Unfold", "Fold", "Upsample", "PixelShuffle", "Pad2d")


def compares_places(module: nn.Module) -> bool:
    """Return True if a module, or one inside it, depends on which pixels are neighbours.

    >>> compares_places(nn.Conv2d(8, 8, kernel_size=1)), compares_places(nn.Conv2d(8, 8, 3))
    (False, True)
    """
    declared = getattr(module, "compares_places", None)
    if declared is None:
        is_torch = type(module).__module__.startswith("torch.nn")
        declared = _torch_layer_compares_places(module) if is_torch else True
    return declared or any(compares_places(child) for child in module.children())


def _torch_layer_compares_places(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        return any(size > 1 for size in layer.kernel_size[-2:])
    return any(word in type(layer).__name__ for word in _POOLINGS)
