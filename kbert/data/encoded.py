"""Examples as token ids: what training, evaluation and prediction read.

A source is read and tokenized once, as a stream, into flat columns with row
offsets. The columns of a data set lie in unnamed temporary files and are mapped
into memory, so that a data set may be larger than memory, any example is
reached at once, and a killed process leaves nothing behind.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from kbert.data.sources import Chunk, Source
from kbert.data.temporary import naming_temporary_folder, temporary_file
from kbert.data.values import to_bytes
from kbert.errors import DataError, UserError
from kbert.tokenization import Packed, Truncation, WordPieceTokenizer, pack

_CHUNK = 512
_NUM_SEGMENTS = 2


@dataclass(frozen=True)
class Encoder:
    """Turns texts into packed token ids; the same for every use of a run.

    Attributes:
        tokenizer: the run's tokenizer.
        max_length: tokens kept of an example, special tokens included.
        truncation: which part of a long text is kept: head, tail or head_tail.
    """

    tokenizer: WordPieceTokenizer
    max_length: int
    truncation: Truncation

    def __call__(
        self, texts: tf.Tensor, text_pairs: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Encodes texts `[B]` in graph ops.

        Returns:
            `token_ids` and `segment_ids` of all rows one after the other,
            `[sum of lengths]`; `lengths` `[B]`; `num_tokens` `[B]`, the lengths
            before cutting.
        """
        packed = self.pack(texts, text_pairs)
        return {
            "token_ids": packed.token_ids.flat_values,
            "segment_ids": packed.segment_ids.flat_values,
            "lengths": packed.token_ids.row_lengths(),
            "num_tokens": packed.num_tokens,
        }

    def pack(self, texts: tf.Tensor, text_pairs: tf.Tensor | None = None) -> Packed:
        """Tokens with [CLS] and [SEP], cut to `max_length`, of texts `[B]`."""
        tokens = self.tokenizer.tokenize(texts)
        pairs = None if text_pairs is None else self.tokenizer.tokenize(text_pairs)
        return pack(
            tokens,
            pairs,
            max_length=self.max_length,
            truncation=self.truncation,
            cls_id=self.tokenizer.cls_id,
            sep_id=self.tokenizer.sep_id,
        )


@dataclass
class EncodingReport:
    """What reading and cutting did to a data set."""

    num_examples: int = 0
    num_empty: int = 0
    num_cut: int = 0
    num_tokens: int = 0
    num_tokens_lost: int = 0
    fingerprint: str = ""

    def add(self, lengths: np.ndarray, num_tokens: np.ndarray) -> None:
        """Counts a batch of examples.

        Args:
            lengths: tokens of each after cutting.
            num_tokens: tokens of each before.
        """
        self.num_examples += len(lengths)
        self.num_tokens += int(lengths.sum())
        self.num_cut += int((num_tokens > lengths).sum())
        self.num_tokens_lost += int((num_tokens - lengths).sum())

    def summary(self) -> str:
        """One line for people: size, share of texts cut, share of tokens lost."""
        line = f"{self.num_examples:,} examples, {self.num_tokens:,} tokens"
        if self.num_cut:
            cut = self.num_cut / self.num_examples
            lost = self.num_tokens_lost / (self.num_tokens + self.num_tokens_lost)
            line += f"; {cut:.1%} of the texts cut, {lost:.1%} of the tokens lost"
        if self.num_empty:
            line += f"; {self.num_empty:,} empty texts (kept)"
        return line


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded examples, each reached by its number.

    Attributes:
        name: what messages call the data set.
        token_ids: `[tokens]` int32, the examples one after the other.
        segment_ids: `[tokens]` uint8, likewise.
        starts: `[examples]` int64; where each example begins in the columns.
        lengths: `[examples]` int64; tokens of each example.
        label_ids: `[examples]` int32, into `label_names`; None if unlabelled.
        label_names: the distinct labels in order of appearance.
        report: what reading and cutting did.
        numbers: `[examples]`, those of a selection in the data set as it was read; None
            where these are all.
        vocabulary_size: where the columns come from a folder, and their ids have to be
            checked; None where they were encoded just now.
    """

    name: str
    token_ids: np.ndarray
    segment_ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    label_ids: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    report: EncodingReport = field(default_factory=EncodingReport)
    numbers: np.ndarray | None = None
    vocabulary_size: int | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, rows: np.ndarray, name: str) -> "EncodedDataset":
        """The examples with these numbers, over the same columns."""
        return replace(
            self,
            name=name,
            numbers=self.read_numbers(rows),
            starts=self.starts[rows],
            lengths=self.lengths[rows],
            label_ids=None if self.label_ids is None else self.label_ids[rows],
        )

    def read_numbers(self, rows: np.ndarray) -> np.ndarray:
        """The numbers, counted from 0, that examples had in what was read."""
        return rows if self.numbers is None else self.numbers[rows]

    def check_ids(self, token_ids: np.ndarray, segment_ids: np.ndarray) -> None:
        """Checks ids from the columns, for which a model has to have embeddings.

        Raises:
            DataError: there is one that it has none for.
        """
        if self.vocabulary_size is None:
            return
        for ids, number in (
            (token_ids, self.vocabulary_size),
            (segment_ids, _NUM_SEGMENTS),
        ):
            if ids.min() < 0 or ids.max() >= number:
                raise DataError(
                    f"{self.name}: what the run keeps of it encoded is damaged: an id "
                    f"is not within 0 and {number - 1}. Delete the run's folder "
                    "encoded/, so that its texts are read again."
                )


def encode_texts(
    encode: Callable[..., dict[str, tf.Tensor]],
    texts: list[str],
    text_pairs: list[str] | None = None,
) -> EncodedDataset:
    """Encodes a list of texts that fits in memory; lone surrogates are no tokens.

    Args:
        encode: an `Encoder`, or a compiled function of it.
    """
    columns = [texts] if text_pairs is None else [texts, text_pairs]
    encoded = encode(
        *(tf.constant([to_bytes(t) for t in column], tf.string) for column in columns)
    )
    lengths = encoded["lengths"].numpy()
    return EncodedDataset(
        name="texts",
        token_ids=encoded["token_ids"].numpy(),
        segment_ids=encoded["segment_ids"].numpy().astype(np.uint8),
        starts=starts_of(lengths),
        lengths=lengths,
    )


def encode_source(
    source: Source,
    encoder: Encoder,
    *,
    on_batch: Callable[[int, int], None] | None = None,
) -> EncodedDataset:
    """Reads and encodes a whole source as a stream.

    Args:
        on_batch: told the examples and the tokens of each batch that is read.

    Raises:
        DataError: what the source finds wrong in its rows, or no example at all.
        OSError: the disk for temporary files is full; it names the folder.
    """
    report = EncodingReport()
    label_numbers: dict[str, int] = {}
    all_lengths: list[np.ndarray] = []
    label_ids: list[np.ndarray] = []
    with _Column(np.int32) as token_ids, _Column(np.uint8) as segment_ids:
        for batch in _encoded_batches(source, encoder, report, label_numbers):
            token_ids.append(batch["token_ids"])
            segment_ids.append(batch["segment_ids"])
            all_lengths.append(batch["lengths"])
            label_ids.append(batch["label_ids"])
            report.add(batch["lengths"], batch["num_tokens"])
            if on_batch is not None:
                on_batch(len(batch["lengths"]), int(batch["lengths"].sum()))
        if not report.num_examples:
            raise DataError(f"{source.name} has no examples.")
        lengths = np.concatenate(all_lengths)
        return EncodedDataset(
            name=source.name,
            token_ids=token_ids.as_array(),
            segment_ids=segment_ids.as_array(),
            starts=starts_of(lengths),
            lengths=lengths,
            label_ids=np.concatenate(label_ids) if label_numbers else None,
            label_names=tuple(label_numbers),
            report=report,
        )


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Where each example begins in the columns."""
    return np.cumsum(lengths) - lengths


class _Column:
    """A growing array in an unnamed temporary file."""

    def __init__(self, dtype: type) -> None:
        self._dtype = np.dtype(dtype)
        self._file = temporary_file()

    def __enter__(self) -> "_Column":
        return self

    def __exit__(self, *error: object) -> None:
        # What is mapped stays; of a full disk there has been an error already.
        with contextlib.suppress(OSError):
            self._file.close()

    def append(self, values: np.ndarray) -> None:
        with naming_temporary_folder():
            self._file.write(values.astype(self._dtype, copy=False).tobytes())

    def as_array(self) -> np.ndarray:
        with naming_temporary_folder():
            self._file.flush()
        return np.memmap(self._file, dtype=self._dtype, mode="r")


def _encoded_batches(
    source: Source,
    encoder: Encoder,
    report: EncodingReport,
    label_numbers: dict[str, int],
) -> Iterator[dict[str, np.ndarray]]:
    """Reads, tokenizes and packs on both cores; yields batches in order."""
    paired = source.columns.text_pair is not None
    failures: list[UserError] = []

    def rows() -> Iterator[tuple[list[bytes], list[bytes], np.ndarray]]:
        digest = hashlib.sha256()
        try:
            for chunk in source.chunks(_CHUNK):
                texts = [text.encode() for text in chunk.texts]
                pairs = [text.encode() for text in chunk.text_pairs or ()]
                labels = _number_labels(chunk, label_numbers)
                report.num_empty += sum(not text.strip() for text in texts)
                _add_to_digest(digest, (texts, pairs, chunk.labels or ()))
                yield texts, pairs, labels
        except UserError as error:
            # Raised in here, tf.data would make an error of its own of it.
            failures.append(error)
        report.fingerprint = digest.hexdigest()

    @tf.autograph.experimental.do_not_convert  # which takes a second, and for nothing
    def encode(texts: tf.Tensor, pairs: tf.Tensor, labels: tf.Tensor) -> dict:
        return encoder(texts, pairs if paired else None) | {"label_ids": labels}

    strings = tf.TensorSpec([None], tf.string)
    dataset = (
        tf.data.Dataset.from_generator(
            rows, output_signature=(strings, strings, tf.TensorSpec([None], tf.int32))
        )
        .map(encode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    yield from dataset.as_numpy_iterator()
    if failures:
        raise failures[0]


def _number_labels(chunk: Chunk, label_numbers: dict[str, int]) -> np.ndarray:
    labels = chunk.labels or ()
    numbers = [label_numbers.setdefault(label, len(label_numbers)) for label in labels]
    return np.asarray(numbers, np.int32)


def _add_to_digest(digest: "hashlib._Hash", columns: Iterable[Iterable]) -> None:
    for column in columns:
        for value in column:
            data = value if isinstance(value, bytes) else str(value).encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
