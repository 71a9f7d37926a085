"""The model's outputs for encoded examples, in their order."""

from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np

from kbert.data.batching import Batching, Group
from kbert.data.encoded import EncodedDataset


def predict_outputs(
    model: keras.Model,
    dataset: EncodedDataset,
    batching: Batching,
    pad_id: int,
    *,
    on_batch: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Runs the model over a data set, examples of like length together.

    Args:
        on_batch: told the examples and the tokens of each batch that is done.

    Returns:
        The outputs `[examples, ...]` float32, in the order of the data set.
    """
    results: np.ndarray | None = None
    for group in map(_without_most_padding, batching.groups(dataset.lengths)):
        for batch in batching.batches(dataset, group, pad_id):
            outputs = np.asarray(model.predict_on_batch(batch.features), np.float32)
            if results is None:
                results = np.empty((len(dataset), *outputs.shape[1:]), np.float32)
            results[batch.rows] = outputs[: len(batch.rows)]
            if on_batch is not None:
                on_batch(len(batch.rows), batch.num_tokens)
    assert results is not None, "an encoded data set is never empty"
    return results


def _without_most_padding(group: Group) -> Group:
    """The group with as few rows of padding as a power of two of rows allows.

    A single text shall not cost a whole batch, and yet a compiler meets few shapes.
    """
    rows = 1 << (len(group.rows) - 1).bit_length()
    return replace(group, capacity=min(rows, group.capacity))
