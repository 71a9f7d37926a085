"""The cross-entropy of logits beside Keras's and NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.training.losses import CrossEntropyOfLogits


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, size=(3, 4, 7)).astype("float32")
    return rng.integers(0, 7, size=(3, 4)), logits, rng.random((3, 4), np.float32)


def test_it_is_that_of_keras_with_its_gradient(problem):
    classes, logits, weights = problem
    found, expected = (
        value_and_gradient(loss, classes, logits, weights)
        for loss in (
            CrossEntropyOfLogits(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-7)


def value_and_gradient(loss, classes, logits, weights):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(classes, logits, sample_weight=weights)
    return value, tape.gradient(value, logits)


def test_each_is_the_logarithm_of_the_probability(problem):
    classes, logits, _ = problem
    found = CrossEntropyOfLogits(reduction=None)(classes, logits)
    wide = np.exp(logits.astype(np.float64))
    probabilities = wide / wide.sum(-1, keepdims=True)
    chosen = np.take_along_axis(probabilities, classes[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found, -np.log(chosen), rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow():
    found = CrossEntropyOfLogits(reduction=None)([0, 1], [[1e4, 0.0], [1e4, 0.0]])
    np.testing.assert_allclose(found, [0.0, 1e4])


def test_it_comes_back_from_its_config():
    config = keras.losses.serialize(CrossEntropyOfLogits(name="masked_lm"))
    copy = keras.losses.deserialize(config)
    assert isinstance(copy, CrossEntropyOfLogits)
    assert copy.name == "masked_lm"
