"""Windows: runs of documents that fit in memory, as text and as tokens.

A window is the unit of shuffling, of what counts as another document for next-sentence
prediction, and of a prepared shard. Windows follow each other through the files: a
large file lies in many windows, and a window holds many small files, so that a folder
with a document a file is as good as one large file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import tensorflow as tf
from annotated_types import Ge

from kbert.data.corpus import Corpus
from kbert.data.pieces import Piece, Place
from kbert.data.sentences import split_sentences
from kbert.data.tokenized_documents import TokenizedDocuments
from kbert.errors import DataError
from kbert.tokenization import WordPieceTokenizer

WINDOW_BYTES = 8_000_000

_MOST_WINDOWS_OF_A_DOCUMENT = 8
_SENTENCES_AT_ONCE = 4096

Keep = Callable[[int, int], bool]
"""Whether to use a document, by the number of its file and its own in the file."""


@dataclass(frozen=True)
class FilePiece:
    """A piece of a document, with the number and the name of its file.

    Attributes:
        number: how many pieces of the file come before it.
    """

    piece: Piece
    file_number: int
    file_name: str
    number: int


@dataclass(frozen=True)
class Start:
    """Where a window starts, for reading to begin with it.

    Attributes:
        file_number: the file of its first piece.
        place: where that piece is in the file.
    """

    file_number: Annotated[int, Ge(0)]
    place: Place


@dataclass
class Window:
    """Some documents.

    Attributes:
        number: counts from 0.
        start: where it starts; None while it is empty.
        documents: the texts of the pieces of each document, in the order read, by the
            number of its file and its own in the file.
        num_bytes: size of the texts in UTF-8.
    """

    number: int
    documents: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    num_bytes: int = 0
    start: Start | None = None

    def add(self, item: FilePiece) -> None:
        """Adds a piece; that of a document already here continues it."""
        piece, text = item.piece, item.piece.text
        if self.start is None:
            place = Place(item.number, piece.document, piece.line, piece.offset)
            self.start = Start(item.file_number, place)
        key = (item.file_number, piece.document)
        self.documents.setdefault(key, []).append(text)
        self.num_bytes += len(text) if text.isascii() else len(text.encode())

    def extend(self, other: "Window") -> None:
        """Adds what the window after this one holds."""
        for key, texts in other.documents.items():
            self.documents.setdefault(key, []).extend(texts)
        self.num_bytes += other.num_bytes


def read_pieces_of(
    corpus: Corpus,
    keep: Keep,
    order: Sequence[int] | None = None,
    start: Start | None = None,
) -> Iterator[FilePiece]:
    """Yields the pieces of the documents to keep.

    Args:
        corpus: the files.
        keep: which documents to yield.
        order: the numbers of the files, in the order to read them; None for theirs.
        start: of a window, whose first piece is the first to yield.

    Raises:
        DataError: what a file finds wrong in itself.
    """
    order = range(len(corpus.files)) if order is None else order
    if start is not None:
        order = order[order.index(start.file_number) :]
    for number in order:
        file = corpus.files[number]
        place = None
        if start is not None and number == start.file_number:
            place = start.place
        first = 0 if place is None else place.number
        for piece_number, piece in enumerate(file.pieces(place), first):
            if keep(number, piece.document):
                yield FilePiece(piece, number, file.name, piece_number)


def windows(
    pieces: Iterable[FilePiece],
    num_bytes: int = WINDOW_BYTES,
    *,
    need_two_documents: bool,
    first_number: int = 0,
) -> Iterator[Window]:
    """Gathers pieces to windows of `num_bytes` or a piece more; the last may have less.

    A document that does not end in its window goes on in the next one.

    Args:
        pieces: the documents, one after the other.
        num_bytes: when a window is full.
        need_two_documents: a window with a single document, which next-sentence
            prediction cannot use, is not full yet; the last of all joins the one
            before. Only if all pieces are of one document is there one such window.
        first_number: the number of the window that starts with the first of the pieces.

    Raises:
        DataError: one document fills 8 windows where two documents are needed.
    """
    least = 2 if need_two_documents else 1
    full: Window | None = None  # held back for the last window to join it
    window = Window(first_number)
    for item in pieces:
        window.add(item)
        if window.num_bytes < num_bytes:
            continue
        if len(window.documents) >= least:
            if full is not None:
                yield full
            full, window = window, Window(window.number + 1)
        elif window.num_bytes >= _MOST_WINDOWS_OF_A_DOCUMENT * num_bytes:
            raise _endless_document(item, window)
    if full is not None and len(window.documents) < least:
        full.extend(window)
        window, full = full, None
    if full is not None:
        yield full
    if window.documents:
        yield window


def _endless_document(item: FilePiece, window: Window) -> DataError:
    return DataError(
        "Next-sentence prediction takes a segment from another document nearby; "
        f"{item.file_name}, line {item.piece.line}, is in a document of more than "
        f"{window.num_bytes / 1e6:,.0f} MB. Separate documents by blank lines, or set "
        "data.document=line, or train.next_sentence_weight=0."
    )


class WindowTokenizer:
    """Turns windows into tokens; threads can share one."""

    def __init__(self, tokenizer: WordPieceTokenizer) -> None:
        texts = tf.TensorSpec([None], tf.string)
        self._tokenize = tf.function(
            tokenizer.tokenize, input_signature=[texts], autograph=False
        )

    def __call__(self, window: Window) -> TokenizedDocuments:
        """Splits the documents into sentences and tokenizes them."""
        sentences: list[str] = []
        num_sentences = []
        for texts in window.documents.values():
            before = len(sentences)
            for text in texts:
                sentences += split_sentences(text)
            num_sentences.append(len(sentences) - before)
        parts = [
            self._tokenize(tf.constant(sentences[start : start + _SENTENCES_AT_ONCE]))
            for start in range(0, len(sentences), _SENTENCES_AT_ONCE)
        ]
        if not parts:
            parts = [self._tokenize(tf.constant([], tf.string))]
        return TokenizedDocuments.from_lengths(
            np.concatenate([part.values.numpy() for part in parts]),
            np.concatenate([part.row_lengths().numpy() for part in parts]),
            np.array(num_sentences, np.int64),
        )
