"""Whether a file is the one it was."""

import hashlib
from pathlib import Path

from kbert.data.compressed import unreadable

_BLOCK = 16_384  # bytes
_NUM_BLOCKS = 64


def digest_of_file(path: Path) -> str:
    """The SHA-256 of all of a file, which takes about a second for a gigabyte.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise unreadable(path, error) from None


def fingerprint_of(path: Path) -> str:
    """The size of a file and a SHA-256 of what is in it.

    It is the same on another machine, and whatever the file is called. A file of up to
    a megabyte is read whole; of a larger one, 64 blocks evenly from its first byte to
    its last. So a change of a few bytes within a large file that keeps its size may go
    unnoticed.

    Raises:
        DataError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            num_bytes = file.seek(0, 2)
            last = max(0, num_bytes - _BLOCK)
            step = max(_BLOCK, -(-last // (_NUM_BLOCKS - 1)))
            for start in [*range(0, last, step), last]:
                file.seek(start)
                digest.update(file.read(_BLOCK))
    except OSError as error:
        raise unreadable(path, error) from None
    return f"{num_bytes} bytes, sha256 {digest.hexdigest()}"
