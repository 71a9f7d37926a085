"""Attention beside NumPy's and Keras's, with padding; its gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers import MultiHeadAttention, attention
from tests.layers import checks, reference

BATCH, LENGTH, HIDDEN, HEADS = 3, 7, 12, 3
X = np.random.default_rng(1).normal(size=(BATCH, LENGTH, HIDDEN)).astype("float32")
MASK = (np.arange(LENGTH) < np.array([[7], [4], [1]])).astype("int32")


def build(dtype: str = "float32", **arguments) -> MultiHeadAttention:
    layer = MultiHeadAttention(HEADS, dtype=dtype, **arguments)
    layer.build(X.shape)
    checks.randomize(layer)
    return layer


@pytest.fixture(scope="module")
def layer() -> MultiHeadAttention:
    return build()


def call(layer, x=X):
    return layer(x, padding_mask=MASK, return_attention_scores=True)


def test_numpy_agrees(layer):
    weights = list(checks.numpy_weights(layer).values())
    expected, expected_scores = reference.attention(X, MASK, weights, HEADS)
    found, scores = call(layer)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    without_scores = layer(X, padding_mask=MASK)
    np.testing.assert_array_equal(without_scores, found)


def keras_twin(layer) -> keras.layers.MultiHeadAttention:
    twin = keras.layers.MultiHeadAttention(HEADS, HIDDEN // HEADS)
    twin.build(X.shape, X.shape)
    kernel, bias, output_kernel, output_bias = layer.get_weights()
    split = (HIDDEN, 3, HEADS, HIDDEN // HEADS)
    kernels = kernel.reshape(split).transpose(1, 0, 2, 3)
    biases = bias.reshape(split[1:])
    pairs = [value for pair in zip(kernels, biases, strict=True) for value in pair]
    output = output_kernel.reshape(HEADS, -1, HIDDEN)
    twin.set_weights([*pairs, output, output_bias])
    return twin


@pytest.mark.parametrize("mask", [MASK, None], ids=["padding", "no padding"])
@pytest.mark.parametrize("with_scores", [True, False])
def test_keras_agrees_in_values_and_gradients(layer, mask, with_scores):
    twin = keras_twin(layer)
    keras_mask = None if mask is None else mask[:, None, :]

    def ours(x):
        return layer(x, padding_mask=mask, return_attention_scores=with_scores)

    def theirs(x):
        return twin(
            x, x, attention_mask=keras_mask, return_attention_scores=with_scores
        )

    pairs = zip(checks.numpy_of(ours(X)), checks.numpy_of(theirs(X)), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    found = checks.gradients(ours, layer.trainable_weights, [X])
    dx, *rest = checks.gradients(theirs, twin.trainable_weights, [X])
    kernels = [kernel.reshape(HIDDEN, HIDDEN) for kernel in rest[0:6:2]]
    biases = [bias.reshape(HIDDEN) for bias in rest[1:6:2]]
    expected = [
        dx,
        np.concatenate(kernels, axis=1),
        np.concatenate(biases),
        rest[6].reshape(HIDDEN, HIDDEN),
        rest[7],
    ]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_every_weight_learns(layer):
    checks.assert_every_weight_learns(layer, lambda: call(layer)[0])


def test_padding_is_without_influence(layer):
    changed = np.where(MASK[..., None], X, X + 100.0)
    at_tokens = MASK[..., None].astype("float32")

    def of_tokens(x):
        return layer(x, padding_mask=MASK) * at_tokens

    np.testing.assert_array_equal(of_tokens(changed), of_tokens(X))
    expected = checks.gradients(of_tokens, layer.trainable_weights, [X])
    found = checks.gradients(of_tokens, layer.trainable_weights, [changed])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.all(expected[0][MASK == 0] == 0.0)
    assert np.all(np.abs(expected[0][MASK == 1]).max(axis=-1) > 0.0)


def some_of(x):
    """The inputs of three tokens of each row, one of them twice."""
    return tf.gather(x, [4, 0, 4], axis=1)


@pytest.mark.parametrize("policy", ["float32", *checks.HALF_PRECISIONS])
def test_tokens_that_ask_alone_get_what_they_get_among_all(policy):
    layer = build(policy)
    tolerance = {"atol": checks.HALF_PRECISIONS.get(policy, 1e-6), "rtol": 1e-5}

    def of_some(x):
        outputs, scores = layer(
            x, padding_mask=MASK, queries=some_of(x), return_attention_scores=True
        )
        assert outputs.dtype == scores.dtype == layer.compute_dtype
        return outputs, scores

    def among_all(x):
        outputs, scores = call(layer, x)
        return some_of(outputs), tf.gather(scores, [4, 0, 4], axis=2)

    pairs = [(of_some(X), among_all(X))]
    if policy == "float32":
        both = (
            checks.gradients(f, layer.trainable_weights, [X])
            for f in (of_some, among_all)
        )
        pairs.append(tuple(both))
    for found, expected in pairs:
        for ours, theirs in zip(found, expected, strict=True):
            ours, theirs = (np.array(y, "float32") for y in (ours, theirs))
            np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("policy", ["float32", *checks.HALF_PRECISIONS])
def test_a_row_of_padding_only_stays_finite(policy):
    layer = build(policy)
    outputs, scores = layer(
        X, padding_mask=np.zeros_like(MASK), return_attention_scores=True
    )
    assert np.isfinite(checks.numpy_of([outputs, scores])[0]).all()
    np.testing.assert_allclose(np.array(scores, "float32").sum(-1), 1.0, atol=0.02)


@pytest.mark.parametrize("kind", [bool, "float32", "int64", "uint8"])
def test_masks_of_any_kind(layer, kind):
    expected = layer(X, padding_mask=MASK)
    np.testing.assert_array_equal(layer(X, padding_mask=MASK.astype(kind)), expected)


def test_dropout_leaves_out_probabilities_in_training_only():
    layer = build(dropout=0.5)
    plain = build()
    plain.set_weights(layer.get_weights()[:4])
    np.testing.assert_array_equal(layer(X), plain(X))
    first, scores = layer(X, return_attention_scores=True, training=True)
    second = layer(X, training=True)
    assert np.abs(np.array(first) - np.array(second)).max() > 0.01
    # What is returned are the probabilities before the dropout.
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1.0, atol=1e-5)
    many = layer(np.repeat(X[:1], 20_000, axis=0), training=True)
    np.testing.assert_allclose(np.mean(many, axis=0), plain(X)[0], atol=0.05)


def test_serializable(layer, tmp_path):
    checks.assert_config_round_trip(build(dropout=0.2), call)
    inputs = [keras.Input((None, HIDDEN)), keras.Input((None,), dtype="int32")]
    outputs = layer(inputs[0], padding_mask=inputs[1], return_attention_scores=True)
    assert [y.shape for y in outputs] == [
        (None, None, HIDDEN),
        (None, HEADS, None, None),
    ]
    model = keras.Model(inputs, outputs)
    checks.assert_model_is_saved_whole(model, [X, MASK], tmp_path)


def test_symbolic_shapes_of_some_tokens(layer):
    inputs = keras.Input((None, HIDDEN), batch_size=BATCH)
    outputs, scores = layer(
        inputs, queries=keras.Input((2, HIDDEN)), return_attention_scores=True
    )
    assert outputs.shape == (None, 2, HIDDEN)
    assert scores.shape == (BATCH, HEADS, 2, None)
    assert layer.compute_output_shape(X.shape, (3, 2, HIDDEN)) == (3, 2, HIDDEN)


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
def test_half_precision(layer, policy, monkeypatch):
    dtypes = []

    def softmax(x, axis):
        dtypes.append(x.dtype)
        return keras.ops.softmax(x, axis=axis)

    spy = type("Spy", (), {"__getattr__": lambda _, name: getattr(keras.ops, name)})()
    spy.softmax = softmax
    monkeypatch.setattr(attention, "ops", spy)
    checks.assert_half_precision_is_close(policy, layer, build, call)
    assert dtypes
    assert set(dtypes) == {tf.float32}


def test_xla(layer):
    checks.assert_xla_agrees(lambda: call(layer))
    trained = build(dropout=0.3)
    step = tf.function(lambda: trained(X, MASK, training=True), jit_compile=True)
    assert np.isfinite(step()).all()


def test_shapes_unknown_until_called(layer):
    signature = [
        tf.TensorSpec((None, None, HIDDEN)),
        tf.TensorSpec((None, None), tf.int32),
    ]
    traced = tf.function(
        lambda x, mask: layer(x, padding_mask=mask), input_signature=signature
    )
    np.testing.assert_allclose(traced(X, MASK), layer(X, MASK), atol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"multiple of `num_heads`.*12.*num_heads=5"):
        MultiHeadAttention(5).build(X.shape)
    with pytest.raises(ValueError, match=r"at least 1. Received: 0"):
        MultiHeadAttention(0)
    with pytest.raises(ValueError, match=r"below 1. Received: 1.0"):
        MultiHeadAttention(3, dropout=1.0).build(X.shape)
