"""Holding a share of the training data out, by seed."""

import numpy as np


def stratified_split(
    label_ids: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits examples so that every class is held out by the same share.

    A class with a single example stays in training; of any other at least one
    example is held out and at least one is kept.

    Args:
        label_ids: `[examples]`, the class of each example.
        share: the share to hold out, in (0, 1).
        seed: the same seed gives the same split.

    Returns:
        The numbers of the examples kept and of those held out, both rising.
    """
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(label_ids), bool)
    for label_id in np.unique(label_ids):
        rows = np.flatnonzero(label_ids == label_id)
        if len(rows) > 1:
            count = min(max(1, round(share * len(rows))), len(rows) - 1)
            held_out[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
