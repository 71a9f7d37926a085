"""The C library's memory."""

import ctypes
import os
import platform

_M_ARENA_MAX = -8  # of glibc's malloc.h
_FEW_CORES = 4


def share_one_heap() -> None:
    """Lets all threads of a training take memory from one heap, on few cores.

    glibc gives every thread a heap of its own, and what one thread gives back is of no
    use to the others: a training takes a twentieth more. On many cores threads might
    wait for each other. Other C libraries stay as they are, as does what the user has
    set. To be called before there are threads.
    """
    is_glibc = platform.libc_ver()[0] == "glibc"
    is_set = "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in (
        os.environ.get("GLIBC_TUNABLES", "")
    )
    if is_glibc and not is_set and len(os.sched_getaffinity(0)) <= _FEW_CORES:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
