"""What a pretraining minimizes."""

from typing import Any

import keras
from keras import ops

from kbert.layers.fused import fused


@keras.saving.register_keras_serializable(package="kbert")
class CrossEntropyOfLogits(keras.losses.Loss):
    """Cross-entropy of classes told from logits; see `kbert.layers.fused`.

    As `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`.

    Input: true classes `[...]` and logits `[..., V]`; a loss `[...]` before it is
    reduced, in float32.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """See the class."""
        return _cross_entropy(ops.cast(y_true, "int32"), y_pred)


@fused
def _cross_entropy(classes: Any, logits: Any) -> Any:
    logits = ops.cast(logits, "float32")
    true = ops.one_hot(classes, logits.shape[-1], dtype="float32")
    return ops.logsumexp(logits, axis=-1) - ops.sum(true * logits, axis=-1)
