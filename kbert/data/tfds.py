"""Data sets as tensorflow-datasets prepares them; a prepared one needs no network."""

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from kbert.data.columns import choose_columns, with_fallback
from kbert.data.examples import (
    Columns,
    EncodingErrors,
    ReadOptions,
    Row,
    RowSource,
    limited,
)
from kbert.data.fingerprints import digest_of_file
from kbert.data.tfds_builder import find_builder
from kbert.data.values import as_label, decode
from kbert.errors import DataError

_BATCH = 1024


def tfds_splits(spec: str, data_dir: str | None = None) -> dict[str, int]:
    """Returns the number of examples of each split of `tfds:NAME[/CONFIG][:VERSION]`.

    Raises:
        DataError: As `open_tfds`.
    """
    splits = find_builder(spec, data_dir).info.splits
    return {name: int(split.num_examples) for name, split in splits.items()}


def open_tfds(
    spec: str, split: str | None, data_dir: str | None, options: ReadOptions
) -> RowSource:
    """Opens one split, which may be a slice such as `train[:10%]`.

    Examples come in the order in which they are stored.

    Raises:
        DataError: The data set is neither prepared nor can it be downloaded, has no
            such split, or its features do not fit; while iterating, an example
            has no label.
    """
    builder = find_builder(spec, data_dir)
    split = _checked_split(spec, builder, split)
    where = f"{spec} {split}"
    features = _scalar_features(builder.info.features)
    columns, notes = choose_columns(
        spec,
        list(features),
        _with_class_label(features, options.columns),
        labelled=options.labelled,
        strings=[n for n, f in features.items() if _is_text(f)],
    )
    for name in (columns.text, columns.text_pair):
        if name is not None and not _is_text(features[name]):
            raise DataError(
                f'{spec}: the feature "{name}" is no text: it has the type '
                f"{features[name].tf_dtype.name}."
            )
    return RowSource(
        name=where,
        columns=columns,
        rows=lambda: _examples(builder, split, where, columns, options.encoding_errors),
        label_names=_class_names(features.get(columns.label or "")),
        notes=notes,
        num_examples=limited(
            int(builder.info.splits[split].num_examples), options.limit
        ),
        limit=options.limit,
        content=lambda: _content(builder, split),
    )


def num_shared(
    spec: str, split: str, other_spec: str, other_split: str, data_dir: str | None
) -> int:
    """Returns how many examples two splits have in common, by where they are stored.

    Raises:
        DataError: As `open_tfds`.
    """
    parts, others = (
        builder.info.splits[_checked_split(name, builder, part)].file_instructions
        for name, part in ((spec, split), (other_spec, other_split))
        for builder in [find_builder(name, data_dir)]
    )
    return sum(
        max(0, min(a.skip + a.take, b.skip + b.take) - max(a.skip, b.skip))
        for a in parts
        for b in others
        if a.filename == b.filename
    )


def _checked_split(spec: str, builder: Any, split: str | None) -> str:
    """Returns the split, which exists, has examples and can be read."""
    stored_as = builder.info.file_format.value
    if stored_as != "tfrecord":
        raise DataError(
            f"{spec} is prepared as {stored_as} in {builder.data_path}; only tfrecord, "
            "which is TFDS's default, can be read. Prepare it again in another folder."
        )
    splits = builder.info.splits
    if split is None:
        raise DataError(f"{spec}: name a split. Splits: {', '.join(splits)}.")
    try:
        num_examples = splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise DataError(
            f'{spec} has no split "{split}". Splits: {", ".join(splits)}; a slice is '
            'written as "train[:10%]".'
        ) from error
    if not num_examples:
        raise DataError(f"{spec} {split} has no examples.")
    return split


def _examples(
    builder: Any, split: str, where: str, columns: Columns, errors: EncodingErrors
) -> Generator[Row]:
    used = [c for c in (columns.text, columns.text_pair, columns.label) if c]
    features = {name: builder.info.features[name] for name in used}
    names = _class_names(features.get(columns.label or ""))
    first = 1
    for batch in _batches(builder, split, features, where):
        size = len(batch[str(columns.text)])
        nothing = [None] * size
        texts = batch[str(columns.text)]
        pairs = batch[columns.text_pair] if columns.text_pair else nothing
        labels = batch[columns.label] if columns.label else nothing
        values = zip(texts, pairs, labels, strict=True)
        for number, (text, pair, label) in enumerate(values, start=first):
            at = f"{where}, example {number}"
            yield (
                decode(text, errors, at),
                None if pair is None else decode(pair, errors, at),
                None if label is None else _label(label, names, str(columns.label), at),
            )
        first += size


def _content(builder: Any, split: str) -> str:
    """Tells the records of a split by the files that hold them, and their place."""
    parts = builder.info.splits[split].file_instructions
    digest = hashlib.sha256()
    for part in parts:
        file = digest_of_file(Path(part.filename))
        digest.update(f"{file} {part.skip} {part.take}\n".encode())
    return f"tfds {digest.hexdigest()}"


def _batches(
    builder: Any, split: str, features: dict[str, Any], where: str
) -> Iterator[dict[str, list[Any]]]:
    """Yields batches of plain Python values, a list a feature."""
    try:
        for batch in _dataset(builder, split, features).as_numpy_iterator():
            yield {name: batch[name].tolist() for name in features}
    except tf.errors.OpError as error:
        raise DataError(f"{where} cannot be read: {error.message}") from error


def _dataset(builder: Any, split: str, features: dict[str, Any]) -> tf.data.Dataset:
    # Parsing a batch at once is some twenty times as fast as TFDS's own pipeline,
    # which parses each example alone (IMDB's 25,000 reviews: 0.1 s and 2 s).
    parts = builder.info.splits[split].file_instructions
    files = (
        [part.filename for part in parts],
        tf.constant([part.skip for part in parts], tf.int64),
        tf.constant([part.take for part in parts], tf.int64),
    )

    @tf.autograph.experimental.do_not_convert
    def read(file: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(file).skip(skip).take(take)

    @tf.autograph.experimental.do_not_convert
    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        return _parse(records, features)

    return (
        tf.data.Dataset.from_tensor_slices(files)
        .flat_map(read)
        .batch(_BATCH)
        .map(parse)
        .prefetch(1)
    )


def _parse(records: tf.Tensor, features: dict[str, Any]) -> dict[str, tf.Tensor]:
    scheme = {
        name: tf.io.FixedLenFeature((), _stored(f)) for name, f in features.items()
    }
    values = tf.io.parse_example(records, scheme)
    return {name: tf.cast(values[name], f.tf_dtype) for name, f in features.items()}


def _stored(feature: Any) -> tf.DType:
    """Returns the type under which TFDS stores a scalar in a `tf.train.Example`."""
    dtype = feature.tf_dtype
    if dtype.is_integer or dtype.is_bool:
        return tf.int64
    return tf.float32 if dtype.is_floating else tf.string


def _label(
    value: object, names: tuple[str, ...] | None, column: str, where: str
) -> str:
    if names is not None and value == -1:
        raise DataError(
            f'{where}: the label in column "{column}" is -1, which marks an example '
            "without label. Choose a split that has labels."
        )
    if names is not None and isinstance(value, int):
        return names[value]
    return as_label(value, "strict", column, where)


def _scalar_features(features: Any) -> dict[str, Any]:
    # Sorted, as the order of `features` changes from one process to the next.
    return {name: f for name, f in sorted(features.items()) if f.shape == ()}


def _is_text(feature: Any) -> bool:
    return (
        not isinstance(feature, tfds.features.ClassLabel)
        and feature.tf_dtype == tf.string
    )


def _class_names(feature: Any) -> tuple[str, ...] | None:
    if isinstance(feature, tfds.features.ClassLabel):
        return tuple(feature.names)
    return None


def _with_class_label(features: dict[str, Any], columns: Columns) -> Columns:
    """Names the label where the data set's author did, by a single ClassLabel."""
    columns = with_fallback(columns, features)
    classes = [n for n, f in features.items() if _class_names(f) is not None]
    if columns.label is not None or len(classes) != 1:
        return columns
    return replace(columns, label=classes[0])
