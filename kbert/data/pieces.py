"""Documents as bounded pieces, cut from a stream of text."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from annotated_types import Ge

from kbert.data.compressed import (
    READ_ERRORS,
    open_unpacked,
    skip_bytes,
    unreadable,
)
from kbert.data.examples import EncodingErrors
from kbert.data.lines import BOM, HEAD, check_is_text
from kbert.data.values import decode

MAX_PIECE_CHARACTERS = 1_000_000

DocumentEnd = Literal["blank_line", "line", "file"]
"""What ends a document of plain text."""

_SENTENCE_END = re.compile(
    # In UTF-8, Chinese marks and what may close behind them; or as English has it.
    rb"(?:\xe3\x80\x82|\xef\xbc\x81|\xef\xbc\x9f)(?:\xe3\x80[\x8d\x8f]|\xe2\x80\x9d)*"
    rb"|[.!?][\"')\]]*\s"
)
_NEAR = 10_000  # bytes before a cut in which the end of a sentence is looked for


@dataclass(frozen=True)
class Piece:
    """A bounded part of a document; most documents are one piece.

    Attributes:
        text: at most `MAX_PIECE_CHARACTERS` characters, some of them no space.
        document: counts from 0 within its file; the same for all pieces of a document.
        line: the line, or the row of a table, where it starts, counted from 1.
        offset: the byte where it starts in a file of plain text, unpacked; None where
            there is no such file.
    """

    text: str
    document: int
    line: int
    offset: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a piece starts, for reading to begin with it.

    Attributes:
        number: how many pieces of its file come before it.
        document: see `Piece`.
        line: see `Piece`.
        offset: see `Piece`.
    """

    number: Annotated[int, Ge(0)]
    document: Annotated[int, Ge(0)]
    line: Annotated[int, Ge(0)]
    offset: Annotated[int, Ge(0)] | None


def read_pieces(
    path: Path,
    document_end: DocumentEnd,
    errors: EncodingErrors,
    note_broken: Callable[[str], None],
    start: Place | None = None,
) -> Iterator[Piece]:
    """Yields the documents of a file of plain text, compressed or not.

    What is longer than a piece is cut at a line end, else after a sentence, else at a
    space.

    Args:
        path: the file.
        document_end: what ends a document. Where that is a blank line, a line of
            whitespace is one.
        errors: what bytes do that are no UTF-8.
        note_broken: called with file and line for each line that has such bytes.
        start: of an earlier piece of this file, the first to yield now.

    Raises:
        DataError: The file cannot be read, is damaged or no text; or has bytes that
            are no UTF-8 and `errors` is "strict".
    """
    lines = _lines(path, errors, note_broken, start)
    document = 0 if start is None else start.document
    if document_end == "line":
        return _pieces(lines, lambda line: line.endswith("\n"), document)
    if document_end == "blank_line":
        return _pieces(lines, str.isspace, document)
    return _pieces(lines, lambda line: False, document)


def cut_text(text: str) -> Iterator[str]:
    """Yields a text in parts of at most `MAX_PIECE_CHARACTERS` that are not blank."""
    if len(text) <= MAX_PIECE_CHARACTERS:
        parts: Iterable[str] = [text]
    else:
        parts = (block.decode() for block in _blocks(io.BytesIO(text.encode())))
    return (part.strip() for part in parts if part and not part.isspace())


def _pieces(
    lines: Iterator[tuple[int, int, str]], ends: Callable[[str], bool], document: int
) -> Iterator[Piece]:
    """Gathers lines to pieces; a line for which `ends` is true ends a document.

    What is gathered depends on nothing before the piece, for reading to begin with any.

    Args:
        document: the number of the first.
    """
    first = first_offset = size = 0
    has_piece = False
    parts: list[str] = []

    def gathered() -> Iterator[Piece]:
        nonlocal has_piece, size
        text = "".join(parts).strip()
        parts.clear()
        size = 0
        if text:
            has_piece = True
            yield Piece(text, document, first, first_offset)

    for number, offset, line in lines:
        if size + len(line) > MAX_PIECE_CHARACTERS:
            yield from gathered()
        if size or not line.isspace():
            if not size:
                first, first_offset = number, offset
            parts.append(line)
            size += len(line)
        if ends(line):
            yield from gathered()
            document += has_piece
            has_piece = False
    yield from gathered()


def _lines(
    path: Path,
    errors: EncodingErrors,
    note_broken: Callable[[str], None],
    start: Place | None,
) -> Iterator[tuple[int, int, str]]:
    """Yields the lines, each with its number and the byte where it starts.

    One longer than a block comes in parts of one number.
    """
    number, offset = 1, 0
    broken = 0
    try:
        with open_unpacked(path) as stream:
            if start is not None:
                assert start.offset is not None, "plain text has offsets"
                number, offset = start.line, start.offset
                skip_bytes(stream, path, offset)
            else:
                check_is_text(path, stream.peek(HEAD)[:HEAD])
                if stream.peek(len(BOM)).startswith(BOM):
                    offset = len(stream.read(len(BOM)))
            for block in _blocks(stream):
                for line in io.BytesIO(block):
                    try:
                        text = line.decode()
                    except UnicodeDecodeError:
                        where = f"{path}, line {number}"
                        text = decode(line, errors, where)
                        if broken != number:
                            note_broken(where)
                        broken = number
                    yield number, offset, text
                    number += line.endswith(b"\n")
                    offset += len(line)
    except READ_ERRORS as error:
        raise unreadable(path, error, number - 1) from error


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yields a stream in blocks of at most `MAX_PIECE_CHARACTERS` bytes.

    A block ends at a line end; in a line that is longer, where `_cut` says. As such a
    line begins a block, how it is cut does not depend on what comes before it.
    """
    rest = b""
    while more := stream.read(MAX_PIECE_CHARACTERS - len(rest)):
        block = rest + more
        # A shorter one is the last, which the next reading finds out.
        end = len(block) if len(block) < MAX_PIECE_CHARACTERS else _cut(block)
        yield block[:end]
        rest = block[end:]
    if rest:
        yield rest


def _cut(block: bytes) -> int:
    """Returns where a block is to end that is cut off anywhere now."""
    end = block.rfind(b"\n") + 1
    if not end:
        for match in _SENTENCE_END.finditer(block, max(0, len(block) - _NEAR)):
            end = match.end()
    return end or block.rfind(b" ") + 1 or _whole_characters(block)


def _whole_characters(block: bytes) -> int:
    """Returns the length of a block without a UTF-8 character that is cut off."""
    for back in range(1, min(4, len(block)) + 1):
        byte = block[-back]
        if byte >= 0xC0:  # the first byte of a character of 2, 3 or 4
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return len(block) if back >= length else len(block) - back
        if byte < 0x80:
            break
    return len(block)
