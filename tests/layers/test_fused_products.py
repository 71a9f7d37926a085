"""Products whose neighbours are joined, beside the same ones in single operations."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

from kbert.layers.fused_products import add_bias, column_sums, gelu_product, product

ROWS, INNER = 30, 12
RANDOM = np.random.default_rng(0)
X, BIAS = RANDOM.normal(size=(ROWS, INNER)) * 3, RANDOM.normal(size=INNER)


def exact(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def tanh_form(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def slope(formula, x):
    return (formula(x + 1e-5) - formula(x - 1e-5)) / 2e-5


def run(function, tensors, upstream, how):
    def differentiate(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = function(*tensors)
        return result, *tape.gradient(result, tensors, output_gradients=upstream)

    if how == "graph":
        shapes = [tf.TensorSpec([None, INNER])]
        shapes += [tf.TensorSpec(x.shape) for x in tensors[1:]]
        differentiate = tf.function(
            differentiate, autograph=False, input_signature=shapes
        )
    elif how == "XLA":
        differentiate = tf.function(differentiate, autograph=False, jit_compile=True)
    return differentiate(*(tf.constant(x, "float32") for x in tensors))


@pytest.mark.parametrize("how", ["eager", "graph", "XLA"])
@pytest.mark.parametrize("columns", [4, 20], ids=["narrow", "wide"])
def test_product(how, columns):
    kernel = RANDOM.normal(size=(INNER, columns))
    upstream = RANDOM.normal(size=(ROWS, columns))
    expected = X @ kernel, upstream @ kernel.T, X.T @ upstream
    found = run(product, (X, kernel), upstream.astype("float32"), how)
    for ours, numbers in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, numbers, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["eager", "graph", "XLA"])
@pytest.mark.parametrize("columns", [4, 20], ids=["narrow", "wide"])
@pytest.mark.parametrize(
    ("approximate", "formula"), [(True, tanh_form), (False, exact)]
)
def test_gelu_product(how, columns, approximate, formula):
    kernel = RANDOM.normal(size=(INNER, columns))
    upstream = RANDOM.normal(size=(ROWS, columns))
    left = formula(X + BIAS)
    of_x = upstream @ kernel.T * slope(formula, X + BIAS)
    expected = left @ kernel, of_x, of_x.sum(0), left.T @ upstream
    found = run(
        lambda *tensors: gelu_product(*tensors, approximate=approximate),
        (X, BIAS, kernel),
        upstream.astype("float32"),
        how,
    )
    for ours, numbers in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, numbers, rtol=1e-4, atol=1e-4)


def test_half_precision_is_rounded_once():
    x, bias = (tf.cast(y, "bfloat16") for y in (X, BIAS))
    found = gelu_product(x, bias, tf.eye(INNER, dtype="bfloat16"), approximate=True)
    assert found.dtype == tf.bfloat16
    wide = np.array(x, "float32").astype(float) + np.array(bias, "float32")
    expected = tf.cast(tanh_form(wide), "bfloat16")
    # One digit of bfloat16 apart at most, where float32 rounds the other way.
    np.testing.assert_allclose(
        np.array(found, "float32"), np.array(expected, "float32"), rtol=2**-7, atol=1e-6
    )


@pytest.mark.parametrize("how", ["eager", "graph", "XLA"])
def test_bias(how):
    upstream = RANDOM.normal(size=X.shape)
    expected = X + BIAS, upstream, upstream.sum(0)
    found = run(add_bias, (X, BIAS), upstream.astype("float32"), how)
    for ours, numbers in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, numbers, rtol=1e-5, atol=1e-5)


def test_column_sums():
    found = column_sums(tf.constant(X.reshape(5, 6, INNER), "float32"))
    np.testing.assert_allclose(found, X.sum(0), rtol=1e-5, atol=1e-5)


def test_what_gelu_gives_does_not_wait_for_the_gradient():
    @tf.function(autograph=False)
    def step(x, bias, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, bias, kernel])
            result = gelu_product(x, bias, kernel, approximate=True)
        return tape.gradient(result, [x, bias, kernel])

    shapes = (2, 3), (3,), (3, 4)
    graph = step.get_concrete_function(*map(tf.ones, shapes)).graph
    calls = [op for op in graph.get_operations() if "PartitionedCall" in op.type]
    forward, backward = calls
    (left,) = forward.outputs
    assert [op.type for op in left.consumers()] == ["MatMul"]
    again, _ = backward.outputs
    assert [op.type for op in again.consumers()] == ["MatMul"]
