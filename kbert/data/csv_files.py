"""Tables as CSV and TSV, by the rules of RFC 4180."""

import csv
from collections.abc import Generator, Iterator
from pathlib import Path

from kbert.data.columns import check_width, choose_columns
from kbert.data.examples import Columns, EncodingErrors, ReadOptions, Row, RowSource
from kbert.data.fingerprints import digest_of_file
from kbert.data.lines import MAX_LINE_BYTES, read_lines
from kbert.data.values import as_label
from kbert.errors import DataError

# Characters of a row, and of a field; the csv module's own 131,072 is only a long text.
_MAX_ROW = MAX_LINE_BYTES
_TOO_LONG = csv.Error("field limit")
_HEADER_HINT = "Line 1 was read as the header, which must name the columns."


def open_csv(path: Path, options: ReadOptions, *, delimiter: str) -> RowSource:
    """Opens a CSV or TSV file with a header.

    Raises:
        DataError: The file is empty, has a header alone, or its columns do not
            fit; while iterating, a row is faulty.
    """
    rows = numbered_rows(path, options.encoding_errors, delimiter)
    header = next(rows, None)
    if header is None:
        raise DataError(f"{path} is empty; it needs a header and at least one row.")
    if next(rows, None) is None:
        raise DataError(f"{path} has a header and no rows.")
    rows.close()
    check_width(str(path), len(header[1]))
    names = [name.strip() for name in header[1]]
    if any("\0" in name for name in names):
        raise DataError(
            f"{path} is not UTF-8 text: its header has NUL bytes. Is it a binary file, "
            "or UTF-16 (convert it: iconv -f UTF-16 -t UTF-8)?"
        )
    columns, notes = choose_columns(
        str(path),
        names,
        options.columns,
        labelled=options.labelled,
        hint=_HEADER_HINT,
    )
    return RowSource(
        name=path.name,
        columns=columns,
        rows=lambda: _examples(path, options.encoding_errors, delimiter, columns),
        notes=notes,
        limit=options.limit,
        content=lambda: f"csv {delimiter!r} {digest_of_file(path)}",
    )


def numbered_rows(
    path: Path, errors: EncodingErrors, delimiter: str
) -> Generator[tuple[int, list[str]]]:
    """Yields (line number, fields) of each row, the header first; skips blank lines.

    The number is that of the physical line on which the row starts: a quoted field
    may hold line ends.

    Raises:
        DataError: The quoting is broken, or as `read_lines`.
    """
    size = 0

    def lines() -> Iterator[str]:
        nonlocal size
        for line in read_lines(path, errors):
            size += len(line)
            if size > _MAX_ROW:
                raise _quoting_error(path, start, reader.line_num + 1, _TOO_LONG)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        start, size = reader.line_num + 1, 0
        # The csv module's limit is global, so it is lifted for each row alone.
        limit = csv.field_size_limit(_MAX_ROW)
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _quoting_error(path, start, reader.line_num, error) from None
        finally:
            csv.field_size_limit(limit)
        if fields:
            yield start, fields


def _examples(
    path: Path, errors: EncodingErrors, delimiter: str, columns: Columns
) -> Generator[Row]:
    rows = numbered_rows(path, errors, delimiter)
    _, header = next(rows)
    names = [name.strip() for name in header]
    text = names.index(str(columns.text))
    pair = names.index(columns.text_pair) if columns.text_pair is not None else None
    label = names.index(columns.label) if columns.label is not None else None
    for line, fields in rows:
        if len(fields) != len(names):
            raise _count_error(path, line, fields, names)
        yield (
            fields[text],
            None if pair is None else fields[pair],
            None
            if label is None
            else as_label(fields[label], errors, names[label], f"{path}, line {line}"),
        )


def _count_error(
    path: Path, line: int, fields: list[str], names: list[str]
) -> DataError:
    what = "too few" if len(fields) < len(names) else "too many"
    return DataError(
        f"{path}, line {line}: {what} fields, {len(fields)} where the header has "
        f"{len(names)} ({', '.join(names)}). A field with the delimiter or a line end "
        'in it must stand in "double quotes".'
    )


def _quoting_error(path: Path, start: int, end: int, error: csv.Error) -> DataError:
    reason = str(error)
    if "unexpected end of data" in reason:
        rule = "a double quote opens a field and nothing closes it"
    elif "expected after" in reason:
        rule = "text follows the closing double quote of a field"
    elif "new-line character" in reason:
        rule = "a carriage return stands outside double quotes; lines end with LF"
    elif "field limit" in reason:
        rule = f"a row is longer than {_MAX_ROW:,} characters; is a quote unclosed?"
    else:
        rule = reason
    lines = f"line {start}" if end <= start else f"lines {start} to {end}"
    return DataError(
        f"{path}, {lines}: {rule}. A field with quotes or line ends in it must "
        'stand in quotes, each inner one doubled: "she said ""yes""".'
    )
