"""Prediction: texts in, answers out, in order and in constant memory."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from kbert.config import FinetuneConfig, load_config
from kbert.data.sources import Source, file_kind, open_source, read_plain_texts
from kbert.errors import DataError
from kbert.workflows.datasets import columns_like
from kbert.workflows.predictor import Predictor, Text

_PLAIN = (".txt", "")
_READING_PLAIN = ("data.encoding_errors", "data.limit")
_READING_TABLES = ("data.text", "data.text_pair", *_READING_PLAIN)


def read_texts(
    source: Path | BinaryIO, predictor: Predictor, *, assignments: Sequence[str] = ()
) -> Iterator[Text]:
    """The texts of a file, for `Predictor.answers`.

    Args:
        source: a stream or a `.txt` file with a text a line, or a table (.csv .tsv
            .jsonl .parquet) with the columns that the run was trained with; files
            also with `.gz`.
        predictor: the loaded run.
        assignments: `data.NAME=VALUE`, over the settings the run was trained with.

    Raises:
        UserError: the file cannot be read; for a pair task, it has no pairs.
    """
    is_plain = not isinstance(source, Path) or file_kind(source) in _PLAIN
    config = predictor.run.read_config(
        data=str(source),
        assignments=assignments,
        allowed=_READING_PLAIN if is_plain else _READING_TABLES,
    )
    errors = config.data.encoding_errors
    if is_plain:
        if predictor.is_paired:
            raise DataError(
                "This run was trained on pairs of texts. Give them as columns of a "
                "table: --input FILE.csv (or .tsv, .jsonl, .parquet)."
            )
        return islice(read_plain_texts(source, errors), config.data.limit)
    asked = load_config(FinetuneConfig, assignments=assignments).data
    table = open_source(
        str(source),
        columns=columns_like(asked, config.data, predictor.columns),
        encoding_errors=errors,
        limit=config.data.limit,
        labelled=False,
    )
    if predictor.is_paired != (table.columns.text_pair is not None):
        wants = "pairs of texts" if predictor.is_paired else "single texts"
        raise DataError(
            f"This run was trained on {wants}, and {table.name} is read with "
            f"text={table.columns.text}, text_pair={table.columns.text_pair}. Name "
            "the columns with --set data.text=NAME and --set data.text_pair=NAME."
        )
    return _rows(table)


def _rows(table: Source) -> Iterator[Text]:
    for chunk in table.chunks():
        if chunk.text_pairs is None:
            yield from chunk.texts
        else:
            yield from zip(chunk.texts, chunk.text_pairs, strict=True)
