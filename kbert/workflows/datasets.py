"""From `[data]` settings to encoded training, validation and test examples."""

import errno
import logging
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from kbert.config import DataSettings
from kbert.data.encoded import EncodedDataset, Encoder, encode_source
from kbert.data.kept_encodings import (
    keep_encoded,
    key_of,
    num_bytes_of,
    open_encoded,
    tidy,
)
from kbert.data.sources import Columns, Source, open_source, source_splits
from kbert.data.splits import stratified_split
from kbert.errors import DataError
from kbert.progress import ProgressLine

logger = logging.getLogger(__name__)

_TAKES_A_WHILE = 1e9  # bytes


@dataclass(frozen=True)
class Sources:
    """What will be read; its cheap checks have passed."""

    train: Source
    validation: Source | None
    test: Source | None


@dataclass(frozen=True)
class WholeSplit:
    """A split as it was read.

    Attributes:
        key: tells it from others, see `key_of`.
    """

    dataset: EncodedDataset
    key: str


@dataclass(frozen=True)
class Datasets:
    """What was read and encoded.

    Attributes:
        to_keep: what was encoded just now, by split, as it was read: with what is held
            out for validation.
    """

    train: EncodedDataset
    validation: EncodedDataset
    test: EncodedDataset | None
    to_keep: dict[str, WholeSplit] = field(default_factory=dict)

    def by_split(self) -> dict[str, EncodedDataset]:
        """The data sets there are, by split name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: dataset for name, dataset in named.items() if dataset is not None}


def open_sources(data: DataSettings) -> Sources:
    """Opens every split that the settings name, or that the source has itself.

    Raises:
        DataError: a source is missing, or its columns are not clear.
    """
    own = source_splits(data.source, data.data_dir)
    train = open_split(data, data.train_split if own else None)
    sources = Sources(
        train=train,
        validation=_open_other(data, train, validation_name(data), "validation"),
        test=_open_other(data, train, data.test, "test"),
    )
    for source in filter(None, (sources.train, sources.validation, sources.test)):
        for note in source.notes:
            logger.info("%s: %s", source.name, note)
    return sources


def validation_name(data: DataSettings) -> str | None:
    """What is read for validation; None where a share of the training data is."""
    own = source_splits(data.source, data.data_dir)
    return data.validation or ("validation" if "validation" in own else None)


def with_absolute_paths(data: DataSettings) -> DataSettings:
    """The settings with the files and folders that exist named from the root.

    So a run can be evaluated from anywhere.
    """

    def absolute(name: str | None) -> str | None:
        if name is None or name == "sample" or name.startswith("tfds:"):
            return name
        path = os.path.expanduser(name)
        return os.path.abspath(path) if os.path.exists(path) else name

    def is_split(name: str | None) -> bool:
        own = source_splits(data.source, data.data_dir)
        return (name or "").partition("[")[0] in own

    others = {"validation": data.validation, "test": data.test}
    files = {
        role: absolute(name)
        for role, name in others.items()
        # A split's name goes before a file's; whether it is one may take a download.
        if absolute(name) != name and not is_split(name)
    }
    source, data_dir = absolute(data.source), absolute(data.data_dir)
    return data.model_copy(update={"source": source, "data_dir": data_dir, **files})


def open_split(
    data: DataSettings,
    split: str | None,
    *,
    source: str | None = None,
    columns: Columns | None = None,
    labelled: bool = True,
) -> Source:
    """Opens one split of a source under the `[data]` settings."""
    return open_source(
        source or data.source,
        split=split,
        columns=columns or _named_columns(data),
        data_dir=data.data_dir,
        encoding_errors=data.encoding_errors,
        limit=data.limit,
        labelled=labelled,
    )


def columns_like(
    asked: DataSettings, configured: DataSettings, trained: Columns
) -> Columns:
    """The columns to read for a run, each role by itself.

    Args:
        asked: what the command at hand names must be there.
        configured: the run's settings; their columns are read where they are there.
        trained: the columns of the training data, likewise. What is in none of the
            three is guessed.
    """
    return replace(
        _named_columns(asked),
        fallback=replace(_named_columns(configured), fallback=trained),
    )


def _named_columns(data: DataSettings) -> Columns:
    return Columns(data.text, data.text_pair, data.label)


def _open_other(
    data: DataSettings, train: Source, name: str | None, role: str
) -> Source | None:
    """A validation or test source: a split of the same source, or another one."""
    if name is None:
        return None
    if name.partition("[")[0] in source_splits(data.source, data.data_dir):
        return open_split(data, name, columns=train.columns)
    if not name.startswith("tfds:") and not Path(name).exists():
        own = ", ".join(source_splits(data.source, data.data_dir))
        raise DataError(
            f"data.{role}: there is no file or folder {name}"
            + (f", and {data.source} has only the splits {own}." if own else ".")
        )
    # A table like the one for training has its columns; another kind of source
    # names them in its own way.
    alike = Path(data.source).is_file() and Path(name).is_file()
    return open_split(
        data,
        role if role in source_splits(name, data.data_dir) else None,
        source=name,
        columns=train.columns if alike else None,
    )


def encode_datasets(
    sources: Sources,
    encoder: Encoder,
    data: DataSettings,
    *,
    seed: int,
    encoded_folder: Path | None = None,
    progress: TextIO | None = None,
) -> Datasets:
    """Reads and encodes all splits; holds a share out where none is for validation.

    Args:
        seed: of the share that is held out.
        encoded_folder: one that `keep_datasets` has written; of texts that are as they
            were then, it is taken in place of reading them.
        progress: where to show how far it is, should it take long.

    Raises:
        DataError: a row is wrong, or nothing is left to train on.
    """
    to_keep: dict[str, WholeSplit] = {}

    def encode(role: str, source: Source) -> EncodedDataset:
        key = key_of(source, encoder, data.encoding_errors)
        if encoded_folder is not None and key is not None:
            found = open_encoded(encoded_folder / role, key, encoder, source.name)
            if found is not None:
                logger.info(
                    "%s: %s (kept in the run)", source.name, found.report.summary()
                )
                return found
        dataset = encode_split(source, encoder, progress)
        if key is not None:
            to_keep[role] = WholeSplit(dataset, key)
        return dataset

    train = encode("train", sources.train)
    if sources.validation is not None:
        validation = encode("validation", sources.validation)
    else:
        train, validation = hold_out(train, data.validation_share, seed)
    test = encode("test", sources.test) if sources.test else None
    return Datasets(train, validation, test, to_keep)


def keep_datasets(datasets: Datasets, folder: Path, *, needed_bytes: int) -> None:
    """Keeps what was encoded just now, for a training that will go on.

    It is a help alone: where the disk has no room, the log says so.

    Args:
        folder: of a run.
        needed_bytes: what has to stay free for the rest of the run.
    """
    if not datasets.to_keep:
        return
    num_bytes = sum(num_bytes_of(whole.dataset) for whole in datasets.to_keep.values())
    try:
        tidy(folder)
        folder.mkdir(exist_ok=True)
        for role in datasets.to_keep:  # What is there of it could not be used.
            shutil.rmtree(folder / role, ignore_errors=True)
        if shutil.disk_usage(folder).free < num_bytes + needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if num_bytes > _TAKES_A_WHILE:
            logger.info("keeping the tokens (%s MB)", f"{num_bytes / 1e6:,.0f}")
        for role, whole in datasets.to_keep.items():
            keep_encoded(folder / role, whole.dataset, whole.key)
    except OSError as error:
        logger.warning(
            "%s: %s. The tokens (%s MB) are not kept; --resume reads the texts again.",
            folder,
            error.strerror or error,
            f"{num_bytes / 1e6:,.0f}",
        )


def encode_split(
    source: Source, encoder: Encoder, progress: TextIO | None = None
) -> EncodedDataset:
    """Reads and encodes one split, and says what was found.

    Args:
        progress: where to show how far it is, should it take long.
    """
    if progress is None:
        dataset = encode_source(source, encoder)
    else:
        dataset = _encode_shown(source, encoder, progress)
    logger.info("%s: %s", source.name, dataset.report.summary())
    return dataset


def _encode_shown(source: Source, encoder: Encoder, progress: TextIO) -> EncodedDataset:
    line = ProgressLine(
        source.num_examples, progress, label=f"reading {source.name}", unit="examples"
    )
    done = 0

    def count(examples: int, tokens: int) -> None:
        nonlocal done
        done += examples
        line.update(done, examples, tokens)

    try:
        return encode_source(source, encoder, on_batch=count)
    finally:
        line.pause()  # Of a quick reading, or one that is over, nothing stays.


def hold_out(
    dataset: EncodedDataset, share: float, seed: int
) -> tuple[EncodedDataset, EncodedDataset]:
    """Splits a stratified share off for validation; the same one for a seed.

    Raises:
        DataError: the data set is unlabelled, or too small to hold any out.
    """
    if dataset.label_ids is None:
        raise DataError(f"{dataset.name} has no labels; training needs them.")
    kept, held_out = stratified_split(dataset.label_ids, share, seed)
    if not len(held_out):
        raise DataError(
            f"{dataset.name} has too few examples to hold {share:.0%} out: no class "
            "has two. Add examples, or give a validation file with "
            "--set data.validation=FILE."
        )
    logger.info(
        "held out for validation: %s of %s", f"{len(held_out):,}", f"{len(dataset):,}"
    )
    return (
        dataset.select(kept, dataset.name),
        dataset.select(held_out, f"{dataset.name} (held-out share)"),
    )
