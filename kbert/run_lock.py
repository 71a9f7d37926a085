"""One process writes a run; a second one is told so."""

import contextlib
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from kbert.errors import RunError

LOCK = ".lock"

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds a run folder for this process alone.

    The kernel lets go of the lock however the process ends, also by kill -9. The file
    stays: whoever deletes it may delete it under another who waits for it.

    Args:
        run: the folder, which is there.

    Raises:
        RunError: another process trains in it, or the lock is no file.
        OSError: the folder cannot be written to.
    """
    descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RunError(f"{run / LOCK} must be a regular file. Delete it.")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise RunError(
                f"Another process is training in {run}"
                f"{f' ({holder})' if holder else ''}. Wait until it has ended, or "
                "choose another --output."
            ) from None
        except OSError as error:  # some network file systems have no locks
            logger.warning(
                "%s cannot be locked (%s): see to it that no second process trains "
                "in it.",
                run,
                error.strerror,
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0
        )
        yield
    finally:
        os.close(descriptor)
