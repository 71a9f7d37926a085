"""Which tokens of a row are taken, by random keys and a number of tokens.

Axes: B batch, T tokens.
"""

from typing import Any

import numpy as np
from keras import ops

# Behind the positions of a row.
NO_POSITION = np.int32(2**31 - 1)
_LAST_KEY = np.uint32(2**32 - 1)


def first_count(rate: float, slot: int) -> int:
    """The fewest selectable tokens of which slot `slot`, counted from 1, is used.

    Here and not in the graph, where a product of floats may round otherwise.
    """
    if slot == 1:
        return 1
    count = int((slot - 0.5) / rate) - 1
    while round(rate * count) < slot:
        count += 1
    return min(count, int(NO_POSITION))


def select_tokens(is_selectable: Any, keys: Any, budget: Any) -> Any:
    """The `budget` selectable tokens of the smallest keys, `[B, T]` bool."""
    keys = ops.where(is_selectable, keys, ops.convert_to_tensor(_LAST_KEY))
    last = ops.maximum(budget - 1, 0)[:, None]
    threshold = ops.take_along_axis(ops.sort(keys), last, axis=1)  # (B, 1)
    return ops.logical_and(is_selectable, keys <= threshold)


def select_words(is_selectable: Any, continues: Any, keys: Any, budget: Any) -> Any:
    """Whole words in the order of their keys while they fit, `[B, T]` bool.

    The greedy choice of `create_masked_lm_predictions` in google-research/bert. There,
    a `##` token behind a special one continues the word before that; here it begins a
    word of its own. Special tokens are not among those that continue.
    """
    nothing = ops.zeros_like(is_selectable[:, :1])
    follows = ops.concatenate([nothing, is_selectable[:, :-1]], axis=1)
    joins = ops.logical_and(continues, follows)
    begins = ops.logical_and(is_selectable, ops.logical_not(joins))
    is_joined = ops.concatenate([joins[:, 1:], nothing], axis=1)
    ends = ops.logical_and(is_selectable, ops.logical_not(is_joined))

    # (B, T) each, by the words' numbers in the row; T is more than there are words.
    first, last = positions_of(begins), positions_of(ends)
    is_word = ops.less(first, NO_POSITION)
    lengths = ops.where(is_word, last - first + 1, 0)
    keys = ops.take_along_axis(keys, ops.where(is_word, first, 0), axis=1)
    order = ops.argsort(ops.where(is_word, keys, ops.convert_to_tensor(_LAST_KEY)))
    taken = _take_while_fitting(ops.take_along_axis(lengths, order, axis=1), budget)
    taken = ops.take_along_axis(taken, ops.argsort(order), axis=1)
    word = ops.maximum(ops.cumsum(ops.cast(begins, "int32"), axis=1) - 1, 0)
    return ops.logical_and(is_selectable, ops.take_along_axis(taken, word, axis=1))


def _take_while_fitting(lengths: Any, budget: Any) -> Any:
    """Which of `lengths` `[B, T]`, one after the other, still fit `[B]`; bool.

    In each round all up to the first that does not fit are taken; what is longer than
    what is left then goes. A round or two are enough but for rare rows.
    """

    def goes_on(taken: Any, is_open: Any, left: Any) -> Any:
        return ops.any(is_open)

    def take_round(taken: Any, is_open: Any, left: Any) -> tuple[Any, Any, Any]:
        fits = ops.logical_and(is_open, lengths <= left[:, None])
        used = ops.cumsum(ops.where(fits, lengths, 0), axis=1)
        new = ops.logical_and(fits, used <= left[:, None])
        left = left - ops.sum(ops.where(new, lengths, 0), axis=1)
        is_open = ops.logical_and(fits, ops.logical_not(new))
        return ops.logical_or(taken, new), is_open, left

    is_open = ops.greater(lengths, 0)
    start = (ops.zeros_like(is_open), is_open, budget)
    return ops.while_loop(goes_on, take_round, start)[0]


def positions_of(is_there: Any) -> Any:
    """The positions of the true, rising, then `NO_POSITION`: `[B, T]` int32."""
    positions = ops.arange(ops.shape(is_there)[1], dtype="int32")
    return ops.sort(ops.where(is_there, positions[None, :], NO_POSITION))
