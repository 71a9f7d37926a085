"""Functions in one pass beside the same ones in single operations."""

import math

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kbert.layers.fused import fused, fused_gelu

X = np.linspace(-6, 6, 241, dtype="float32")


def exact(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def tanh_form(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("approximate", "formula"), [(True, tanh_form), (False, exact)]
)
def test_gelu_and_its_slope(approximate, formula):
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = fused_gelu(x, approximate=approximate)
    np.testing.assert_allclose(found, [formula(float(v)) for v in X], atol=2e-6)
    slopes = [(formula(v + 1e-5) - formula(v - 1e-5)) / 2e-5 for v in X.astype(float)]
    np.testing.assert_allclose(tape.gradient(found, x), slopes, atol=1e-5)


def test_half_precision_is_rounded_once():
    x = tf.cast(X, "bfloat16")
    found = fused_gelu(x, approximate=True)
    assert found.dtype == tf.bfloat16
    wide = [tanh_form(float(v)) for v in tf.cast(x, "float32")]
    expected = tf.cast(tf.constant(wide, "float32"), "bfloat16")
    # One digit of bfloat16 apart at most, where float32 rounds the other way.
    np.testing.assert_allclose(
        tf.cast(found, "float32"), tf.cast(expected, "float32"), rtol=2**-7, atol=1e-6
    )


@fused
def weighted(values, indices, weights):
    """Two arguments have gradients, the integers have none."""
    return ops.take(values, indices) * weights


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("in_xla", [False, True])
def test_gradients_of_the_float_arguments(in_graph, in_xla):
    values, weights = tf.constant([1.0, 2.0, 3.0]), tf.constant([10.0, 20.0])
    indices = tf.constant([2, 0])

    def run():
        with tf.GradientTape() as tape:
            tape.watch([values, weights])
            result = weighted(values, indices, weights)
        return result, *tape.gradient(result, [values, weights])

    if in_graph or in_xla:
        run = tf.function(run, jit_compile=in_xla)
    result, of_values, of_weights = run()
    assert result.numpy().tolist() == [30.0, 20.0]
    of_values = tf.convert_to_tensor(of_values).numpy().tolist()
    assert of_values == [20.0, 0.0, 10.0]
    assert of_weights.numpy().tolist() == [3.0, 1.0]
