"""The model's outputs for encoded examples, in their order."""

import keras
import numpy as np

from kbert.data.batching import Batching
from kbert.data.encoded import EncodedDataset


def predict_outputs(
    model: keras.Model, dataset: EncodedDataset, batching: Batching, pad_id: int
) -> np.ndarray:
    """Runs the model over a data set, examples of like length together.

    Returns:
        The outputs `[examples, ...]` float32, in the order of the data set.
    """
    results: np.ndarray | None = None
    for group in batching.groups(dataset.lengths):
        for batch in batching.batches(dataset, group, pad_id):
            outputs = np.asarray(model.predict_on_batch(batch.features), np.float32)
            if results is None:
                results = np.empty((len(dataset), *outputs.shape[1:]), np.float32)
            results[batch.rows] = outputs[: len(batch.rows)]
    assert results is not None, "an encoded data set is never empty"
    return results
