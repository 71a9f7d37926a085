"""Sum, dropout and norm in one pass, beside NumPy and beside single operations."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

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
