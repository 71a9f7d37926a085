"""Files that may be compressed, read as a stream of what is in them."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, cast

from kbert.errors import DataError

FORMATS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""The ending of a compressed file, and what its format is called."""

READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading may raise, to be told by `unreadable`."""


def is_compressed(path: Path) -> bool:
    """Whether a file's name has the ending of a compressed one."""
    return path.suffix.lower() in FORMATS


def open_unpacked(path: Path) -> BufferedReader:
    """Opens a file for reading; what is compressed, as its name tells, is unpacked.

    Raises:
        Any of `READ_ERRORS`, and so may reading from it.
    """
    if not is_compressed(path):
        return path.open("rb")
    return BufferedReader(cast(RawIOBase, _unpacker(path)), 2**16)


def _unpacker(path: Path) -> Any:
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.GzipFile(path, "rb")
    if ending == ".bz2":
        return bz2.BZ2File(path, "rb")
    if ending == ".xz":
        return lzma.LZMAFile(path, "rb")
    # Only here: pyarrow takes a while to import, and Python has zstd from 3.14 on.
    import pyarrow as pa

    return pa.CompressedInputStream(path.open("rb"), "zstd")


def unpacked_blocks(path: Path, size: int = 2**20) -> Iterator[bytes]:
    """Yields what is in a file, `size` bytes at a time.

    Raises:
        DataError: The file cannot be read or is damaged.
    """
    try:
        with open_unpacked(path) as stream:
            while block := stream.read(size):
                yield block
    except READ_ERRORS as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: BaseException, num_lines: int = 0) -> DataError:
    """Returns the error for one of `READ_ERRORS`.

    Args:
        path: the file that was read.
        error: what reading it raised.
        num_lines: how many of its lines could be read, where that is known.
    """
    if isinstance(error, OSError) and (error.errno or not is_compressed(path)):
        return DataError(f"{path} cannot be read: {error.strerror or error}.")
    kind = FORMATS[path.suffix.lower()]
    reason = str(error).rstrip(".")
    if num_lines:
        return DataError(
            f"{path} is a damaged {kind} file, readable up to line {num_lines}: "
            f"{reason}. Copy or download it again."
        )
    return DataError(
        f"{path} is not a valid {kind} file, or a damaged one: {reason}. Copy or "
        "download it again."
    )
