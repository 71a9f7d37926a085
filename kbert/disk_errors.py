"""What TensorFlow raises for its disk, as Python does."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf


@contextlib.contextmanager
def disk_errors_of(path: Path) -> Iterator[None]:
    """Makes an OSError that names `path` of what TensorFlow raises for its disk.

    Raises:
        OSError: ENOSPC where the disk is full, else EIO.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        full = os.strerror(errno.ENOSPC)
        raise OSError(errno.ENOSPC, full, str(path)) from None
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, str(path)) from None
