"""Sum, dropout and norm in one pass, beside NumPy and beside single operations."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers import add_norm, fused_norms
from kbert.layers.add_norm import AddNorm
from tests.layers import checks

SHAPE = (3, 4, 6)
RNG = np.random.default_rng(5)
X, Y = (RNG.normal(2.0, 3.0, SHAPE).astype("float32") for _ in range(2))


def build(dtype="float32", **arguments) -> AddNorm:
    layer = AddNorm(dtype=dtype, **({"epsilon": 1e-3} | arguments))
    layer.build(SHAPE)
    checks.randomize(layer)
    return layer


def numpy_norm(total, layer):
    gamma, beta = (np.array(w, np.float64) for w in (layer.gamma, layer.beta))
    centred = total - total.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + layer.epsilon)
    return centred / deviation * gamma + beta


@pytest.mark.parametrize("training", [False, True])
def test_numpy_agrees(training):
    layer = build()
    found = layer(X, Y, training=training)
    np.testing.assert_allclose(found, numpy_norm(X + Y, layer), atol=1e-5)


def test_gradients_are_those_of_single_operations():
    layer = build()
    weights = layer.trainable_weights
    expected, found = (
        checks.gradients(partial(layer, training=training), weights, [X, Y])
        for training in (False, True)
    )
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", *checks.HALF_PRECISIONS])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_gradients_of_one_pass_are_those_of_single_operations(policy, rate):
    dtype = keras.DTypePolicy(policy).compute_dtype
    x, y = (tf.cast(a, dtype) for a in (X, Y))
    gamma, beta = (tf.cast(w, "float32") for w in RNG.normal(size=(2, SHAPE[-1])))
    seed = tf.constant([1, 2], "uint32")

    # As in a training: shapes are not known until it is called.
    shapes = [tf.TensorSpec([None, None, SHAPE[-1]], dtype)] * 2

    def outputs_and_gradients(function):
        @tf.function(autograph=False, input_signature=shapes)
        def differentiate(x, y):
            inputs = [x, y, gamma, beta]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = function(*inputs, seed, rate=rate, epsilon=1e-3)
                score = tf.reduce_sum(tf.cast(outputs, "float32") * X)
            return outputs, *tape.gradient(score, inputs)

        return [np.array(a, "float32") for a in differentiate(x, y)]

    found = outputs_and_gradients(fused_norms.add_norm)
    expected = outputs_and_gradients(add_norm._add_norm)
    tolerance = 1e-5 if policy == "float32" else 2**-7
    for ours, theirs in zip(found, expected, strict=True):
        largest = np.abs(theirs).max()
        assert largest > 0.1
        np.testing.assert_allclose(ours / largest, theirs / largest, atol=tolerance)


def test_what_is_dropped_is_dropped_from_the_second_input_alone():
    layer = build(dropout=0.5)
    x = np.zeros(SHAPE, "float32")
    with tf.GradientTape() as tape:
        y = tf.constant(Y)
        tape.watch(y)
        outputs = layer(x, y, training=True)
    gradient = np.array(tape.gradient(outputs, y, output_gradients=tf.constant(X)))
    kept = gradient != 0
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(outputs, numpy_norm(kept * Y * 2.0, layer), atol=1e-5)


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
@pytest.mark.parametrize("training", [False, True])
def test_half_precision(policy, training):
    def call(layer):
        x, y = (tf.cast(a, layer.compute_dtype) for a in (X, Y))
        return layer(x, y, training=training)

    checks.assert_half_precision_is_close(policy, build(), build, call)


@pytest.mark.parametrize("training", [False, True])
def test_the_norms_weights_are_not_rounded(training):
    layer = build("mixed_bfloat16")
    layer.gamma.assign(np.full(SHAPE[-1], 1 + 2**-10, "float32"))
    layer.beta.assign(np.full(SHAPE[-1], 256.5, "float32"))  # 256 in bfloat16
    total = tf.cast([[-1.0, 1.0] * 3], "bfloat16")
    zeros = tf.zeros_like(total)
    found = np.array(tf.cast(layer(total, zeros, training=training), "float32"))
    np.testing.assert_array_equal(found, [[255.0, 258.0] * 3])  # else 256


def test_serializable():
    checks.assert_config_round_trip(build(dropout=0.2), lambda layer: layer(X, Y))
