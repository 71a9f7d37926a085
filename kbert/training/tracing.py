"""Which shapes of batches TensorFlow traces a model's steps for, and how often.

By itself Keras traces a step for the first batch's shape and again, for any shape, with
the second: seconds that are lost where there are many, and where there are two, a step
whose last digits depend on which of them came first. A training that was stopped has to
go on with the very same steps, and may begin at any shape.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras


def trace_for_any_shape(model: keras.Model) -> None:
    """Lets `train_on_batch` and `predict_on_batch` trace the model once.

    Where XLA compiles the step, which wants to know its shapes, and on other backends
    than TensorFlow, nothing is changed.

    Args:
        model: built; compiled, where it is to be trained.
    """
    _trace(model, any_shape=True)


def trace_for_each_shape(model: keras.Model) -> None:
    """Lets them trace the model once for each shape: for few shapes.

    As `trace_for_any_shape` in all else.
    """
    _trace(model, any_shape=False)


def _trace(model: keras.Model, *, any_shape: bool) -> None:
    if keras.backend.backend() != "tensorflow" or model.jit_compile:
        return
    if model.compiled:
        model.train_function = _traced(model.train_step, any_shape)
    model.predict_function = _traced(model.predict_step, any_shape)


def _traced(step: Callable[[Any], Any], any_shape: bool) -> Callable[[Any], Any]:
    """What Keras calls with its batches, of which it gives one."""
    import tensorflow as tf

    by_shapes: dict[Any, Any] = {}

    def run(batches: Iterable[Any]) -> Any:
        (given,) = batches
        given = tuple(part for part in given if part is not None)
        batch = keras.tree.map_structure(tf.convert_to_tensor, given)
        shapes = tuple(
            (None,) * x.ndim if any_shape else tuple(x.shape)
            for x in keras.tree.flatten(batch)
        )
        if shapes not in by_shapes:
            specs = keras.tree.map_structure(
                lambda x: tf.TensorSpec(
                    [None] * x.ndim if any_shape else x.shape, x.dtype
                ),
                batch,
            )
            by_shapes[shapes] = tf.function(step, [specs], autograph=False)
        return by_shapes[shapes](batch)

    return run
