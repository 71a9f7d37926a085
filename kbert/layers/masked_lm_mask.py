"""The masking that BERT learns from (Devlin et al. 2019, section 3.1).

What is masked is a function of (seed, draw, position) and nothing else: the random bits
are a hash of the three, so that a mask is the same on every backend, compiled or not,
whatever the other rows of the batch and however far the row is padded.

Axes: B batch, T tokens, P prediction slots, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.layers.random_bits import random_bits, shift_right, wrap
from kbert.layers.token_selection import (
    NO_POSITION,
    first_count,
    positions_of,
    select_tokens,
    select_words,
)

# What each random number decides.
_SELECTION, _ACTION, _REPLACEMENT = range(3)
# What a token is to the selection.
_SPECIAL, _BEGINS_WORD, _CONTINUES_WORD = range(3)
# Rates of actions are compared with the upper 24 bits of a hash.
_ACTION_BITS = 24


@keras.saving.register_keras_serializable(package="kbert")
class MaskedLMMask(keras.layers.Layer):
    """Hides some tokens of each row, for a masked-LM head to find.

    Of a row's selectable tokens, those that are not special, the share
    `mask_selection_rate` is selected, rounded, at least one and at most P. A selected
    token becomes [MASK] at `mask_token_rate`, a random token at `random_token_rate`,
    and else stays as it is. Names are those of keras-hub's `MaskedLMMaskGenerator`.

    Args:
        vocabulary_size: V. Token ids lie in `[0, V)`.
        mask_token_id: the id of [MASK].
        special_token_ids: never selected and never put in place of another token;
            padding is one of them. [MASK] always is.
        mask_selection_length: P, the slots of a row.
        mask_selection_rate: the share of the tokens, above 0 and below 1.
        mask_token_rate: the share of the selected tokens that become [MASK].
        random_token_rate: the share that become a random token, uniform over those
            that are not special.
        whole_word: select words, not tokens: in random order, as long as they fit into
            the row's number of tokens; a word that does not fit is passed over, also
            where nothing else is left.
        continuation: for each of V tokens, whether it continues a word (begins with
            `##`). Needed for `whole_word`.
        seed: of all that is random; 0 or more.

    Input: token ids `[B, T]` int, and optionally a number a row, `draws` `[B]` int,
    taken modulo 2**32. The same number masks the same text in the same way; another
    number, in another way. Without draws a counter hands them out, so that no two rows
    share one. A `tf.data` pipeline should pass draws: with parallel calls the counter
    follows no fixed order.

    Output: a dict of `token_ids` `[B, T]` int32, masked; `mask_positions` `[B, P]`
    int32, rising; `mask_ids` `[B, P]` int32, the tokens that stood there;
    `mask_weights` `[B, P]` float32, 1 for a used slot. All are 0 in the others.
    """

    def __init__(
        self,
        vocabulary_size: int,
        mask_token_id: int,
        *,
        special_token_ids: Sequence[int],
        mask_selection_length: int,
        mask_selection_rate: float = 0.15,
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        whole_word: bool = False,
        continuation: Sequence[bool] | np.ndarray | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.mask_token_id = mask_token_id
        self.special_token_ids = tuple(int(token) for token in special_token_ids)
        self.mask_selection_length = mask_selection_length
        self.mask_selection_rate = mask_selection_rate
        self.mask_token_rate = mask_token_rate
        self.random_token_rate = random_token_rate
        self.whole_word = whole_word
        self.continuation = (
            None if continuation is None else np.asarray(continuation, bool)
        )
        self.seed = seed
        self._check_arguments()
        self._kinds = self._kinds_of_tokens()  # (V,)
        self._replacements = np.flatnonzero(self._kinds != _SPECIAL).astype(np.int32)
        if not len(self._replacements):
            raise ValueError(
                "`special_token_ids` must leave a token that is not special."
            )
        slots = range(1, mask_selection_length + 1)
        self._first_counts = np.array(
            [first_count(mask_selection_rate, slot) for slot in slots], np.int32
        )  # (P,)
        self.counter = self.add_weight(
            name="counter",
            shape=(),
            dtype="uint32",
            initializer="zeros",
            trainable=False,
        )

    def call(self, token_ids, draws=None):  # type: ignore[no-untyped-def]
        """See the class."""
        token_ids = ops.cast(token_ids, "int32")
        batch, length = ops.shape(token_ids)
        if draws is None:
            draws = self._next_draws(batch)
        draws = wrap(ops.cast(draws, "uint32"))
        bits = random_bits(self.seed, draws, length)  # 3 of (B, T) uint32

        kinds = ops.take(ops.convert_to_tensor(self._kinds), token_ids, axis=0)
        is_selectable = ops.not_equal(kinds, _SPECIAL)  # (B, T)
        num_selectable = ops.sum(ops.cast(is_selectable, "int32"), axis=1)
        # (B, P): slot p is used from `first_counts[p]` selectable tokens on.
        first_counts = ops.convert_to_tensor(self._first_counts)
        is_used = num_selectable[:, None] >= first_counts[None, :]
        budget = ops.sum(ops.cast(is_used, "int32"), axis=1)  # (B,)
        if self.whole_word:
            continues = ops.equal(kinds, _CONTINUES_WORD)
            is_selected = select_words(
                is_selectable, continues, bits[_SELECTION], budget
            )
        else:
            is_selected = select_tokens(is_selectable, bits[_SELECTION], budget)

        masked = ops.where(is_selected, self._replace(token_ids, bits), token_ids)
        return {"token_ids": masked} | self._slots(token_ids, is_selected)

    def compute_output_spec(self, token_ids, draws=None):  # type: ignore[no-untyped-def]
        """The shapes and types of the class, whatever the policy."""
        slots = (token_ids.shape[0], self.mask_selection_length)
        return {
            "token_ids": keras.KerasTensor(token_ids.shape, dtype="int32"),
            "mask_positions": keras.KerasTensor(slots, dtype="int32"),
            "mask_ids": keras.KerasTensor(slots, dtype="int32"),
            "mask_weights": keras.KerasTensor(slots, dtype="float32"),
        }

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "mask_token_id": self.mask_token_id,
            "special_token_ids": list(self.special_token_ids),
            "mask_selection_length": self.mask_selection_length,
            "mask_selection_rate": self.mask_selection_rate,
            "mask_token_rate": self.mask_token_rate,
            "random_token_rate": self.random_token_rate,
            "whole_word": self.whole_word,
            "continuation": (
                None if self.continuation is None else self.continuation.tolist()
            ),
            "seed": self.seed,
        }

    def _check_arguments(self) -> None:
        rates = (self.mask_token_rate, self.random_token_rate)
        ids = [self.mask_token_id, *self.special_token_ids]
        if not 0.0 < self.mask_selection_rate < 1.0:
            raise ValueError(
                "`mask_selection_rate` must be above 0 and below 1: nothing to find, "
                "or nothing to find it from, teaches nothing. "
                f"Received: {self.mask_selection_rate}"
            )
        if min(rates) < 0.0 or sum(rates) > 1.0 + 1e-9:
            raise ValueError(
                "`mask_token_rate` and `random_token_rate` must be 0 or more, and 1 at "
                f"most together. Received: {rates[0]} and {rates[1]}"
            )
        if self.mask_selection_length < 1:
            raise ValueError(
                "`mask_selection_length` must be 1 or more. "
                f"Received: {self.mask_selection_length}"
            )
        if self.seed < 0:
            raise ValueError(f"`seed` must be 0 or more. Received: {self.seed}")
        if min(ids) < 0 or max(ids) >= self.vocabulary_size:
            raise ValueError(
                "`mask_token_id` and `special_token_ids` must lie in [0, "
                f"vocabulary_size), here [0, {self.vocabulary_size}). Received: {ids}"
            )
        if self.whole_word and self.continuation is None:
            raise ValueError(
                "`whole_word` needs `continuation`, for each token whether it begins "
                "with ##. Received: None"
            )
        num_entries = 0 if self.continuation is None else len(self.continuation)
        if self.continuation is not None and num_entries != self.vocabulary_size:
            raise ValueError(
                "`continuation` must have an entry a token of the vocabulary, here "
                f"{self.vocabulary_size}. Received: {num_entries}"
            )

    def _kinds_of_tokens(self) -> np.ndarray:
        kinds = np.full(self.vocabulary_size, _BEGINS_WORD, np.int32)
        if self.continuation is not None:
            kinds[self.continuation] = _CONTINUES_WORD
        kinds[[self.mask_token_id, *self.special_token_ids]] = _SPECIAL
        return kinds

    def _next_draws(self, batch: Any) -> Any:
        """A number a row, `[B]` uint32, that no row had before."""
        # Before the assignment: TensorFlow reads a variable when it is used.
        draws = self.counter + ops.cast(ops.arange(batch, dtype="int32"), "uint32")
        self.counter.assign(wrap(self.counter + ops.cast(batch, "uint32")))
        return draws

    def _replace(self, token_ids: Any, bits: Any) -> Any:
        """What each token becomes where it is selected, `[B, T]`."""
        action = ops.cast(shift_right(bits[_ACTION], 32 - _ACTION_BITS), "int32")
        mask_below = round(self.mask_token_rate * 2**_ACTION_BITS)
        random_below = mask_below + round(self.random_token_rate * 2**_ACTION_BITS)
        # The remainder favours some tokens by V / 2**32 at most.
        num_replacements = np.uint32(len(self._replacements))
        index = ops.mod(bits[_REPLACEMENT], ops.convert_to_tensor(num_replacements))
        replacements = ops.convert_to_tensor(self._replacements)
        random = ops.take(replacements, ops.cast(index, "int32"), axis=0)
        other = ops.where(action < random_below, random, token_ids)
        return ops.where(action < mask_below, self.mask_token_id, other)

    def _slots(self, token_ids: Any, is_selected: Any) -> dict[str, Any]:
        """Positions, tokens and weights of the selected, `[B, P]` each."""
        num_slots = self.mask_selection_length
        rising = positions_of(is_selected)
        # A row may have fewer tokens than there are slots.
        padding = ((0, 0), (0, num_slots))
        rising = ops.pad(rising, padding, constant_values=NO_POSITION)[:, :num_slots]
        is_used = ops.less(rising, NO_POSITION)
        rising = ops.where(is_used, rising, 0)
        found = ops.take_along_axis(token_ids, rising, axis=1)
        return {
            "mask_positions": rising,
            "mask_ids": ops.where(is_used, found, 0),
            "mask_weights": ops.cast(is_used, "float32"),
        }
