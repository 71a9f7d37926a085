"""The model's outputs for encoded examples, in their order."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import keras
import numpy as np

from kbert.data.batching import Batch, Batching, Group
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
    for batch, outputs in predict_batches(model, dataset, batching, pad_id):
        if results is None:
            results = np.empty((len(dataset), *outputs.shape[1:]), np.float32)
        results[batch.rows] = outputs
        if on_batch is not None:
            on_batch(len(batch.rows), batch.num_tokens)
    assert results is not None, "an encoded data set is never empty"
    return results


def predict_batches(
    model: keras.Model, dataset: EncodedDataset, batching: Batching, pad_id: int
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Runs the model over a data set; each batch with the outputs of its examples.

    Yields:
        The batch, and outputs `[rows of examples, ...]` float32, without padding rows.
    """
    for group in map(_without_most_padding, batching.groups(dataset.lengths)):
        for batch in batching.batches(dataset, group, pad_id):
            outputs = np.asarray(model.predict_on_batch(batch.features), np.float32)
            yield batch, outputs[: len(batch.rows)]


def _without_most_padding(group: Group) -> Group:
    """The group with as few rows of padding as a power of two of rows allows.

    A single text shall not cost a whole batch, and yet a compiler meets few shapes.
    """
    rows = 1 << (len(group.rows) - 1).bit_length()
    return replace(group, capacity=min(rows, group.capacity))
