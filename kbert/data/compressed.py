"""Files that may be compressed, read as a stream of what is in them."""

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from kbert.errors import DataError

FORMATS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""The ending of a compressed file, and what its format is called."""

MAX_EXPANSION = 200
"""How many times its size a compressed file may unpack to. Text comes to 3 to 10 times,
logs to 50; gzip can pack a thousandfold and the others more, which is no text."""
ALWAYS_UNPACKED = 2**26
"""Bytes to which any file may unpack."""

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
    return BufferedReader(_Bounded(path), 2**16)


class _Bounded(RawIOBase):
    """What is in a compressed file, until there is more of it than can be text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unpacker = _unpacker(path)
        size = os.stat(path).st_size
        self._room = max(ALWAYS_UNPACKED, MAX_EXPANSION * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._unpacker.readinto(buffer))
        self._room -= count
        if self._room < 0:
            raise DataError(
                f"{self._path} unpacks to more than {MAX_EXPANSION} times its size, "
                "which no text does: it is damaged, or made to fill memory. If it is "
                "right, unpack it first."
            )
        return count

    def close(self) -> None:
        if not self.closed:
            self._unpacker.close()
        super().close()


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


def skip_bytes(stream: BufferedReader, path: Path, num_bytes: int) -> None:
    """Leaves out the next bytes of a file opened with `open_unpacked`.

    A plain file is sought, of one that is compressed all before must be unpacked.
    """
    if not is_compressed(path):
        stream.seek(num_bytes, os.SEEK_CUR)
        return
    while num_bytes and (block := stream.read(min(num_bytes, 2**20))):
        num_bytes -= len(block)


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
