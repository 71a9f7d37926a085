"""Tables as Parquet, read a batch of rows at a time."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kbert.data.columns import choose_columns
from kbert.data.compressed import is_compressed, unpacked_blocks
from kbert.data.examples import (
    Columns,
    EncodingErrors,
    ReadOptions,
    Row,
    RowSource,
    limited,
)
from kbert.data.fingerprints import digest_of_file
from kbert.data.temporary import naming_temporary_folder, temporary_file
from kbert.data.values import as_label, as_text
from kbert.errors import DataError

_BATCH = 1024
# ValueError and OverflowError: a name that is no UTF-8, a time beyond Python's.
_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)


def open_parquet(path: Path, options: ReadOptions) -> RowSource:
    """Opens a Parquet file; of a compressed one, a copy in a temporary file.

    Parquet is read from its end, and a compressed file only from its beginning.

    Raises:
        DataError: The file is no Parquet, has no rows, or its columns do not fit;
            while iterating, a row is faulty (rows are numbered from 1).
    """
    content = _unpacked(path) if is_compressed(path) else path
    try:
        with pq.ParquetFile(content) as file:
            schema, num_rows = file.schema_arrow, file.metadata.num_rows
            names = schema.names
    except _ERRORS as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from error
    if num_rows == 0:
        raise DataError(f"{path} has no rows.")
    columns, notes = choose_columns(
        str(path),
        names,
        options.columns,
        labelled=options.labelled,
        strings=[field.name for field in schema if _holds_strings(field.type)],
    )
    return RowSource(
        name=path.name,
        columns=columns,
        rows=lambda: _examples(path, content, options.encoding_errors, columns),
        notes=notes,
        num_examples=limited(num_rows, options.limit),
        limit=options.limit,
        content=lambda: f"parquet {digest_of_file(path)}",
    )


def _unpacked(path: Path) -> IO[bytes]:
    file = temporary_file()
    try:
        for block in unpacked_blocks(path):
            with naming_temporary_folder():
                file.write(block)
    except BaseException:
        file.close()
        raise
    return file


def _examples(
    path: Path, content: Path | IO[bytes], errors: EncodingErrors, columns: Columns
) -> Generator[Row]:
    text, pair, label = columns.text, columns.text_pair, columns.label
    assert text is not None  # choose_columns always finds one
    number = 0
    used = [name for name in (text, pair, label) if name is not None]
    for columns_of_batch in _batches(path, content, used):
        cells = dict(zip(used, columns_of_batch, strict=True))
        nothing = [None] * len(cells[text])
        values = zip(
            cells[text],
            nothing if pair is None else cells[pair],
            nothing if label is None else cells[label],
            strict=True,
        )
        for first, second, third in values:
            number += 1
            where = f"{path}, row {number}"
            yield (
                as_text(first, errors, text, where),
                None if pair is None else as_text(second, errors, pair, where),
                None if label is None else as_label(third, errors, label, where),
            )


def _batches(
    path: Path, content: Path | IO[bytes], names: list[str]
) -> Iterator[list[list[Any]]]:
    """Yields the cells of some rows, a list a column."""
    try:
        with pq.ParquetFile(content) as file:
            schema = file.schema_arrow
        # A value that the file holds once stays one, however many rows refer to it.
        strings = [name for name in names if _holds_strings(schema.field(name).type)]
        with pq.ParquetFile(content, read_dictionary=strings) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                yield [_cells(batch.column(name)) for name in names]
    except DataError:
        raise
    except _ERRORS as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _cells(column: Any) -> list[Any]:
    """Returns Python values; strings as bytes, as Parquet does not check them."""
    if pa.types.is_dictionary(column.type):
        indices = column.indices.to_pylist()
        used = sorted({index for index in indices if index is not None})
        values = _cells(column.dictionary.take(pa.array(used, pa.int64())))
        value_of = dict(zip(used, values, strict=True))
        return [None if index is None else value_of[index] for index in indices]
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def _holds_strings(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)
