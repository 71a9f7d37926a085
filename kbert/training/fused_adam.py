"""Adam's update in one pass over memory, where the backend has a kernel for it.

Written with single operations, the update reads and writes every weight about a dozen
times; what one kernel gains is in benchmarks/RESULTS.md.
"""

from typing import Any

import keras
from keras import ops


def has_fused_adam() -> bool:
    """Whether `apply_adam` can be called: TensorFlow has such a kernel."""
    return keras.backend.backend() == "tensorflow"


def apply_adam(
    variable: Any,
    mean: Any,
    mean_square: Any,
    gradient: Any,
    *,
    step: Any,
    learning_rate: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Updates a weight and its two moments in place (Kingma & Ba 2015).

    The same as `keras.optimizers.Adam`: epsilon is added to the root of the mean
    square before its bias is corrected.

    Args:
        variable, mean, mean_square: variables of one shape and dtype.
        gradient: of that shape; the rows of a table are made a whole table.
        step: the number of this update, from 1.
        learning_rate: a number or a scalar tensor.
    """
    import tensorflow as tf

    def scalar(value: Any) -> Any:
        return tf.cast(value, variable.dtype)

    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(mean),
        v=_handle(mean_square),
        beta1_power=tf.pow(scalar(beta_1), scalar(step)),
        beta2_power=tf.pow(scalar(beta_2), scalar(step)),
        lr=scalar(learning_rate),
        beta1=scalar(beta_1),
        beta2=scalar(beta_2),
        epsilon=scalar(epsilon),
        grad=scalar(tf.convert_to_tensor(gradient)),
    )


def sum_of_squares(x: Any) -> Any:
    """Of all elements, a float32 scalar; on TensorFlow without an array of the squares.

    That array, written and read again, takes ten times as long as the sum.
    """
    x = ops.cast(x, "float32")
    if not has_fused_adam():
        return ops.sum(ops.square(x))
    import tensorflow as tf

    return 2.0 * tf.nn.l2_loss(x)


def _handle(variable: Any) -> Any:
    """Keras hands an optimizer its own variables or the backend's."""
    own = variable.value if isinstance(variable, keras.Variable) else variable
    return own.handle
