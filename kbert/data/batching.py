"""Batches by length: which examples form a batch, and how it is laid out.

Examples are grouped by token count and padded to the width of their group, not
to the longest text of all. Every width has one shape, so that a compiler
compiles once a width. The order is a function of (seed, epoch) alone.

Axes: B rows of a batch, T tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kbert.data.encoded import EncodedDataset


@dataclass(frozen=True)
class Group:
    """The examples of one optimizer update, or of one forward pass.

    Attributes:
        rows: the numbers of the examples, at most `capacity`.
        width: tokens every row is padded to.
        capacity: rows of the full batch; missing ones are filled with padding.
    """

    rows: np.ndarray
    width: int
    capacity: int


@dataclass(frozen=True)
class Batch:
    """What a model is fed.

    Attributes:
        features: `token_ids`, `segment_ids`, `padding_mask`, each `[B, T]` int32.
        rows: the numbers of the examples in the first rows, `[<= B]`.
        weights: `[B]` float32; 0 for rows that are padding. Over the batches of
            one update they sum to the number of rows, so that a mean over rows
            is the mean over examples.
    """

    features: dict[str, np.ndarray]
    rows: np.ndarray
    weights: np.ndarray

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.features["padding_mask"][: len(self.rows)].sum())


@dataclass(frozen=True)
class Batching:
    """How a data set is cut into batches.

    Attributes:
        max_length: the widest width, in tokens.
        batch_size: rows of a batch.
        tokens_per_batch: where given, in place of `batch_size`: as many rows as
            fit into this many tokens, padding included.
        accumulation: batches of one optimizer update.
    """

    max_length: int
    batch_size: int = 32
    tokens_per_batch: int | None = None
    accumulation: int = 1

    @property
    def widths(self) -> list[int]:
        """The widths in use, rising; finer where a token more weighs more."""
        steps = [*range(16, 128, 16), *range(128, 256, 32)]
        steps += range(256, self.max_length, 64)
        return [width for width in steps if width < self.max_length] + [self.max_length]

    def rows_of(self, width: int) -> int:
        """Rows of one batch of this width."""
        if self.tokens_per_batch is None:
            return self.batch_size
        return max(1, self.tokens_per_batch // width)

    def groups(
        self, lengths: np.ndarray, *, seed: int | None = None, epoch: int = 0
    ) -> list[Group]:
        """Puts every example into exactly one group.

        Shuffled, for training, examples left over in a width go to the next wider
        one, so that at most one group of all is not full. Otherwise each width may
        end with a group that is not full, and nothing is padded further than need be.

        Args:
            lengths: tokens of each example.
            seed: shuffles examples and groups; None keeps the order by width.
            epoch: another order each epoch.
        """
        rng = None if seed is None else np.random.default_rng([seed, epoch])
        order = (
            np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
        )
        widths = self.widths
        bucket = np.searchsorted(widths, lengths[order])
        groups: list[Group] = []
        left_over = order[:0]
        for index, width in enumerate(widths):
            rows = np.concatenate([left_over, order[bucket == index]])
            capacity = self.rows_of(width) * self.accumulation
            full = len(rows) - len(rows) % capacity
            groups += [
                Group(rows[start : start + capacity], width, capacity)
                for start in range(0, full, capacity)
            ]
            left_over = rows[full:]
            if rng is None and len(left_over):
                groups.append(Group(left_over, width, capacity))
                left_over = order[:0]
        if len(left_over):
            width = widths[int(np.searchsorted(widths, lengths[left_over].max()))]
            capacity = self.rows_of(width) * self.accumulation
            groups += [
                Group(left_over[start : start + capacity], width, capacity)
                for start in range(0, len(left_over), capacity)
            ]
        if rng is not None:
            rng.shuffle(groups)
        return groups

    def batches(
        self, dataset: EncodedDataset, group: Group, pad_id: int
    ) -> Iterator[Batch]:
        """The batches of a group, as many as are accumulated for one update."""
        size = group.capacity // self.accumulation
        weight = group.capacity / max(1, len(group.rows))
        for start in range(0, group.capacity, size):
            rows = group.rows[start : start + size]
            weights = np.zeros(size, np.float32)
            weights[: len(rows)] = weight
            features = _lay_out(dataset, rows, size, group.width, pad_id)
            yield Batch(features, rows, weights)


def _lay_out(
    dataset: EncodedDataset, rows: np.ndarray, size: int, width: int, pad_id: int
) -> dict[str, np.ndarray]:
    token_ids = np.full((size, width), pad_id, np.int32)  # (B, T)
    segment_ids = np.zeros((size, width), np.int32)
    padding_mask = np.zeros((size, width), np.int32)
    for index, row in enumerate(rows):
        start, length = dataset.starts[row], dataset.lengths[row]
        token_ids[index, :length] = dataset.token_ids[start : start + length]
        segment_ids[index, :length] = dataset.segment_ids[start : start + length]
        padding_mask[index, :length] = 1
    # A row of padding alone would leave attention nothing to attend to.
    padding_mask[len(rows) :, 0] = 1
    return {
        "token_ids": token_ids,
        "segment_ids": segment_ids,
        "padding_mask": padding_mask,
    }


def padding_share(lengths: np.ndarray, groups: list[Group]) -> float:
    """The share of padding in all tokens that the groups feed."""
    fed = sum(group.width * group.capacity for group in groups)
    return 1 - float(lengths.sum()) / fed
