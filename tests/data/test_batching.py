"""Batches by length: every example once, static shapes, an order by seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert.data.batching import Batching, choose_widths, padding_share
from kbert.data.encoded import EncodedDataset


def dataset_of(lengths: list[int]) -> EncodedDataset:
    """Example i holds the token id i + 1, `lengths[i]` times."""
    sizes = np.asarray(lengths)
    return EncodedDataset(
        name="numbers",
        token_ids=np.repeat(np.arange(1, len(sizes) + 1, dtype=np.int32), sizes),
        segment_ids=np.concatenate(
            [np.arange(size) >= size // 2 for size in sizes]
        ).astype(np.uint8),
        starts=np.cumsum(sizes) - sizes,
        lengths=sizes,
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 200), min_size=1, max_size=150),
    batch_size=st.integers(1, 9),
    tokens=st.none() | st.integers(64, 900),
    accumulation=st.integers(1, 4),
    seed=st.none() | st.integers(0, 5),
)
def test_every_example_once_in_a_width_that_holds_it(
    lengths, batch_size, tokens, accumulation, seed
):
    batching = Batching(200, batch_size, tokens, accumulation)
    groups = batching.groups(np.asarray(lengths), seed=seed)
    rows = np.concatenate([group.rows for group in groups])
    assert sorted(rows) == list(range(len(lengths)))
    for group in groups:
        assert max(lengths[row] for row in group.rows) <= group.width
        assert group.width in batching.widths
        assert group.capacity == batching.rows_of(group.width) * accumulation
    not_full = sum(len(group.rows) < group.capacity for group in groups)
    assert not_full <= (1 if seed is not None else len(batching.widths))
    if seed is None:
        for group in groups:
            narrower = [w for w in batching.widths if w < group.width]
            assert min(lengths[row] for row in group.rows) > max(narrower, default=0)


def reference_groups(batching: Batching, lengths, seed, epoch):
    """The groups as lists that are put together one by one."""
    rng = None if seed is None else np.random.default_rng([seed, epoch])
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    groups, left_over = [], []
    for index, width in enumerate(batching.widths):
        narrower = batching.widths[index - 1] if index else 0
        rows = left_over + [r for r in order if narrower < lengths[r] <= width]
        capacity = batching.rows_of(width) * batching.accumulation
        while len(rows) >= capacity or (rows and rng is None):
            groups.append((rows[:capacity], width, capacity))
            rows = rows[capacity:]
        left_over = rows
    if left_over:
        longest = max(lengths[row] for row in left_over)
        width = min(width for width in batching.widths if width >= longest)
        capacity = batching.rows_of(width) * batching.accumulation
        groups.append((left_over, width, capacity))
    if rng is not None:
        rng.shuffle(groups)
    return groups


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 200), min_size=1, max_size=150),
    batch_size=st.integers(1, 9),
    tokens=st.none() | st.integers(64, 900),
    accumulation=st.integers(1, 4),
    seed=st.none() | st.integers(0, 5),
    epoch=st.integers(0, 2),
)
def test_groups_are_those_of_the_rule(
    lengths, batch_size, tokens, accumulation, seed, epoch
):
    """Which a run that goes on relies on, whatever kbert began it."""
    batching = Batching(200, batch_size, tokens, accumulation)
    groups = batching.groups(np.asarray(lengths), seed=seed, epoch=epoch)
    expected = reference_groups(batching, lengths, seed, epoch)
    found = [(list(group.rows), group.width, group.capacity) for group in groups]
    assert found == expected
    assert [list(group.rows) for group in groups[1:3]] == [g[0] for g in found[1:3]]
    if seed is not None:
        assert batching.num_shuffled_groups(np.asarray(lengths)) == len(expected)


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(2, 250, 300)
    batching = Batching(256)

    def order(seed: int, epoch: int) -> list[int]:
        groups = batching.groups(lengths, seed=seed, epoch=epoch)
        return [int(row) for group in groups for row in group.rows]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert len(batching.groups(lengths, seed=1)) == len(
        batching.groups(lengths, seed=1, epoch=7)
    )


def test_accumulated_groups_hold_the_examples_of_one_large_batch():
    lengths = np.random.default_rng(0).integers(2, 250, 333)
    small = Batching(256, batch_size=8, accumulation=4).groups(lengths, seed=3)
    large = Batching(256, batch_size=32).groups(lengths, seed=3)
    assert [list(g.rows) for g in small] == [list(g.rows) for g in large]


def test_batch_layout():
    dataset = dataset_of([3, 5, 2])
    batching = Batching(16, batch_size=2)
    groups = batching.groups(dataset.lengths)
    first, second = [
        batch for group in groups for batch in batching.batches(dataset, group, 0)
    ]
    np.testing.assert_array_equal(first.rows, [0, 1])
    np.testing.assert_array_equal(
        first.features["token_ids"][:, :6], [[1, 1, 1, 0, 0, 0], [2, 2, 2, 2, 2, 0]]
    )
    np.testing.assert_array_equal(
        first.features["segment_ids"][:, :6], [[0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0]]
    )
    np.testing.assert_array_equal(first.features["padding_mask"].sum(axis=1), [3, 5])
    np.testing.assert_array_equal(first.weights, [1, 1])
    # The second has one example: its weight makes up for the row of padding.
    assert second.features["token_ids"].shape == (2, 16)
    np.testing.assert_array_equal(second.weights, [2, 0])
    np.testing.assert_array_equal(second.features["padding_mask"].sum(axis=1), [2, 1])


def test_weights_of_an_update_sum_to_its_rows():
    dataset = dataset_of([4] * 11)
    batching = Batching(16, batch_size=4, accumulation=4)
    (group,) = batching.groups(dataset.lengths, seed=0)
    batches = list(batching.batches(dataset, group, 0))
    assert len(batches) == 4
    assert sum(batch.weights.sum() for batch in batches) == pytest.approx(16)
    assert [len(batch.rows) for batch in batches] == [4, 4, 3, 0]


def test_token_budget_bounds_every_batch():
    lengths = np.random.default_rng(1).integers(2, 256, 500)
    batching = Batching(256, tokens_per_batch=2048)
    for group in batching.groups(lengths, seed=0):
        assert group.width * group.capacity <= 2048
        assert group.width * (group.capacity + 1) > 2048


def test_padding_stays_small_on_long_texts():
    # Lengths like IMDB's: lognormal with median 233, cut at 256.
    lengths = np.random.default_rng(2).lognormal(5.45, 0.6, 5000).astype(int)
    lengths = np.clip(lengths, 10, 256)
    batching = Batching(256)
    share = padding_share(lengths, batching.groups(lengths, seed=0))
    widest = 1 - lengths.sum() / (256 * len(lengths))
    assert share < 0.06 < widest


def fed_by(widths, lengths):
    """Tokens that are fed where every example is padded to the next width."""
    return sum(min(w for w in widths if w >= length) for length in lengths)


@pytest.mark.parametrize("most_padding", [0.1, 0.04])
def test_chosen_widths_are_the_fewest_that_do(most_padding):
    lengths = np.random.default_rng(0).gamma(3.0, 12.0, 300).astype(int) % 60 + 3
    widths = choose_widths(lengths, 64, most_padding=most_padding)
    allowed = lengths.sum() / (1 - most_padding)
    assert fed_by(widths, lengths) <= allowed or len(widths) == 8
    # Beside every choice there is: none with one width fewer, none better.
    for count in (len(widths) - 1, len(widths)):
        choices = itertools.combinations(range(8, 64, 8), count - 1)
        least = min(fed_by((*choice, 64), lengths) for choice in choices)
        if count < len(widths):
            assert least > allowed
        else:
            assert fed_by(widths, lengths) == least


@pytest.mark.parametrize(
    ("lengths", "max_length", "expected"),
    [([100] * 50, 100, (100,)), ([3], 512, (8,)), ([8] * 9 + [509], 510, (8, 510))],
)
def test_chosen_widths_of_few_lengths(lengths, max_length, expected):
    assert choose_widths(np.array(lengths), max_length) == expected


def test_batches_have_the_chosen_widths():
    lengths = np.arange(1, 61)
    batching = Batching(64, batch_size=4, chosen_widths=(24, 64))
    groups = batching.groups(lengths, seed=3)
    assert {group.width for group in groups} == {24, 64}
    assert sorted(np.concatenate([g.rows for g in groups])) == list(range(60))
    assert all((lengths[g.rows] <= g.width).all() for g in groups)
