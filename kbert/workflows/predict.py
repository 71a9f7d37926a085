"""Prediction: texts in, answers out, in order and in constant memory.

Texts for a server are read without importing TensorFlow.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kbert.config import DataSettings, FinetuneConfig, load_config
from kbert.data.sources import (
    Columns,
    Source,
    file_kind,
    open_source,
    read_plain_texts,
)
from kbert.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kbert.workflows.applying import Text
    from kbert.workflows.mask_filler import MaskFiller
    from kbert.workflows.predictor import Predictor

logger = logging.getLogger(__name__)

_PLAIN = (".txt", "")
_READING_PLAIN = ("data.encoding_errors", "data.limit")
_READING_TABLES = ("data.text", "data.text_pair", *_READING_PLAIN)
_READING_SINGLE = ("data.text", *_READING_PLAIN)


def read_texts(
    source: Path | BinaryIO, predictor: "Predictor", *, assignments: Sequence[str] = ()
) -> Iterator["Text"]:
    """The texts of a file, for `Predictor.answers`.

    Args:
        source: a stream or a `.txt` file with a text a line, or a table (.csv .tsv
            .jsonl .parquet) with the columns that the run was trained with; files
            also compressed (.gz .bz2 .xz .zst).
        predictor: the loaded run.
        assignments: `data.NAME=VALUE`, over the settings the run was trained with.

    Raises:
        UserError: the file cannot be read; for a pair task, it has no pairs.
    """
    from kbert.workflows.datasets import columns_like

    is_plain = _is_plain(source)
    config = predictor.run.read_config(
        data=str(source),
        assignments=assignments,
        allowed=_READING_PLAIN if is_plain else _READING_TABLES,
    )
    subject = "This run was trained on"
    if is_plain:
        return _read_plain(source, config.data, predictor.is_paired, subject)
    asked = load_config(FinetuneConfig, assignments=assignments).data
    columns = columns_like(asked, config.data, predictor.columns)
    return _read_table(source, columns, config.data, predictor.is_paired, subject)


def read_texts_to_send(
    source: Path | BinaryIO, *, is_paired: bool, assignments: Sequence[str] = ()
) -> Iterator["Text"]:
    """The texts of a file for a model on a server, of which there is no run here.

    The columns of a table are those that are named, else `text` and for pairs
    `text_pair`, else the only plausible ones.

    Args:
        source: as for `read_texts`.
        is_paired: whether the model takes pairs of texts.
        assignments: `data.NAME=VALUE`.

    Raises:
        UserError: the file cannot be read or does not fit the model.
    """
    is_plain = _is_plain(source)
    allowed = _READING_PLAIN if is_plain else _READING_TABLES
    data = _read_settings(assignments, allowed, "for a server")
    subject = "The model on the server takes"
    if is_plain:
        return _read_plain(source, data, is_paired, subject)
    usual = Columns("text", "text_pair" if is_paired else None)
    columns = Columns(data.text, data.text_pair, fallback=usual)
    return _read_table(source, columns, data, is_paired, subject)


def read_texts_to_fill(
    source: Path | BinaryIO, filler: "MaskFiller", *, assignments: Sequence[str] = ()
) -> Iterator["Text"]:
    """The texts of a file for a pretrained run, for `MaskFiller.answers`.

    Its corpus tells little of this file: of a table the column is the one that is
    named, else the corpus's, else `text`, else the only plausible one.

    Args:
        source: as for `read_texts`.
        filler: the loaded run.
        assignments: `data.NAME=VALUE`.

    Raises:
        UserError: the file cannot be read.
    """
    is_plain = _is_plain(source)
    allowed = _READING_PLAIN if is_plain else _READING_SINGLE
    data = _read_settings(assignments, allowed, "for a pretrained run")
    subject = "This run fills the masks of"
    if is_plain:
        return _read_plain(source, data, filler.is_paired, subject)
    usual = replace(filler.columns, fallback=Columns("text"))
    columns = Columns(data.text, fallback=usual)
    return _read_table(source, columns, data, filler.is_paired, subject)


def _read_settings(
    assignments: Sequence[str], allowed: Sequence[str], reader: str
) -> DataSettings:
    """The settings that say how to read, without a run's."""
    for key in (item.partition("=")[0].strip() for item in assignments):
        if key not in allowed:
            raise ConfigError(
                f"{key} has no effect on reading this input {reader}. What may be "
                f"set: {', '.join(allowed)}."
            )
    return load_config(FinetuneConfig, assignments=assignments).data


def _is_plain(source: Path | BinaryIO) -> bool:
    return not isinstance(source, Path) or file_kind(source) in _PLAIN


def _read_plain(
    source: Path | BinaryIO, data: DataSettings, is_paired: bool, subject: str
) -> Iterator[str]:
    if is_paired:
        raise DataError(
            f"{subject} pairs of texts. Give them as columns of a "
            "table: --input FILE.csv (or .tsv, .jsonl, .parquet)."
        )
    return islice(read_plain_texts(source, data.encoding_errors), data.limit)


def _read_table(
    source: Path | BinaryIO,
    columns: Columns,
    data: DataSettings,
    is_paired: bool,
    subject: str,
) -> Iterator["Text"]:
    table = open_source(
        str(source),
        columns=columns,
        encoding_errors=data.encoding_errors,
        limit=data.limit,
        labelled=False,
    )
    if is_paired != (table.columns.text_pair is not None):
        wants = "pairs of texts" if is_paired else "single texts"
        raise DataError(
            f"{subject} {wants}, and {table.name} is read with "
            f"text={table.columns.text}, text_pair={table.columns.text_pair}. Name "
            "the columns with --set data.text=NAME and --set data.text_pair=NAME."
        )
    for note in table.notes:
        logger.info("%s: %s", table.name, note)
    return _rows(table)


def _rows(table: Source) -> Iterator["Text"]:
    for chunk in table.chunks():
        if chunk.text_pairs is None:
            yield from chunk.texts
        else:
            yield from zip(chunk.texts, chunk.text_pairs, strict=True)
