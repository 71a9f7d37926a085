"""Temporary files: unnamed, so that a killed process leaves nothing behind."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO


def temporary_file() -> IO[bytes]:
    """A file that vanishes when it is closed; `TMPDIR` says on which disk."""
    with naming_temporary_folder():
        return tempfile.TemporaryFile(prefix="kbert-")


@contextlib.contextmanager
def naming_temporary_folder() -> Iterator[None]:
    """For a block that writes to temporary files.

    Raises:
        OSError: in place of one without a file name, such as that of a full disk;
            it names the folder, and how to choose another.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(
            error.errno,
            f"{reason} (kbert's temporary files; set TMPDIR to a folder on a disk with "
            "more room)",
            tempfile.gettempdir(),
        ) from error
