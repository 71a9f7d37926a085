"""Rows of random tokens without padding, in place of somebody's texts.

Axes: T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kbert.data.encoded import EncodedDataset
from kbert.data.pretraining import ExampleSource
from kbert.data.pretraining_examples import Examples
from kbert.vocabulary import CLS, SEP, SPECIAL_TOKENS

LABELS = ("negative", "positive")
_SEED = 0


def random_rows(vocabulary: Sequence[str], num_rows: int, length: int) -> np.ndarray:
    """Token ids `[rows, T]` int32: [CLS], ordinary tokens, [SEP].

    Args:
        vocabulary: the tokens in the order of their ids.
        length: T.
    """
    ordinary = [i for i, token in enumerate(vocabulary) if token not in SPECIAL_TOKENS]
    random = np.random.default_rng(_SEED)
    rows = random.choice(np.array(ordinary, np.int32), (num_rows, length))
    rows[:, 0] = vocabulary.index(CLS)
    rows[:, -1] = vocabulary.index(SEP)
    return rows


def random_dataset(
    vocabulary: Sequence[str], num_rows: int, length: int
) -> EncodedDataset:
    """Rows with a label each, for a classifier."""
    rows = random_rows(vocabulary, num_rows, length)
    return EncodedDataset(
        name="random tokens",
        token_ids=rows.ravel(),
        segment_ids=np.zeros(rows.size, np.uint8),
        starts=np.arange(num_rows) * length,
        lengths=np.full(num_rows, length),
        label_ids=(np.arange(num_rows) % len(LABELS)).astype(np.int32),
        label_names=LABELS,
    )


@dataclass(frozen=True)
class RandomPairs(ExampleSource):
    """An `ExampleSource` of pairs of segments, every epoch the same ones."""

    vocabulary: Sequence[str]
    num_rows: int
    length: int

    def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
        """Yields the pairs, in one block."""
        if first_block:
            return
        rows = random_rows(self.vocabulary, self.num_rows, self.length)
        first_length = self.length // 2
        rows[:, first_length - 1] = self.vocabulary.index(SEP)
        yield Examples(
            token_ids=rows.ravel(),
            lengths=np.full(self.num_rows, self.length),
            first_lengths=np.full(self.num_rows, first_length),
            next_sentence_labels=(np.arange(self.num_rows) % 2).astype(np.int32),
        )
