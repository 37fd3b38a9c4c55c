"""Let glibc's malloc keep the memory that a training step frees, for the next step.

A training step on the CPU allocates and frees hundreds of megabytes in large blocks. By default,
glibc returns each large block to the system, which clears its pages again at the next allocation.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h


def keep_freed_memory() -> bool:
    """Set malloc of this process to keep freed memory, until the process ends.

    Numbers do not change. The process holds its peak memory until it ends.

    Returns:
        True if the setting was made, False where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    # Allocate large blocks on the heap, too, and never shrink the heap.
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
