"""The examples of a pretraining, epoch by epoch, in an order that a seed decides."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import IntEnum
from itertools import islice
from typing import Protocol

import numpy as np

from kbert.data.ahead import map_ahead
from kbert.data.corpus import Corpus
from kbert.data.pretraining_examples import ExampleRecipe, Examples, build_examples
from kbert.data.windows import (
    WINDOW_BYTES,
    Keep,
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


class ExampleSource(Protocol):
    """Examples for any number of epochs."""

    def blocks(self, epoch: int, start: int = 0) -> Iterator[Examples]:
        """Yields an epoch's examples, shuffled, in blocks that fit in memory.

        The same epoch has the same examples in the same order each time.

        Args:
            epoch: counts from 0; each has another order.
            start: how many examples of the epoch to leave out, to go on where a
                training stopped.
        """


class TextExamples:
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

    def blocks(self, epoch: int, start: int = 0) -> Iterator[Examples]:
        """See `ExampleSource`; what `start` leaves out is made all the same.

        Raises:
            DataError: a file is faulty, there is no example at all, or next-sentence
                prediction lacks a second document.
        """

        def build(window: Window) -> Examples:
            rng = random_generator(Purpose.BUILDING, self._seed, epoch, window.number)
            return build_examples(self._tokenize(window), self._recipe, rng)

        rng = random_generator(Purpose.ORDER, self._seed, epoch)
        order = rng.permutation(len(self._corpus.files)).tolist()
        parts = map_ahead(
            build,
            windows(
                read_pieces_of(self._corpus, self._keep, order),
                self._window_bytes,
                need_two_documents=self._recipe.next_sentence,
            ),
            num_threads=_THREADS,
            num_ahead=PARTS_OF_A_BLOCK,
        )
        with closing(parts):
            blocks = shuffled_blocks(parts, self._seed, epoch)
            yield from leave_out(self._checked(blocks), start)

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


def leave_out(blocks: Iterable[Examples], num_examples: int) -> Iterator[Examples]:
    """Yields the blocks without the first `num_examples`, and none that is empty."""
    for block in blocks:
        num_left_out = min(len(block), num_examples)
        num_examples -= num_left_out
        if num_left_out:
            block = block.select(np.arange(num_left_out, len(block)))
        if len(block):
            yield block
