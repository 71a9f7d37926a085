"""Training examples of a pretraining, unmasked, from tokenized documents.

Two kinds: pairs of segments for next-sentence prediction, as in BERT (Devlin et al.
2019, appendix A.2, https://arxiv.org/abs/1810.04805, and its reference
implementation, google-research/bert), and full-length runs of text without it, as the
FULL-SENTENCES of RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692). Python
runs once an example, NumPy does what is once a token.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kbert.data.tokenized_documents import TokenizedDocuments
from kbert.errors import ConfigError, DataError

_DRAWS = 4096


@dataclass(frozen=True)
class Examples:
    """Examples as flat columns.

    Attributes:
        token_ids: `[tokens]` int32, the examples one after the other, each with its
            [CLS] and [SEP]s.
        lengths: `[examples]` int64; tokens of each.
        first_lengths: `[examples]` int64; tokens of the first segment, its [CLS] and
            [SEP] included; all tokens where there is one segment.
        next_sentence_labels: `[examples]` int32; 1 where the second segment comes from
            another document, 0 where it follows the first or there is none.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    first_lengths: np.ndarray
    next_sentence_labels: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> np.ndarray:
        """`[examples]` int64; where each begins in `token_ids`."""
        return np.cumsum(self.lengths) - self.lengths

    def select(self, rows: np.ndarray) -> "Examples":
        """The examples with these numbers, in this order, copied."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        spans = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
        token_ids = [self.token_ids[start:end] for start, end in spans]
        return Examples(
            np.concatenate(token_ids) if token_ids else self.token_ids[:0].copy(),
            lengths,
            self.first_lengths[rows],
            self.next_sentence_labels[rows],
        )

    @staticmethod
    def concatenate(parts: Sequence["Examples"]) -> "Examples":
        """The examples of all parts, in order; of no part, none."""
        if not parts:
            return _no_examples()
        return Examples(
            np.concatenate([part.token_ids for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.first_lengths for part in parts]),
            np.concatenate([part.next_sentence_labels for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class ExampleRecipe:
    """How documents become examples.

    Attributes:
        max_length: most tokens of an example, [CLS] and [SEP]s included.
        next_sentence: pairs of segments; else packed runs of full length.
        short_rate: of pairs, the share of documents whose examples aim at a shorter
            length, drawn from 2 tokens to the longest.
        cls_id: the id of [CLS].
        sep_id: the id of [SEP].

    Raises:
        ConfigError: `max_length` leaves no room for text, or `short_rate` is no share.
    """

    max_length: int
    next_sentence: bool
    short_rate: float = 0.1
    cls_id: int
    sep_id: int

    def __post_init__(self) -> None:
        least = 5 if self.next_sentence else 3
        if self.max_length < least:
            kind = "of two segments" if self.next_sentence else "of one segment"
            raise ConfigError(
                f"max_length counts [CLS] and every [SEP] too: of an example {kind} it "
                f"must be at least {least}, received {self.max_length}."
            )
        if not 0 <= self.short_rate <= 1:
            raise ConfigError(
                f"short_rate is a share from 0 to 1, received {self.short_rate}."
            )

    @property
    def room(self) -> int:
        """Most tokens of text in an example."""
        return self.max_length - (3 if self.next_sentence else 2)


def build_examples(
    documents: TokenizedDocuments, recipe: ExampleRecipe, rng: np.random.Generator
) -> Examples:
    """Builds the examples of some documents.

    Pairs: a run of whole sentences of about the length aimed at is cut in two at
    random. Half of the time (always, where it is a single sentence) the second part is
    replaced by sentences of another of the documents, and the sentences that gave way
    begin the next example. Of a pair too long for `max_length`, the longer segment is
    shortened first, by tokens at its front or back at random.

    Packed: the documents one after the other, with a [SEP] between two, cut into runs
    of `max_length`; only the last may be shorter.

    Raises:
        DataError: pairs are wanted, and there is one document only.
    """
    if not len(documents):
        return _no_examples()
    if not recipe.next_sentence:
        return _pack(documents, recipe)
    if len(documents) == 1:
        raise DataError(
            "Next-sentence prediction needs two documents, so that a segment can come "
            "from another one; received one. Separate documents by blank lines, or set "
            "data.document=line, or train.next_sentence_weight=0."
        )
    pairs = _draw_pairs(documents, recipe, rng)
    return _assemble(pairs, documents.token_ids, recipe, rng)


def _no_examples() -> Examples:
    counts = np.zeros(0, np.int64)
    return Examples(np.zeros(0, np.int32), counts, counts, np.zeros(0, np.int32))


def _pack(documents: TokenizedDocuments, recipe: ExampleRecipe) -> Examples:
    between = documents.sentence_ends[documents.document_ends[:-1] - 1]
    text = np.insert(documents.token_ids, between, recipe.sep_id)
    room = recipe.room
    num_full = (len(text) - 1) // room
    rest = text[num_full * room :]
    rows = np.full((num_full + 1, room + 2), recipe.sep_id, np.int32)
    rows[:, 0] = recipe.cls_id
    rows[:-1, 1:-1] = text[: num_full * room].reshape(num_full, room)
    rows[-1, 1 : len(rest) + 1] = rest
    lengths = np.full(num_full + 1, room + 2, np.int64)
    lengths[-1] = len(rest) + 2
    token_ids = rows.reshape(-1)[: lengths.sum()]
    return Examples(token_ids, lengths, lengths, np.zeros(len(lengths), np.int32))


def _draw_pairs(
    documents: TokenizedDocuments, recipe: ExampleRecipe, rng: np.random.Generator
) -> np.ndarray:
    """Chooses the sentences of each pair.

    Returns:
        [pairs, 5] int64: start and end of the first segment, start and end of the
        second, in tokens and before shortening; the label.
    """
    bounds = [0, *documents.sentence_ends.tolist()]
    limits = documents.document_ends.tolist()
    firsts = [0, *limits[:-1]]
    draws = _uniform_draws(rng)

    def end_of_run(first: int, limit: int, num_tokens: int) -> int:
        """The sentence that reaches `num_tokens` is part of the run."""
        return bisect_left(bounds, bounds[first] + num_tokens, first + 1, limit)

    pairs = []
    for document, limit in enumerate(limits):
        first = firsts[document]
        target = recipe.room
        if next(draws) < recipe.short_rate:
            target = 2 + int(next(draws) * (recipe.room - 1))
        while first < limit:
            end = end_of_run(first, limit, target)
            middle = first + 1 + int(next(draws) * (end - first - 1))
            if middle < end and next(draws) < 0.5:
                pairs.append((first, middle, middle, end, 0))
                first = end
                continue
            other = int(next(draws) * (len(limits) - 1))
            other += other >= document
            begin, stop = firsts[other], limits[other]
            begin += int(next(draws) * (stop - begin))
            room_left = target - (bounds[middle] - bounds[first])
            stop = end_of_run(begin, stop, room_left)
            pairs.append((first, middle, begin, stop, 1))
            first = middle
    drawn = np.array(pairs, np.int64)
    drawn[:, :4] = np.array(bounds)[drawn[:, :4]]  # from sentences to tokens
    return drawn


def _uniform_draws(rng: np.random.Generator) -> Iterator[float]:
    """Numbers in [0, 1) without end; one by one, NumPy would be slow."""
    while True:
        yield from rng.random(_DRAWS).tolist()


def _assemble(
    pairs: np.ndarray,
    token_ids: np.ndarray,
    recipe: ExampleRecipe,
    rng: np.random.Generator,
) -> Examples:
    """Shortens the pairs drawn by `_draw_pairs` and copies their tokens."""
    starts, others = pairs[:, 0], pairs[:, 2]
    lengths, other_lengths = pairs[:, 1] - starts, pairs[:, 3] - others
    # What is left when a token after the other is taken off the longer segment, or
    # off the second where both are as long.
    half = recipe.room - recipe.room // 2
    kept = np.minimum(lengths, np.maximum(recipe.room - other_lengths, half))
    other_kept = np.minimum(other_lengths, recipe.room - kept)
    starts = starts + rng.binomial(lengths - kept, 0.5)
    others = others + rng.binomial(other_lengths - other_kept, 0.5)

    totals = kept + other_kept + 3
    ends = np.cumsum(totals)
    columns = np.full(totals.sum(), recipe.sep_id, np.int32)
    columns[ends - totals] = recipe.cls_id
    columns[_ranges(ends - totals + 1, kept)] = token_ids[_ranges(starts, kept)]
    columns[_ranges(ends - other_kept - 1, other_kept)] = token_ids[
        _ranges(others, other_kept)
    ]
    return Examples(columns, totals, kept + 2, pairs[:, 4].astype(np.int32))


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers from each start on, as many as its length, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
