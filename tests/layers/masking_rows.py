"""Rows to mask, and the arguments to mask them with."""

import numpy as np

NUM_TOKENS = 1000
PAD, UNK, CLS, SEP, MASK, UNUSED = 0, 100, 101, 102, 103, 999
SPECIAL = [PAD, UNK, CLS, SEP, MASK, UNUSED]
# As in BERT's vocabulary, about a fifth of the tokens continue a word.
CONTINUATION = (np.arange(NUM_TOKENS) % 5 == 4).tolist()
COMMON = {
    "vocabulary_size": NUM_TOKENS,
    "mask_token_id": MASK,
    "special_token_ids": SPECIAL,
    "mask_selection_length": 20,
}
WHOLE_WORDS = {**COMMON, "whole_word": True, "continuation": CONTINUATION}


def rows_of_text(num_rows, length, *, seed=0, full=False):
    """[CLS] tokens [SEP] tokens [SEP] padding, with special tokens here and there."""
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, NUM_TOKENS, (num_rows, length)).astype(np.int32)
    if full:
        token_ids[np.isin(token_ids, SPECIAL)] = 7
        ends = np.full(num_rows, length)
    else:
        ends = rng.integers(2, length + 1, num_rows)
        token_ids[np.arange(num_rows), ends // 2] = SEP
    token_ids[:, 0] = CLS
    token_ids[np.arange(num_rows), ends - 1] = SEP
    token_ids[np.arange(length) >= ends[:, None]] = PAD
    return token_ids


def numpy_of(outputs):
    return {name: np.asarray(value) for name, value in outputs.items()}
