"""Memory that training gives back only to take it again."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's names for mallopt


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the process; False where there is another C library.

    A training step on a CPU frees and takes hundreds of megabytes; given back, each page of them costs a fault in the
    next step (a quarter of the step's time at 20 layers of 64 channels). It holds for the whole process and must come
    before the first computation, so that programs call it, and not the library.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_ARENA_MAX, 1) and mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
