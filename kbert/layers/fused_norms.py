"""Sum, dropout and LayerNorm in training on TensorFlow, in one pass each way.

Axes: D hidden.
"""

from typing import Any

import tensorflow as tf
from keras import ops

from kbert.layers.dropout import is_kept
from kbert.layers.fused import compiled
from kbert.layers.fused_products import column_sums


def add_norm(
    x: Any, y: Any, gamma: Any, beta: Any, seed: Any, *, rate: float, epsilon: float
) -> Any:
    """LayerNorm (Ba et al. 2016) of x + dropout(y), computed in float32.

    Its gradient is written out: TensorFlow's own takes a third longer.

    Args:
        x: `[..., D]`, as `y`.
        gamma: `[D]` float32, as `beta`.
        seed: of the dropout, `[2]` uint32.
        rate: share of the elements of `y` that are left out.
        epsilon: what is added to the variance.

    Returns:
        `[..., D]`, in the dtype of `x`; gradients are those of all but the seed.
    """
    numbers = {"rate": rate, "epsilon": epsilon}

    @tf.custom_gradient
    def normed(x: Any, y: Any, gamma: Any, beta: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any, Any, Any]:
            return _gradients(upstream, x, y, gamma, seed, **numbers)

        return _add_norm(x, y, gamma, beta, seed, **numbers), gradients

    # Variables become tensors, or their gradients would be asked for by name.
    return normed(*map(tf.convert_to_tensor, (x, y, gamma, beta)))


@compiled
def _add_norm(
    x: Any, y: Any, gamma: Any, beta: Any, seed: Any, *, rate: float, epsilon: float
) -> Any:
    centred, factor = _centred(x, y, _kept(y, seed, rate), epsilon)
    return tf.cast(centred * factor * gamma + beta, x.dtype)


@compiled
def _gradients(
    upstream: Any, x: Any, y: Any, gamma: Any, seed: Any, *, rate: float, epsilon: float
) -> tuple[Any, Any, Any, Any]:
    """Of x, y, gamma and beta."""
    kept = _kept(y, seed, rate)
    centred, factor = _centred(x, y, kept, epsilon)
    upstream = tf.cast(upstream, tf.float32)
    mean = _mean(upstream, gamma)
    slope = _mean(upstream * centred, gamma) * factor * factor
    of_sum = factor * (upstream * gamma - mean - centred * slope)
    return (
        tf.cast(of_sum, x.dtype),
        tf.cast(of_sum * kept, y.dtype),
        column_sums(upstream * (centred * factor)),
        column_sums(upstream),
    )


def _kept(y: Any, seed: Any, rate: float) -> Any:
    """By what dropout multiplies the elements."""
    if rate == 0:
        return tf.ones((), tf.float32)
    return tf.cast(is_kept(ops.shape(y), seed, rate), tf.float32) * (1 / (1 - rate))


def _centred(x: Any, y: Any, kept: Any, epsilon: float) -> tuple[Any, Any]:
    """The sum without its mean, and the inverse of its deviation `[..., 1]`."""
    total = tf.cast(x, tf.float32) + tf.cast(y, tf.float32) * kept
    ones = tf.ones(total.shape[-1:])
    centred = total - _mean(total, ones)
    return centred, tf.math.rsqrt(_mean(centred * centred, ones) + epsilon)


def _mean(x: Any, weights: Any) -> Any:
    """Of `x` times the weights `[D]` along the last axis: `[..., 1]`.

    On a CPU XLA sums a row in twice the time that a product with a column takes. A
    GPU's product may round its factors.
    """
    if tf.config.list_physical_devices("GPU"):
        return tf.reduce_mean(x * weights, axis=-1, keepdims=True)
    size = x.shape[-1]
    means = tf.matmul(tf.reshape(x, (-1, size)), weights[:, None] / size)
    return tf.reshape(means, tf.concat([tf.shape(x)[:-1], [1]], axis=0))
