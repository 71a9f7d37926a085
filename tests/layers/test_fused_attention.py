"""Attention in few passes beside the same one in single operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers import MultiHeadAttention, fused_attention
from tests.layers import checks

BATCH, LENGTH, HIDDEN, HEADS = 3, 7, 24, 3
X = np.random.default_rng(1).normal(size=(BATCH, LENGTH, HIDDEN)).astype("float32")
MASK = (np.arange(LENGTH) < np.array([[7], [4], [1]])).astype("int32")


def outputs_and_gradients(
    policy: str, dropout: float, *, fused: bool, mask=MASK, jit_compile: bool = False
):
    """Of a layer in training: with the probabilities it computes in single steps."""
    keras.utils.set_random_seed(3)
    layer = MultiHeadAttention(HEADS, dropout=dropout, dtype=policy)
    layer.build(X.shape)
    checks.randomize(layer)
    weights = [weight.value for weight in layer.trainable_weights]
    # As in a training: shapes are not known until it is called.
    shapes = [tf.TensorSpec([None, None, HIDDEN])]

    @tf.function(
        autograph=False,
        input_signature=None if jit_compile else shapes,
        jit_compile=jit_compile,
    )
    def differentiate(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = layer(
                x, padding_mask=mask, training=True, return_attention_scores=not fused
            )
            outputs = result if fused else result[0]
            score = tf.reduce_sum(tf.cast(outputs, "float32") * tf.cos(x))
        return outputs, *tape.gradient(score, [x, *weights])

    return [np.array(y, "float32") for y in differentiate(tf.constant(X))]


@pytest.mark.parametrize("policy", ["float32", *checks.HALF_PRECISIONS])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("mask", [MASK, None], ids=["padding", "no padding"])
def test_single_operations_agree(policy, dropout, mask):
    found = outputs_and_gradients(policy, dropout, fused=True, mask=mask)
    expected = outputs_and_gradients(policy, dropout, fused=False, mask=mask)
    tolerance = checks.HALF_PRECISIONS.get(policy, 1e-6)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(theirs).max() > 0.1
        largest = np.abs(theirs).max()
        np.testing.assert_allclose(ours / largest, theirs / largest, atol=tolerance)


def test_xla_compiles_it():
    found = outputs_and_gradients("float32", 0.5, fused=True, jit_compile=True)
    expected = outputs_and_gradients("float32", 0.5, fused=False)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", *checks.HALF_PRECISIONS])
def test_a_row_of_padding_only_stays_finite(policy):
    empty = np.zeros_like(MASK)
    for numbers in outputs_and_gradients(policy, 0.1, fused=True, mask=empty):
        assert np.isfinite(numbers).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_softmax_of_half_precision_is_rounded_once(dtype, jit_compile, monkeypatch):
    x = tf.cast(np.random.default_rng(0).normal(size=(4, 300)) * 4, dtype)
    expected = tf.nn.softmax(tf.cast(x, "float32"))
    for is_wide in (fused_attention._softmax_is_wide, lambda dtype: False):
        monkeypatch.setattr(fused_attention, "_softmax_is_wide", is_wide)
        found = tf.function(
            lambda x: tf.function(fused_attention._softmax, autograph=False)(x),
            jit_compile=jit_compile,
            autograph=False,
        )(x)
        assert found.dtype == dtype
        error = np.abs(np.array(found, "float32") - expected)
        assert np.all(error <= 2**-8 * np.array(expected) + 1e-7)


@pytest.mark.parametrize("policy", ["float32", *checks.HALF_PRECISIONS])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_what_is_no_number_stays_so(policy, dropout):
    # As a processor makes it: with a minus.
    nan = np.float32(np.inf) - np.float32(np.inf)
    dtype = keras.DTypePolicy(policy).compute_dtype
    x = tf.cast(tf.where(tf.ones((4, 8), bool), -tf.constant(nan), 0.0), dtype)
    seed = tf.constant([1, 2], "uint32")
    signed = fused_attention._signed(x, seed, rate=dropout)
    left = np.array(fused_attention._left(signed, signed), "float32")
    share = np.isnan(left).mean()
    assert share == 1 if dropout == 0 else 0.2 < share < 0.8
