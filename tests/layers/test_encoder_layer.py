"""The encoder layer beside NumPy; padding, gradients, saving, precision, XLA."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers import EncoderLayer
from tests.layers import checks, reference

BATCH, LENGTH, HIDDEN, HEADS, INNER = 2, 5, 8, 2, 12
X = np.random.default_rng(2).normal(size=(BATCH, LENGTH, HIDDEN)).astype("float32")
MASK = (np.arange(LENGTH) < np.array([[5], [3]])).astype("int32")


def build(dtype: str = "float32", **arguments) -> EncoderLayer:
    layer = EncoderLayer(HEADS, INNER, dtype=dtype, **({"dropout": 0.0} | arguments))
    layer.build(X.shape)
    checks.randomize(layer)
    return layer


@pytest.fixture(scope="module")
def layer() -> EncoderLayer:
    return build()


def call(layer):
    return layer(X, padding_mask=MASK)


@pytest.mark.parametrize("approximate_gelu", [True, False])
def test_numpy_agrees(approximate_gelu):
    layer = build(approximate_gelu=approximate_gelu, layer_norm_epsilon=1e-3)
    expected = reference.encoder_layer(
        X,
        MASK,
        list(checks.numpy_weights(layer).values()),
        num_heads=HEADS,
        approximate_gelu=approximate_gelu,
        epsilon=1e-3,
    )
    np.testing.assert_allclose(call(layer), expected, atol=1e-5)


def test_every_weight_learns(layer):
    assert len(layer.trainable_weights) == 12
    checks.assert_every_weight_learns(layer, lambda: call(layer))


def test_padding_is_without_influence(layer):
    changed = np.where(MASK[..., None], X, X - 50.0)
    at_tokens = MASK[..., None].astype("float32")

    def of_tokens(x):
        return layer(x, padding_mask=MASK) * at_tokens

    np.testing.assert_array_equal(of_tokens(changed), of_tokens(X))
    expected = checks.gradients(of_tokens, layer.trainable_weights, [X])
    found = checks.gradients(of_tokens, layer.trainable_weights, [changed])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_tokens_that_are_wanted_alone_are_as_among_all(layer, training):
    def of_some(x):
        some = tf.gather(x, [3, 0], axis=1)
        return layer(x, padding_mask=MASK, queries=some, training=training)

    def among_all(x):
        outputs = layer(x, padding_mask=MASK, training=training)
        return tf.gather(outputs, [3, 0], axis=1)

    np.testing.assert_allclose(of_some(X), among_all(X), atol=1e-6)
    assert layer.compute_output_shape(X.shape, (2, 1, HIDDEN)) == (2, 1, HIDDEN)
    found, expected = (
        checks.gradients(f, layer.trainable_weights, [X]) for f in (of_some, among_all)
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("approximate_gelu", [True, False])
def test_training_computes_the_same_in_fewer_passes(approximate_gelu):
    layer = build(approximate_gelu=approximate_gelu)
    expected, found = (
        checks.gradients(
            partial(layer, padding_mask=MASK, training=training),
            layer.trainable_weights,
            [X],
        )
        for training in (False, True)
    )
    np.testing.assert_allclose(layer(X, MASK, training=True), call(layer), atol=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_dropout_in_training_only(layer):
    dropping = build(dropout=0.4)
    np.testing.assert_array_equal(call(dropping), call(layer))
    first, second = (dropping(X, MASK, training=True) for _ in range(2))
    assert np.abs(first - second).max() > 0.01


def test_serializable(layer, tmp_path):
    checks.assert_config_round_trip(
        build(dropout=0.2, approximate_gelu=False, layer_norm_epsilon=1e-3), call
    )
    inputs = [keras.Input((None, HIDDEN)), keras.Input((None,), dtype="int32")]
    model = keras.Model(inputs, layer(inputs[0], padding_mask=inputs[1]))
    assert model.output.shape == (None, None, HIDDEN)
    checks.assert_model_is_saved_whole(model, [X, MASK], tmp_path)


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
def test_half_precision(layer, policy):
    checks.assert_half_precision_is_close(policy, layer, build, call)


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
def test_half_precision_in_training(layer, policy):
    def train(layer):
        return layer(X, padding_mask=MASK, training=True)

    checks.assert_half_precision_is_close(policy, layer, build, train)
    twin = build(policy)
    twin.set_weights(layer.get_weights())
    assert train(twin).dtype == twin.compute_dtype
    found, expected = (
        checks.gradients(partial(train, some), some.trainable_weights)
        for some in (twin, layer)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error < checks.HALF_PRECISIONS[policy]


def test_xla(layer):
    checks.assert_xla_agrees(lambda: call(layer))
    dropping = build(dropout=0.3)
    step = tf.function(lambda: dropping(X, MASK, training=True), jit_compile=True)
    assert np.isfinite(step()).all()


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"multiple of `num_heads`.*num_heads=3"):
        EncoderLayer(3, INNER).build(X.shape)
