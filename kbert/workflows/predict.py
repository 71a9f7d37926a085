"""Prediction: texts in, answers out, in order and in constant memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from kbert.data.sources import Columns, Source, open_source, read_plain_texts
from kbert.errors import DataError
from kbert.workflows.predictor import Predictor, Text

_PLAIN = (".txt", "")


def read_texts(
    source: Path | BinaryIO, predictor: Predictor, *, assignments: Sequence[str] = ()
) -> Iterator[Text]:
    """The texts of a file, for `Predictor.answers`.

    Args:
        source: a stream or a `.txt` file with a text a line, or a table (.csv .tsv
            .jsonl .parquet) with the columns that the run was trained with.
        predictor: the loaded run.
        assignments: `data.NAME=VALUE`, over the settings the run was trained with.

    Raises:
        UserError: the file cannot be read; for a pair task, it has no pairs.
    """
    config = predictor.run.read_config(assignments=assignments)
    errors = config.data.encoding_errors
    if not isinstance(source, Path) or source.suffix in _PLAIN:
        if predictor.is_paired:
            raise DataError(
                "This run was trained on pairs of texts. Give them as columns of a "
                "table: --input FILE.csv (or .tsv, .jsonl, .parquet)."
            )
        return read_plain_texts(source, errors)
    table = open_source(
        str(source),
        columns=Columns(config.data.text, config.data.text_pair, None),
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
