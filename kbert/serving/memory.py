"""Giving memory back to the system when a model goes."""

import ctypes
import gc

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def freeze_imports() -> None:
    """Lets later collections pass over all that is there, once, before any model.

    A collection stops every thread. That of TensorFlow's own modules would take a good
    part of a second, and find nothing.
    """
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Frees what is no longer reachable, and returns free pages to the system.

    A graph's Python objects refer to each other in circles, and through them to the
    session; the garbage collector would come to them late. glibc keeps what was freed
    for later use, a model's weights included, unless it is told to trim. Where there
    is another C library, that part is left to it.
    """
    gc.collect()
    if _malloc_trim is not None:
        _malloc_trim(0)
