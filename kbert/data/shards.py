"""Shards: files of prepared examples, as TFRecords that any TensorFlow can read.

Each record is a `tf.train.Example` with the int64 features `token_ids`,
`first_length` and `next_sentence_label`; see `Examples`.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert.bounded import resolve_inside, shown
from kbert.data.pretraining_examples import Examples
from kbert.disk_errors import disk_errors_of
from kbert.errors import DataError
from kbert.files import write_atomically

_FEATURES = {
    "token_ids": tf.io.RaggedFeature(tf.int64),
    "first_length": tf.io.FixedLenFeature([], tf.int64),
    "next_sentence_label": tf.io.FixedLenFeature([], tf.int64),
}
_RECORDS_AT_ONCE = 4096
_FILE = re.compile(r"(length-\d+/\d+|validation/length-\d+)\.tfrecord")
# A record: its length, a checksum of that, its bytes, a checksum of these.
_LENGTH = struct.Struct("<Q")
_CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class Shard:
    """What is known of a finished shard.

    Attributes:
        file: its path below the prepared folder, with slashes.
        num_examples: records in it.
        num_tokens: of all examples, [CLS] and [SEP]s included.
        num_bytes: size of the file.
    """

    file: str
    num_examples: int
    num_tokens: int
    num_bytes: int

    def __post_init__(self) -> None:
        counts = (self.num_examples, self.num_tokens, self.num_bytes)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"the counts of a shard are whole numbers, not {counts}")
        if not isinstance(self.file, str) or not _FILE.fullmatch(self.file):
            raise ValueError(f"no shard is called {shown(self.file)}")

    def is_whole(self, folder: Path) -> bool:
        """Whether the file is there, in its size.

        Raises:
            DataError: it is a link out of the folder.
        """
        path = resolve_inside(folder, self.file, DataError)
        return path.is_file() and path.stat().st_size == self.num_bytes


def write_shard(folder: Path, file: str, examples: Examples) -> Shard:
    """Writes `folder/file`, wholly or not at all; the same examples, the same bytes.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        _write_records(temporary, examples)
        num_bytes = temporary.stat().st_size
    return Shard(file, len(examples), len(examples.token_ids), num_bytes)


def read_shard(folder: Path, shard: Shard) -> Examples:
    """The examples of a shard.

    Raises:
        DataError: it is damaged or gone.
    """
    path = resolve_inside(folder, shard.file, DataError)
    _check_records(path)
    parts = []
    try:
        with tf.device("CPU:0"):
            for records in tf.data.TFRecordDataset(str(path)).batch(_RECORDS_AT_ONCE):
                parts.append(_parse(records))
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise _damaged(path, "it does not hold what was written") from error
    except tf.errors.NotFoundError:
        raise _damaged(path, "the file is gone") from None
    examples = Examples.concatenate(parts)
    if not _is_plausible(examples):
        raise _damaged(path, "its examples are none that kbert writes")
    if len(examples) != shard.num_examples:
        found = f"{len(examples)} examples of {shard.num_examples}"
        raise _damaged(path, found)
    return examples


def _check_records(path: Path) -> None:
    """Checks that no record says it is longer than the file.

    TensorFlow would make room for it first.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            position = 0
            while header := file.read(_LENGTH.size):
                if len(header) < _LENGTH.size:
                    break  # TensorFlow tells
                (length,) = _LENGTH.unpack(header)
                position += _LENGTH.size + length + 2 * _CHECKSUM_BYTES
                if position > size:
                    raise _damaged(path, "a record is longer than the file")
                file.seek(position)
    except FileNotFoundError:
        raise _damaged(path, "the file is gone") from None
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None


def _is_plausible(examples: Examples) -> bool:
    """Whether the numbers are in the ranges in which kbert writes them."""
    return bool(
        (examples.token_ids >= 0).all()
        and (examples.first_lengths >= 0).all()
        and (examples.first_lengths <= examples.lengths).all()
    )


def _write_records(path: Path, examples: Examples) -> None:
    starts = examples.starts
    columns = zip(
        starts.tolist(),
        (starts + examples.lengths).tolist(),
        examples.first_lengths.tolist(),
        examples.next_sentence_labels.tolist(),
        strict=True,
    )
    with disk_errors_of(path), tf.io.TFRecordWriter(str(path)) as writer:
        for start, end, first_length, label in columns:
            example = tf.train.Example()
            feature = example.features.feature
            token_ids = examples.token_ids[start:end].tolist()
            feature["token_ids"].int64_list.value.extend(token_ids)
            feature["first_length"].int64_list.value.append(first_length)
            feature["next_sentence_label"].int64_list.value.append(label)
            writer.write(example.SerializeToString(deterministic=True))


def _parse(records: tf.Tensor) -> Examples:
    parsed = tf.io.parse_example(records, _FEATURES)
    token_ids = parsed["token_ids"]
    return Examples(
        token_ids.values.numpy().astype(np.int32),
        token_ids.row_lengths().numpy(),
        parsed["first_length"].numpy(),
        parsed["next_sentence_label"].numpy().astype(np.int32),
    )


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is damaged: {reason}. Delete this file and prepare into the same "
        "folder again; only what is missing is made anew."
    )
