"""Makes `to(memory_format=...)` apply to kernels of 2-D and 3-D convolutions in one call.

torch applies one format to every kernel: `channels_last` raises an error for kernels with 5 axes,
`channels_last_3d` for those with 4. A temporal module for images may hold a 3-D convolution
(`action`), and one in a 3-D network holds 2-D convolutions. `AnyMemoryFormat` gives each kernel the
channels-last format for its number of axes.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


class AnyMemoryFormat(nn.Module):
    """Base of modules that accept both channels-last formats, for kernels of 4 and of 5 axes.

    >>> import torch
    >>> module = AnyMemoryFormat()
    >>> module.kernel = nn.Parameter(torch.zeros(8, 4, 3, 3, 3))
    >>> _ = module.to(memory_format=torch.channels_last)
    >>> module.kernel.is_contiguous(memory_format=torch.channels_last_3d)
    True
    """

    def _apply(self, fn: Change, recurse: bool = True) -> Any:
        """Apply `fn` to every tensor inside; `to`, `half`, `cuda` and others call this."""
        return super()._apply(_for_any_rank(fn), recurse)


def _for_any_rank(fn: Change) -> Change:
    """Return `fn` extended to kernels with 4 or 5 axes: with one axis more or less if it raises."""

    def changed(tensor: Tensor) -> Tensor:
        try:
            return fn(tensor)
        except RuntimeError:  # the memory format of another rank; any other error is raised below
            if tensor.ndim not in (4, 5):
                raise
        if tensor.ndim == 4:
            return fn(tensor.unsqueeze(2)).squeeze(2)
        return fn(tensor.flatten(2, 3)).unflatten(2, tensor.shape[2:4])

    return changed
