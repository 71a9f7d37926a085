"""Lines of UTF-8 text, from a plain file or a compressed one."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kbert.data.compressed import READ_ERRORS, open_unpacked, unreadable
from kbert.data.examples import EncodingErrors
from kbert.data.values import decode
from kbert.errors import DataError

BOM = b"\xef\xbb\xbf"
HEAD = 4096
MAX_LINE_BYTES = 2**26
"""Ten million words. What is parsed of a line can take 30 times its size."""
_MAGIC = {
    b"\x1f\x8b": "a gzip file (its name must end in .gz)",
    b"\xfd7zXZ\0": "an xz file (its name must end in .xz)",
    b"\x28\xb5\x2f\xfd": "a zstd file (its name must end in .zst)",
    b"%PDF-": "a PDF (its text is what is needed)",
    b"PK\x03\x04": "a zip file or an Excel workbook (export it as CSV)",
    b"PAR1": "a Parquet file (its name must end in .parquet)",
    b"\xff\xfe": "UTF-16 text (convert it: iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text (convert it: iconv -f UTF-16 -t UTF-8)",
}
_CONTROLS = bytes({*range(9), 11, *range(14, 27), *range(28, 32)})


def read_lines(path: Path, errors: EncodingErrors) -> Iterator[str]:
    """Yields each line of a file with its line end, unpacked on the way if compressed.

    Only LF ends a line, as only LF can be counted by every editor alike. A
    byte-order mark is skipped.

    Raises:
        DataError: The file cannot be read, is no text, is damaged, or has
            invalid UTF-8 (with the line number) and `errors` is "strict".
    """
    number = 0
    try:
        with open_unpacked(path) as stream:
            check_is_text(path, stream.peek(HEAD)[:HEAD])
            for number, line in _numbered(stream, str(path)):
                if number == 1:
                    line = line.removeprefix(BOM)
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError:
                    text = decode(line, errors, f"{path}, line {number}")
                yield text
    except READ_ERRORS as error:
        raise unreadable(path, error, number) from error


def read_plain_texts(
    source: Path | str | BinaryIO, encoding_errors: EncodingErrors = "strict"
) -> Iterator[str]:
    """Yields one text a line, from a file or a binary stream such as stdin.

    LF or CR LF ends a line, no other Unicode separator does. An empty line is an
    empty text; a last line without line end counts.

    Raises:
        DataError: As `read_lines`.
    """
    if isinstance(source, str | Path):
        lines = read_lines(Path(source), encoding_errors)
    else:
        lines = _decoded(source, encoding_errors)
    for line in lines:
        yield line.removesuffix("\n").removesuffix("\r")


def _decoded(stream: BinaryIO, errors: EncodingErrors) -> Iterator[str]:
    name = getattr(stream, "name", "input")
    name = name if isinstance(name, str) else "input"
    for number, line in _numbered(stream, name):
        if number == 1:
            line = line.removeprefix(BOM)
        yield decode(line, errors, f"{name}, line {number}")


def _numbered(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a stream, numbered from 1; raises DataError for one too long.

    A device, or a file of another kind, may have no line end at all.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"{name}, line {number} has more than {MAX_LINE_BYTES:,} bytes. One "
                "example a line: is it the right file?"
            )
        yield number, line


def check_is_text(path: Path, start: bytes) -> None:
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise DataError(f"{path} is not UTF-8 text: it looks like {what}.")
    if start[257:262] == b"ustar":
        raise DataError(f"{path} is not UTF-8 text: it is a tar archive; unpack it.")
    # Random bytes hold a tenth of control characters and are no UTF-8; a text may
    # hold either of them by accident, not both.
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if controls * 20 > len(start) and not _is_utf8(start):
        raise DataError(f"{path} is not UTF-8 text: it looks like a binary file.")


def _is_utf8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True
