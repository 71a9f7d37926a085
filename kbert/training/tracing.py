"""One trace of a model's steps for batches of all shapes."""

from collections.abc import Callable, Iterable
from typing import Any

import keras


def trace_for_any_shape(model: keras.Model) -> None:
    """Lets Keras's `train_on_batch` and `predict_on_batch` trace the model once.

    By itself Keras traces a step for the first batch's shape and again, for any, with
    the second: seconds that are lost. Where XLA compiles the step, which wants to know
    its shapes, and on other backends than TensorFlow, nothing is changed.

    Args:
        model: built; compiled, where it is to be trained.
    """
    if keras.backend.backend() != "tensorflow" or model.jit_compile:
        return
    if model.compiled:
        model.train_function = _of_any_shape(model.train_step)
    model.predict_function = _of_any_shape(model.predict_step)


def _of_any_shape(step: Callable[[Any], Any]) -> Callable[[Iterable[Any]], Any]:
    """What Keras calls with its batches, of which it gives one."""
    import tensorflow as tf

    traced: list[Any] = []

    def run(batches: Iterable[Any]) -> Any:
        (given,) = batches
        given = tuple(part for part in given if part is not None)
        batch = keras.tree.map_structure(tf.convert_to_tensor, given)
        if not traced:
            specs = keras.tree.map_structure(
                lambda x: tf.TensorSpec([None] * x.ndim, x.dtype), batch
            )
            traced.append(tf.function(step, [specs], autograph=False))
        return traced[0](batch)

    return run
