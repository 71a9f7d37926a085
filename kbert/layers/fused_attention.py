"""Self-attention in training on TensorFlow, between its two products with weights.

Taken apart into single operations, what surrounds attention's products goes through
memory a dozen times each way, and takes three times as long as the products. Here it
is a few passes, and of the arrays of scores only the probabilities wait for the
backward pass.

Axes: B batch, T tokens, N heads, H head size, D hidden.
"""

import functools
import math
from typing import Any

import tensorflow as tf
from keras import ops

from kbert.layers.dropout import is_kept
from kbert.layers.fused import compiled, is_within_xla
from kbert.layers.fused_products import column_sums


def attend(
    projected: Any,
    bias: Any,
    padding_bias: Any,
    seed: Any,
    *,
    num_heads: int,
    dropout: float,
) -> Any:
    """Scaled dot-product attention (Vaswani et al. 2017, 3.2.1) with dropout.

    The gradient of the softmax takes the sum over a row from the output and its own
    gradient, as Dao et al. 2022 do (appendix B.2): the two sums are the same.

    Args:
        projected: query, key and value without their bias, `[B, T, 3 D]`.
        bias: theirs, `[3 D]`.
        padding_bias: what is added to the scores, `[B, 1, 1, T]`.
        seed: of the dropout, `[2]` uint32.
        num_heads: N.
        dropout: rate at which probabilities are left out.

    Returns:
        `[B, T, D]`; gradients are those of `projected` and `bias`.
    """
    scale = 1 / math.sqrt(projected.shape[-1] // 3 // num_heads)

    @tf.custom_gradient
    def attention(projected: Any, bias: Any) -> Any:
        # The value is divided by the share of what is kept, in place of what is kept.
        query, key, value = tf.unstack(
            _split(projected, bias, num_heads=num_heads, value_factor=1 / (1 - dropout))
        )  # (B, N, T, H)
        scores = tf.matmul(query, key, transpose_b=True)  # (B, N, T, T)
        probabilities = _softmax(_masked(scores, padding_bias, scale=scale))
        signed = _signed(probabilities, seed, rate=dropout)
        outputs = _joined(tf.matmul(_left(signed, signed), value))

        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_outputs, of_scaled_outputs, row_sums = _split_gradient(
                upstream, outputs, num_heads=num_heads, factor=1 / (1 - dropout)
            )
            of_left = tf.matmul(of_outputs, value, transpose_b=True)
            of_scores = _scores_gradient(of_left, signed, row_sums, scale=scale)
            left = _left(signed, of_left)
            of_parts = tf.stack(
                [
                    tf.matmul(of_scores, key),
                    tf.matmul(of_scores, query, transpose_a=True),
                    tf.matmul(left, of_scaled_outputs, transpose_a=True),
                ]
            )  # (3, B, N, T, H)
            of_projected = tf.reshape(
                tf.transpose(of_parts, (1, 3, 0, 2, 4)), tf.shape(projected)
            )
            return of_projected, column_sums(of_projected)

        return outputs, gradients

    # Variables become tensors, or their gradients would be asked for by name.
    return attention(*map(tf.convert_to_tensor, (projected, bias)))


@compiled
def _split(x: Any, bias: Any, *, num_heads: int, value_factor: float) -> Any:
    """`[B, T, 3 D]` -> query, key and value by head, `[3, B, N, T, H]`."""
    batch, length, width = tf.unstack(tf.shape(x))
    x = tf.cast(x, tf.float32) + tf.cast(bias, tf.float32)
    parts = tf.reshape(x, (batch, length, 3, num_heads, width // 3 // num_heads))
    factors = tf.constant([1.0, 1.0, value_factor])
    parts = parts * factors[:, None, None]
    return tf.cast(tf.transpose(parts, (2, 0, 3, 1, 4)), bias.dtype)


@compiled
def _split_gradient(
    upstream: Any, outputs: Any, *, num_heads: int, factor: float
) -> tuple[Any, Any, Any]:
    """The gradient of the outputs by head, the same times a factor, and row sums.

    `[B, T, D]` twice -> `[B, N, T, H]` twice, and of the outputs times their gradient
    `[B, N, T, 1]` float32.
    """
    batch, length, width = tf.unstack(tf.shape(upstream))

    def by_head(x: Any) -> Any:
        heads = tf.reshape(x, (batch, length, num_heads, width // num_heads))
        return tf.transpose(tf.cast(heads, tf.float32), (0, 2, 1, 3))

    wide = by_head(upstream)
    row_sums = tf.reduce_sum(wide * by_head(outputs), axis=-1, keepdims=True)
    narrow = upstream.dtype
    return tf.cast(wide, narrow), tf.cast(wide * factor, narrow), row_sums


def _joined(x: Any) -> Any:
    """`[B, N, T, H]` -> `[B, T, D]`."""
    batch, num_heads, length, head_dim = tf.unstack(tf.shape(x))
    return tf.reshape(
        tf.transpose(x, (0, 2, 1, 3)), (batch, length, num_heads * head_dim)
    )


@compiled
def _masked(scores: Any, padding_bias: Any, *, scale: float) -> Any:
    wide = tf.cast(scores, tf.float32) * scale + padding_bias
    # No row of padding only may become one of infinities, as it would in float16.
    return tf.cast(tf.maximum(wide, scores.dtype.min), scores.dtype)


def _softmax(x: Any) -> Any:
    """Along the last axis, computed in float32."""
    if x.dtype == tf.float32:
        return tf.nn.softmax(x)
    is_wide = not is_within_xla() and _softmax_is_wide(x.dtype)
    return tf.nn.softmax(x) if is_wide else _wide_softmax(x)


@compiled
def _wide_softmax(x: Any) -> Any:
    return tf.cast(tf.nn.softmax(tf.cast(x, tf.float32)), x.dtype)


@functools.cache
def _softmax_is_wide(dtype: tf.DType) -> bool:
    """Whether TensorFlow's softmax of half precision is computed in float32.

    oneDNN's is, and is twice as fast as one that casts; Eigen's and XLA's are not.
    """
    with tf.init_scope():
        x = tf.reshape(tf.linspace(-8.0, 8.0, 1024), (4, 256))
        narrow = tf.cast(x, dtype)
        wide = tf.cast(tf.nn.softmax(tf.cast(narrow, tf.float32)), dtype)
        return bool(tf.reduce_all(tf.nn.softmax(narrow) == wide))


# Below, choices are made with the numbers' bits: half precision is slow to multiply in
# XLA, and a hash is slow among numbers of another size.


@compiled
def _signed(x: Any, seed: Any, *, rate: float) -> Any:
    """`x`, of which no number is below 0, with a minus where dropout leaves it out."""
    x = tf.abs(x)  # what is no number may have a minus, too
    if rate == 0:
        return x
    bits = _bits_of(x)
    is_out = tf.cast(tf.logical_not(is_kept(ops.shape(x), seed, rate)), bits.dtype)
    minus = tf.bitwise.left_shift(is_out, _sign_position(bits.dtype))
    return tf.bitcast(tf.bitwise.bitwise_or(bits, minus), x.dtype)


@compiled
def _left(signed: Any, after: Any) -> Any:
    """What dropout leaves, as it is; zeros elsewhere.

    Args:
        signed: what `_signed` gives.
        after: what has to be there before, or TensorFlow would make in the forward pass
            what the backward pass wants, and let it wait.
    """
    return _kept_of(signed, signed)


@compiled
def _scores_gradient(of_left: Any, signed: Any, row_sums: Any, *, scale: float) -> Any:
    """Of the scores before scaling: backwards through dropout and softmax.

    Args:
        of_left: the gradient of what dropout left, `[B, N, T, T]`.
        signed: the probabilities, as `_signed` gives them.
        row_sums: `[B, N, T, 1]` float32; see `_split_gradient`.
    """
    centred = tf.cast(_kept_of(of_left, signed), tf.float32) - row_sums
    wide = tf.abs(tf.cast(signed, tf.float32)) * centred * scale
    return tf.cast(wide, signed.dtype)


def _kept_of(x: Any, signed: Any) -> Any:
    """`x` where `signed` has no minus, zero elsewhere."""
    bits = _bits_of(signed)
    is_out = tf.bitwise.right_shift(bits, _sign_position(bits.dtype))
    mask = is_out - tf.ones((), bits.dtype)  # all bits where it was kept, or none
    return tf.bitcast(tf.bitwise.bitwise_and(_bits_of(x), mask), x.dtype)


def _bits_of(x: Any) -> Any:
    return tf.bitcast(x, {2: tf.uint16, 4: tf.uint32, 8: tf.uint64}[x.dtype.size])


def _sign_position(dtype: tf.DType) -> Any:
    return tf.constant(8 * dtype.size - 1, dtype)
