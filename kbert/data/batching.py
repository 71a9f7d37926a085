"""Batches by length: which examples form a batch, and how it is laid out.

Examples are grouped by token count and padded to the width of their group, not
to the longest text of all. Every width has one shape, so that a compiler
compiles once a width. The order is a function of (seed, epoch) alone.

Axes: B rows of a batch, T tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from kbert.data.encoded import EncodedDataset

_WIDTH_MULTIPLE = 8
_MOST_WIDTHS = 16


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


@dataclass(frozen=True, eq=False)
class Groups(Sequence[Group]):
    """The groups of a data set, each made when it is asked for.

    Of ten million examples, a list of them would take longer than reading a batch.

    Attributes:
        rows: `[examples]` int64, the numbers of the examples, group after group.
        starts: `[groups]` int64; where each group begins in `rows`.
        ends: `[groups]` int64; where it ends.
        widths: `[groups]` int64; see `Group`.
        capacities: `[groups]` int64; see `Group`.
    """

    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    widths: np.ndarray
    capacities: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Group(
            self.rows[self.starts[index] : self.ends[index]],
            int(self.widths[index]),
            int(self.capacities[index]),
        )


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
        chosen_widths: the widths, rising; the widest is `max_length` or holds all
            examples. Without any, `widths` has some for every kind of text.
    """

    max_length: int
    batch_size: int = 32
    tokens_per_batch: int | None = None
    accumulation: int = 1
    chosen_widths: tuple[int, ...] = ()

    @property
    def widths(self) -> list[int]:
        """The widths in use, rising; finer where a token more weighs more."""
        if self.chosen_widths:
            return list(self.chosen_widths)
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
    ) -> Groups:
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
        buckets = self._buckets(lengths)
        rows = order[np.argsort(buckets[order], kind="stable")]
        starts, indices = self._cut(buckets, leave_over=rng is not None)
        widths = np.array(self.widths)
        if len(indices) < len(starts):
            longest = lengths[rows[starts[-1] :]].max()
            indices = np.append(indices, np.searchsorted(widths, longest))
        ends = np.append(starts, len(rows))[1:]
        numbers = np.arange(len(starts))
        if rng is not None:
            rng.shuffle(numbers)
        indices = indices[numbers]
        return Groups(
            rows,
            starts[numbers],
            ends[numbers],
            widths[indices],
            self._capacities[indices],
        )

    def num_shuffled_groups(self, lengths: np.ndarray) -> int:
        """How many groups these examples make in every epoch of every seed."""
        starts, _ = self._cut(self._buckets(lengths), leave_over=True)
        return len(starts)

    @property
    def _capacities(self) -> np.ndarray:
        """`[widths]`, the most examples of a group of each width."""
        rows = [self.rows_of(width) for width in self.widths]
        return np.array(rows) * self.accumulation

    def _buckets(self, lengths: np.ndarray) -> np.ndarray:
        """`[examples]`, the narrowest width that holds each, by its index."""
        by_length = np.searchsorted(self.widths, np.arange(lengths.max(initial=0) + 1))
        # Of 16 bits, as NumPy then sorts in linear time.
        return by_length.astype(np.uint16)[lengths]

    def _cut(
        self, buckets: np.ndarray, *, leave_over: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cuts the examples, in the order of their widths, into groups.

        Args:
            leave_over: whether those that fill no group of their width go to the next.

        Returns:
            Where each group begins, and the index of its width. Of the examples left
            over by all widths, the group has no such index: the longest decides.
        """
        counts = np.bincount(buckets, minlength=len(self.widths))
        assert len(counts) == len(self.widths), "the widest holds all examples"
        starts, indices = [], []
        begin = end = 0
        for index, capacity in enumerate(self._capacities.tolist()):
            end += int(counts[index])
            stop = end - (end - begin) % capacity if leave_over else end
            starts.append(np.arange(begin, stop, capacity))
            indices.append(np.full(len(starts[-1]), index))
            begin = stop
        if begin < end:  # A width that is narrower takes no fewer: it is one group.
            starts.append(np.array([begin]))
        return np.concatenate(starts), np.concatenate(indices)

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
    dataset.check_ids(token_ids, segment_ids)
    # A row of padding alone would leave attention nothing to attend to.
    padding_mask[len(rows) :, 0] = 1
    return {
        "token_ids": token_ids,
        "segment_ids": segment_ids,
        "padding_mask": padding_mask,
    }


def choose_widths(
    lengths: np.ndarray, max_length: int, *, most_padding: float = 0.04
) -> tuple[int, ...]:
    """The fewest widths with which little is padded, for a compiler's sake.

    Of each number of widths, those are taken that pad least: the shortest path over
    the multiples of 8, found by dynamic programming.

    Args:
        lengths: tokens of each example, at least one of them.
        max_length: the most there may be.
        most_padding: the share of padding in all tokens that is accepted. Batches that
            are not full add to it, and so may 16 widths, which is where it ends.
    """
    ends = np.minimum(
        np.arange(_WIDTH_MULTIPLE, max_length + _WIDTH_MULTIPLE, _WIDTH_MULTIPLE),
        max_length,
    )
    # The examples that fit into each width and not into the one before.
    of_length = np.bincount(lengths)
    buckets = np.searchsorted(ends, np.arange(len(of_length)))
    counts = np.bincount(buckets, weights=of_length, minlength=len(ends))
    ends = ends[: np.flatnonzero(counts)[-1] + 1]
    below = np.concatenate([[0], np.cumsum(counts)])[: len(ends) + 1]
    # [i, j]: tokens fed for what is longer than `ends[i - 1]`, at the width `ends[j]`.
    fed_for = (below[None, 1:] - below[:-1, None]) * ends[None, :].astype(np.float64)
    fed_for[np.tril_indices(len(ends), -1)] = np.inf
    accepted = lengths.sum() / (1 - most_padding)
    fed = fed_for[0]  # [j]: the fewest, with a width `ends[j]` as the last of them
    befores: list[np.ndarray] = []
    while fed[-1] > accepted and len(befores) < min(_MOST_WIDTHS, len(ends)) - 1:
        candidates = fed[:-1, None] + fed_for[1:]  # [i, j]: `ends[i]` comes before
        befores.append(candidates.argmin(axis=0))
        fed = candidates.min(axis=0)
    path = [len(ends) - 1]
    for before in reversed(befores):
        path.append(int(before[path[-1]]))
    return tuple(int(ends[index]) for index in reversed(path))


def padding_share(lengths: np.ndarray, groups: Iterable[Group]) -> float:
    """The share of padding in all tokens that the groups feed."""
    fed = sum(group.width * group.capacity for group in groups)
    return 1 - float(lengths.sum()) / fed
