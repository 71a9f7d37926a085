"""Encoded examples kept in a folder: a run that goes on need not read its texts again.

    encoded/train/
        about.json          of what they were made, the labels, what was cut
        token_ids           the columns of `EncodedDataset`, little-endian numbers one
        segment_ids         after the other, without a header
        lengths
        label_ids           not there where nothing is labelled
        SHA256SUMS          of all these

They are written beside and renamed. What is not whole, or was made of other texts or in
another way, is not taken: the texts are read then. What is in a folder is never trusted
to fit: a stranger may have written it.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from kbert.bounded import first_problem, is_unicode, read_json
from kbert.checksums import damage, write_sums
from kbert.data.encoded import EncodedDataset, Encoder, EncodingReport, starts_of
from kbert.data.sources import EncodingErrors, Source
from kbert.errors import DataError
from kbert.files import replace_folder, temporary_beside, write_json

logger = logging.getLogger(__name__)

_FORMAT = 1
_ABOUT = "about.json"
_TYPES = {"token_ids": "<i4", "segment_ids": "u1", "lengths": "<i4", "label_ids": "<i4"}


def _checked_unicode(text: str) -> str:
    if not is_unicode(text):
        raise ValueError("it is no Unicode text")
    return text


_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Label = Annotated[str, Field(min_length=1), AfterValidator(_checked_unicode)]


class _Report(BaseModel):
    """The same as `EncodingReport`, of a file that anybody may have written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    num_examples: _Count
    num_empty: _Count
    num_cut: _Count
    num_tokens: _Count
    num_tokens_lost: _Count
    fingerprint: str


class _About(BaseModel):
    """What `about.json` says; `key` is what `key_of` gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    label_names: tuple[_Label, ...]
    report: _Report


class _UnfitError(Exception):
    """Why a folder is not taken."""


def key_of(
    source: Source, encoder: Encoder, encoding_errors: EncodingErrors
) -> str | None:
    """Tells all that a source's encoded examples depend on, but for software.

    Returns:
        A digest; None for a source that cannot tell its content without being read.
    """
    try:
        content = source.identity()
    except DataError:  # not on a local disk; or a reader will tell it better
        content = None
    if content is None:
        return None
    tokenizer, columns = encoder.tokenizer, source.columns
    parts = (
        _FORMAT,
        content,
        (columns.text, columns.text_pair, columns.label),
        encoding_errors,
        hashlib.sha256("\n".join(tokenizer.vocabulary).encode()).hexdigest(),
        (tokenizer.lowercase, tokenizer.strip_accents),
        (encoder.max_length, encoder.truncation),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def keep_encoded(folder: Path, dataset: EncodedDataset, key: str) -> None:
    """Writes a data set as it was read, in place of what is in the folder.

    Args:
        folder: of this data set alone.
        dataset: no selection.
        key: see `key_of`.

    Raises:
        OSError: the disk is full or fails; the folder is as it was.
    """
    temporary = temporary_beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, column in _columns_of(dataset).items():
            with open(temporary / name, "wb") as file:
                file.write(np.ascontiguousarray(column, _TYPES[name]).data)
        about = {
            "key": key,
            "label_names": dataset.label_names,
            "report": asdict(dataset.report),
        }
        write_json(temporary / _ABOUT, about)
        write_sums(temporary)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def num_bytes_of(dataset: EncodedDataset) -> int:
    """What `keep_encoded` takes on the disk, but for the labels' names."""
    columns = _columns_of(dataset)
    return sum(
        column.size * np.dtype(_TYPES[name]).itemsize
        for name, column in columns.items()
    )


def open_encoded(
    folder: Path, key: str, encoder: Encoder, name: str
) -> EncodedDataset | None:
    """The data set that is kept in a folder, its columns mapped into memory.

    All of it is read once, for its checksums.

    Args:
        key: see `key_of`.
        encoder: what it was encoded with.
        name: what messages call the data set.

    Returns:
        None where there is none, or one with another key. One that cannot be
        used is told in the log.
    """
    if not os.path.lexists(folder):
        return None
    try:
        about = _About.model_validate(read_json(folder / _ABOUT, DataError))
        if about.key != key:
            return None
        columns = _map_columns(folder, with_labels=bool(about.label_names))
        _check(columns, about, encoder.max_length)
    except ValidationError as error:
        problem = f"{_ABOUT}: {first_problem(error)}"
    except OSError as error:
        problem = f"{error.filename or folder}: {error.strerror or error}"
    except (DataError, _UnfitError) as error:
        problem = str(error)
    else:
        lengths = columns["lengths"].astype(np.int64)
        return EncodedDataset(
            name=name,
            token_ids=columns["token_ids"],
            segment_ids=columns["segment_ids"],
            starts=starts_of(lengths),
            lengths=lengths,
            label_ids=columns.get("label_ids"),
            label_names=about.label_names,
            report=EncodingReport(**about.report.model_dump()),
            vocabulary_size=len(encoder.tokenizer.vocabulary),
        )
    logger.warning("%s cannot be used (%s): the texts are read again", folder, problem)
    return None


def tidy(folder: Path) -> None:
    """Removes from a folder of data sets what a kill has left half-written, and links.

    Nobody else may be writing there. A link is none of ours: what is written later
    would land where it leads.
    """
    if folder.is_symlink():
        folder.unlink()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink():
            path.unlink()
        elif path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)


def _columns_of(dataset: EncodedDataset) -> dict[str, np.ndarray]:
    columns = {name: getattr(dataset, name) for name in _TYPES}
    return {name: column for name, column in columns.items() if column is not None}


def _map_columns(folder: Path, *, with_labels: bool) -> dict[str, np.ndarray]:
    """The columns, each mapped into memory.

    Raises:
        OSError: one cannot be read or mapped now.
        _UnfitError: one is not as it was written, or is missing.
    """
    names = [name for name in _TYPES if with_labels or name != "label_ids"]
    if found := damage(folder, needed=(_ABOUT, *names)):
        raise _UnfitError(found)
    columns: dict[str, np.ndarray] = {}
    for name in names:
        try:
            columns[name] = np.memmap(folder / name, _TYPES[name], "r")
        except ValueError:  # empty, or half a number
            raise _UnfitError(f"{name} is no column") from None
    return columns


def _check(columns: Mapping[str, np.ndarray], about: _About, max_length: int) -> None:
    """Checks that the columns belong together. Ids are checked where they are fed.

    Raises:
        _UnfitError: they do not.
    """
    report, lengths = about.report, columns["lengths"]
    num_tokens = len(columns["token_ids"])
    if len(lengths) != report.num_examples:
        raise _UnfitError(f"lengths: {len(lengths)} of {report.num_examples}")
    # Checked before it is summed, so that the sum has no surprise.
    if lengths.min() < 1 or lengths.max() > max_length:
        raise _UnfitError(f"lengths: one is not within 1 and {max_length}")
    if not lengths.sum(dtype=np.int64) == num_tokens == len(columns["segment_ids"]):
        raise _UnfitError("lengths: they do not add up to the tokens")
    if report.num_tokens != num_tokens:
        raise _UnfitError(f"{_ABOUT}: {report.num_tokens} tokens of {num_tokens}")
    label_ids = columns.get("label_ids")
    if label_ids is None:
        return
    if len(label_ids) != len(lengths):
        raise _UnfitError(f"label_ids: {len(label_ids)} of {len(lengths)}")
    if label_ids.min() < 0 or label_ids.max() >= len(about.label_names):
        raise _UnfitError("label_ids: one is no label")
    if len({*about.label_names}) < len(about.label_names):
        raise _UnfitError(f"{_ABOUT}: two labels are the same")
