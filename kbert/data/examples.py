"""What a reader yields, and what every source of examples promises."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from kbert.errors import DataError

EncodingErrors = Literal["strict", "replace", "ignore"]

_CHUNK_CHARACTERS = 2**26
ROLES = ("text", "text_pair", "label")

Row = tuple[str, str | None, str | None]
"""One example: text, second text, label."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns; None where not named or, once resolved, not used.

    Attributes:
        fallback: For what is not named here: columns to be read if the source has
            them. A name here that the source does not have is an error.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    fallback: "Columns | None" = None


@dataclass(frozen=True)
class Chunk:
    """Some examples in the order of their source, one list a column."""

    texts: list[str]
    text_pairs: list[str] | None = None
    labels: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class ReadOptions:
    """What the user asks of any source, whatever its format."""

    columns: Columns = Columns()
    encoding_errors: EncodingErrors = "strict"
    limit: int | None = None
    labelled: bool = True


class Source(Protocol):
    """Examples that stream, any number of times, always in the same order."""

    @property
    def name(self) -> str:
        """What a message calls it: `reviews.csv`, `tfds:imdb_reviews train`."""

    @property
    def columns(self) -> Columns:
        """The columns that are read; `label` is None if labels are not read."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The classes in the source's own order, where it has one."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or left out, a sentence each, for the user."""

    @property
    def num_examples(self) -> int | None:
        """How many examples `chunks` will yield, where that is known beforehand."""

    def identity(self) -> str | None:
        """What is read, from where on and how far: the same text for the same examples.

        It does not tell where they lie, so that they may move. Files are read for their
        checksums and not parsed. None where nothing is known of them.

        Raises:
            DataError: a file cannot be read.
        """

    def chunks(self, size: int = 1024) -> Iterator[Chunk]:
        """Yields the examples, `size` at a time.

        The last chunk may be smaller, and so may one of very long texts.

        Raises:
            DataError: An example is faulty (the message says where), or there is
                none at all.
        """


@dataclass(frozen=True)
class RowSource:
    """A `Source` over any function that yields rows.

    Attributes:
        content: tells the files that are read by what is in them.
    """

    name: str
    columns: Columns
    rows: Callable[[], Generator[Row]]
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    num_examples: int | None = None
    limit: int | None = None
    content: Callable[[], str] | None = None

    def identity(self) -> str | None:
        """See `Source`."""
        if self.content is None:
            return None
        return f"{self.content()}, labels {self.label_names}, limit {self.limit}"

    def chunks(self, size: int = 1024) -> Iterator[Chunk]:
        """Yields the first `limit` rows, `size` at a time."""
        if size < 1:
            raise ValueError(f"`size` must be at least 1. Received: size={size}")
        empty = True
        with closing(self.rows()) as all_rows:
            rows = islice(all_rows, self.limit)
            while block := _take(rows, size):
                empty = False
                yield self._chunk(block)
        if empty:
            raise DataError(f"{self.name} has no examples.")

    def _chunk(self, block: list[Row]) -> Chunk:
        texts, pairs, labels = zip(*block, strict=True)
        return Chunk(
            list(texts),
            None if self.columns.text_pair is None else list(pairs),
            None if self.columns.label is None else list(labels),
        )


def _take(rows: Iterator[Row], size: int) -> list[Row]:
    """The next `size` rows, or fewer where they are very long."""
    block: list[Row] = []
    room = _CHUNK_CHARACTERS
    for row in rows:
        block.append(row)
        room -= len(row[0]) + len(row[1] or "")
        if len(block) == size or room <= 0:
            break
    return block


def limited(num_examples: int | None, limit: int | None) -> int | None:
    """Returns how many of `num_examples` remain under `limit`."""
    if num_examples is None or limit is None:
        return num_examples
    return min(num_examples, limit)


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sorts distinct labels: by number if all are integers, else by code point."""
    distinct = sorted(set(labels))
    try:
        return sorted(distinct, key=int)
    except ValueError:
        return distinct
