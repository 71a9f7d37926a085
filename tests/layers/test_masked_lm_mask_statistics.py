"""What the masks of a million tokens look like.

Seeds are fixed: the tests either always pass or always fail.
"""

from math import sqrt

import numpy as np
import pytest
import tensorflow as tf

from kbert.layers.masked_lm_mask import MaskedLMMask
from tests.layers.masking_rows import (
    COMMON,
    CONTINUATION,
    MASK,
    NUM_TOKENS,
    SPECIAL,
    WHOLE_WORDS,
    numpy_of,
    rows_of_text,
)


def assert_chi_square(counts, expected, *, variance=1.0):
    """The counts vary as much as chance has it, neither more nor less.

    Args:
        variance: of one count, in units of a Poisson count's.
    """
    freedom = counts.size - 1
    statistic = np.sum((counts - expected) ** 2 / (expected * variance))
    assert abs(statistic - freedom) < 5 * sqrt(2 * freedom)


def assert_share(count, total, share):
    """Five standard deviations of a binomial count."""
    assert abs(count - total * share) < 5 * sqrt(total * share * (1 - share))


@pytest.fixture(scope="module")
def million():
    """Rows, all 128 tokens long and full, and what becomes of them."""
    token_ids = rows_of_text(8192, 128, full=True, seed=3)
    layer = tf.function(MaskedLMMask(**COMMON, seed=1))
    return token_ids, numpy_of(layer(token_ids, np.arange(8192)))


def selected_of(token_ids, masked):
    """The selected positions, `[B, T]` bool, from positions and weights."""
    selected = np.zeros(token_ids.shape, bool)
    rows, slots = np.nonzero(masked["mask_weights"])
    positions = masked["mask_positions"][rows, slots]
    assert not selected[rows, positions].any()
    selected[rows, positions] = True
    assert selected.sum() == len(rows), "no position is twice a target"
    np.testing.assert_array_equal(
        masked["mask_ids"][rows, slots], token_ids[rows, positions]
    )
    np.testing.assert_array_equal(masked["token_ids"][~selected], token_ids[~selected])
    return selected


def test_fifteen_percent_are_selected(million):
    token_ids, masked = million
    assert token_ids.size > 1_000_000
    selected = selected_of(token_ids, masked)
    assert (selected.sum(axis=1) == 19).all()  # of 126
    assert not selected[np.isin(token_ids, SPECIAL)].any()


def test_fifteen_percent_of_rows_of_any_length_are_selected():
    token_ids = rows_of_text(12_000, 200, seed=4)
    arguments = COMMON | {"mask_selection_length": 30}
    layer = tf.function(MaskedLMMask(**arguments))
    masked = numpy_of(layer(token_ids, np.arange(12_000)))
    selected = selected_of(token_ids, masked)
    is_special = np.isin(token_ids, SPECIAL)
    assert (~is_special).sum() > 1_000_000
    assert not selected[is_special].any()
    assert selected.sum() / (~is_special).sum() == pytest.approx(0.15, abs=2e-4)


def test_every_position_is_selected_as_often(million):
    token_ids, masked = million
    counts = selected_of(token_ids, masked)[:, 1:-1].sum(axis=0)
    share = 19 / 126
    # Without replacement a count varies less than a Poisson count.
    variance = (1 - share) * 126 / 125
    assert_chi_square(counts, len(token_ids) * share, variance=variance)


def test_selections_of_neighbours_and_of_draws_are_independent(million):
    token_ids, masked = million
    selected = selected_of(token_ids, masked)[:, 1:-1]
    pair_share = 19 * 18 / (126 * 125)
    for distance in (1, 2, 16):
        pairs = selected[:, distance:] & selected[:, :-distance]
        assert_share(pairs.sum(), pairs.size, pair_share)
    for distance in (1, 2, 256):  # draws are as far apart as rows
        pairs = selected[distance:] & selected[:-distance]
        assert_share(pairs.sum(), pairs.size, (19 / 126) ** 2)


def test_eighty_ten_ten(million):
    token_ids, masked = million
    selected = selected_of(token_ids, masked)
    before, after = token_ids[selected], masked["token_ids"][selected]
    num_targets = len(before)
    num_masked = (after == MASK).sum()
    num_kept = (after == before).sum()
    # A random token may happen to be the one that stood there.
    chance = 0.1 / (NUM_TOKENS - len(SPECIAL))
    assert_share(num_masked, num_targets, 0.8)
    assert_share(num_kept, num_targets, 0.1 + chance)
    assert_share(num_targets - num_masked - num_kept, num_targets, 0.1 - chance)
    # As often at the front of a row as at its end.
    for part in (slice(0, 64), slice(64, 128)):
        became_mask = masked["token_ids"][:, part] == MASK
        assert_share(became_mask.sum(), selected[:, part].sum(), 0.8)


def test_random_tokens_are_uniform_over_those_that_are_not_special():
    token_ids = rows_of_text(2000, 128, full=True, seed=5)
    arguments = COMMON | {"mask_token_rate": 0.0, "random_token_rate": 1.0}
    masked = numpy_of(MaskedLMMask(**arguments)(token_ids, np.arange(2000)))
    selected = selected_of(token_ids, masked)
    counts = np.bincount(masked["token_ids"][selected], minlength=NUM_TOKENS)
    assert not counts[SPECIAL].any()
    ordinary = np.delete(counts, SPECIAL)
    assert_chi_square(ordinary, ordinary.mean())
    # And whatever stood there before.
    even = token_ids[selected] % 2 == 0
    again = np.bincount(masked["token_ids"][selected][even], minlength=NUM_TOKENS)
    again = np.delete(again, SPECIAL)
    assert_chi_square(again, again.mean())


def test_whole_words_stay_whole_and_within_the_number():
    token_ids = rows_of_text(8192, 128, seed=6)
    masked = numpy_of(
        tf.function(MaskedLMMask(**WHOLE_WORDS))(token_ids, np.arange(8192))
    )
    selected = selected_of(token_ids, masked)
    is_special = np.isin(token_ids, SPECIAL)
    assert not selected[is_special].any()
    # A token that continues its neighbour's word shares its fate.
    joins = np.array(CONTINUATION)[token_ids] & ~is_special
    joins[:, 1:] &= ~is_special[:, :-1]
    joins[:, 0] = False
    rows, columns = np.nonzero(joins)
    np.testing.assert_array_equal(selected[rows, columns], selected[rows, columns - 1])
    num_selectable = (~is_special).sum(axis=1)
    budget = np.clip(np.round(0.15 * num_selectable), 1, 20) * (num_selectable > 0)
    assert (selected.sum(axis=1) <= budget).all()
    assert selected.sum() > 0.99 * budget.sum()
