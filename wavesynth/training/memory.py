"""Memory allocation of the process."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's names for mallopt


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the process; returns False with other C libraries.

    A training step on a CPU frees and allocates hundreds of megabytes. If the memory returns to the system, each page costs a
    page fault in the next step: a quarter of the step's time at 20 layers of 64 channels. The setting affects the whole
    process and must precede the first computation, so programs call this function, and the library does not.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_ARENA_MAX, 1) and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
