"""The examples of a pretraining, epoch by epoch, in an order that a seed decides."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge

from kbert.data.ahead import map_ahead
from kbert.data.corpus import Corpus
from kbert.data.pretraining_examples import ExampleRecipe, Examples, build_examples
from kbert.data.windows import (
    WINDOW_BYTES,
    Keep,
    Start,
    Window,
    WindowTokenizer,
    read_pieces_of,
    windows,
)
from kbert.errors import DataError
from kbert.tokenization import WordPieceTokenizer

PARTS_OF_A_BLOCK = 8
_THREADS = 2


class Purpose(IntEnum):
    """What random numbers are drawn for; two purposes share none."""

    ORDER = 1
    BUILDING = 2
    SHUFFLING = 3
    PREPARING = 4


def random_generator(purpose: Purpose, *numbers: int) -> np.random.Generator:
    """Random numbers that are a function of the arguments, none of them negative."""
    return np.random.default_rng([purpose, *numbers])


@dataclass(frozen=True)
class Bookmark:
    """Where a block starts in the text.

    Attributes:
        block: its number.
        start: of its first window.
    """

    block: Annotated[int, Ge(0)]
    start: Start


class ExampleSource(Protocol):
    """Examples for any number of epochs, in blocks."""

    def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
        """Yields an epoch's examples, shuffled, in blocks that fit in memory.

        The same epoch has the same blocks each time.

        Args:
            epoch: counts from 0; each has another order.
            first_block: the number of the first block to yield, to go on where a
                training stopped; there may be none of this number.
        """

    def bookmark(self, epoch: int, block: int) -> Bookmark | None:
        """What lets another process find a block sooner, if there is such.

        Args:
            epoch: the last that `blocks` was called for, or the one before.
            block: its number.
        """
        return None

    def use_bookmark(self, epoch: int, bookmark: Bookmark) -> None:
        """Lets `blocks` begin at what `bookmark` gave, of the same source."""
        return


class TextExamples(ExampleSource):
    """An `ExampleSource` that makes the examples while they are used.

    Every epoch draws other pairs and other lengths from the texts.

    Args:
        corpus: the texts.
        tokenizer: turns them into tokens.
        recipe: how tokens become examples.
        seed: decides the order and everything that is drawn.
        keep: which documents to use; the others may be those held out.
        window_bytes: see `windows`; examples are shuffled within 8 windows.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: WordPieceTokenizer,
        recipe: ExampleRecipe,
        *,
        seed: int,
        keep: Keep,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._corpus = corpus
        self._tokenize = WindowTokenizer(tokenizer)
        self._recipe = recipe
        self._seed = seed
        self._keep = keep
        self._window_bytes = window_bytes
        self._starts: dict[tuple[int, int], Start] = {}  # of blocks, by epoch and block

    def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
        """See `ExampleSource`.

        Text before the first block is not tokenized. With a bookmark it is not read
        either, but for what is before it in a table or in small files read as one.

        Raises:
            DataError: a file is faulty, there is no example at all, or next-sentence
                prediction lacks a second document.
        """

        def build(window: Window) -> Examples | None:
            if window.number < first_block * PARTS_OF_A_BLOCK:
                return None
            rng = random_generator(Purpose.BUILDING, self._seed, epoch, window.number)
            return build_examples(self._tokenize(window), self._recipe, rng)

        built = map_ahead(
            build,
            self._windows(epoch, first_block),
            num_threads=_THREADS,
            num_ahead=PARTS_OF_A_BLOCK,
        )
        with closing(built):
            parts = (part for part in built if part is not None)
            blocks = shuffled_blocks(parts, self._seed, epoch, first_block)
            yield from blocks if first_block else self._checked(blocks)

    def _windows(self, epoch: int, first_block: int) -> Iterator[Window]:
        """Yields an epoch's windows, and notes where blocks start.

        Those before the block are there as far as they have to be read.
        """
        rng = random_generator(Purpose.ORDER, self._seed, epoch)
        order = rng.permutation(len(self._corpus.files)).tolist()
        # Of the epoch before, examples may still wait to be fed.
        known = self._starts.items()
        self._starts = {key: where for key, where in known if key[0] >= epoch - 1}
        block, start = self._start_before(epoch, first_block)
        for window in windows(
            read_pieces_of(self._corpus, self._keep, order, start),
            self._window_bytes,
            need_two_documents=self._recipe.next_sentence,
            first_number=block * PARTS_OF_A_BLOCK,
        ):
            block, part = divmod(window.number, PARTS_OF_A_BLOCK)
            if part == 0 and window.start is not None:
                self._starts[epoch, block] = window.start
            yield window

    def _start_before(self, epoch: int, block: int) -> tuple[int, Start | None]:
        """The last block known, up to this one, and where it starts."""
        for number in range(block, 0, -1):
            if start := self._starts.get((epoch, number)):
                return number, start
        return 0, None

    def bookmark(self, epoch: int, block: int) -> Bookmark | None:
        """See `ExampleSource`; of the block, or of the last before it that is known."""
        number, start = self._start_before(epoch, block)
        return None if start is None else Bookmark(number, start)

    def use_bookmark(self, epoch: int, bookmark: Bookmark) -> None:
        """See `ExampleSource`; one of another source is of no use, and left alone."""
        if bookmark.start.file_number < len(self._corpus.files):
            self._starts[epoch, bookmark.block] = bookmark.start

    def _checked(self, blocks: Iterable[Examples]) -> Iterator[Examples]:
        num_examples = 0
        for block in blocks:
            num_examples += len(block)
            yield block
        if not num_examples:
            raise no_examples(self._corpus)


def no_examples(corpus: Corpus) -> DataError:
    """The error of a corpus without any text that makes an example."""
    return DataError(
        f"{corpus.name} has no text to make examples of. Name a file with text, or "
        "another column (data.text)."
    )


def shuffled_blocks(
    parts: Iterable[Examples], seed: int, epoch: int, first_block: int = 0
) -> Iterator[Examples]:
    """Yields 8 parts at a time, their examples in an order of (seed, epoch, block)."""
    parts = iter(parts)
    number = first_block
    while block := list(islice(parts, PARTS_OF_A_BLOCK)):
        rng = random_generator(Purpose.SHUFFLING, seed, epoch, number)
        examples = Examples.concatenate(block)
        del block
        yield examples.select(rng.permutation(len(examples)))
        number += 1
