"""Dropout from a hash: its rate, its scale, its randomness, its gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers.dropout import HashDropout
from tests.layers import checks


def drop(rate, shape, *, dtype="float32", calls=1, seed=0):
    keras.utils.set_random_seed(seed)
    layer = HashDropout(rate, dtype=dtype)
    ones = tf.ones(shape, layer.compute_dtype)
    call = tf.function(lambda: layer(ones, training=True), autograph=False)
    return np.stack([np.array(call(), "float32") for _ in range(calls)])


@pytest.mark.parametrize("dtype", ["float32", *checks.HALF_PRECISIONS])
@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5])
def test_rate_and_scale(rate, dtype):
    outputs = drop(rate, (50, 203), dtype=dtype, calls=100)
    kept = outputs != 0
    share = 1 - kept.mean()
    deviation = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(share - rate) < 4 * deviation
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=0.004)


def test_elements_are_independent():
    dropped = drop(0.5, (1000, 64), calls=4) == 0
    for lag in (1, 2, 3, 4, 8, 64):
        flat = dropped[0].ravel() - 0.5
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 0.25 * 4 / np.sqrt(flat.size)
    between = ((dropped[0] - 0.5) * (dropped[1] - 0.5)).mean()
    assert abs(between) < 0.25 * 4 / np.sqrt(dropped[0].size)


def test_calls_are_independent_at_any_shift():
    # A mask that came back shifted would be a hash of position plus seed.
    first, second = (drop(0.5, (4096,), calls=2) == 0) - 0.5
    spectrum = np.fft.rfft(first) * np.conj(np.fft.rfft(second))
    correlation = np.fft.irfft(spectrum) / (0.25 * first.size)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(first.size)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5), (2, 3, 4, 5)])
def test_any_shape(shape):
    assert drop(0.5, shape).shape == (1, *shape)


def test_seed_makes_it_repeatable():
    first, again, other = (drop(0.5, (40, 40), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_nothing_happens_outside_training():
    x = np.ones((3, 4), "float32")
    layer = HashDropout(0.9)
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer(x, training=False), x)
    np.testing.assert_array_equal(HashDropout(0.0)(x, training=True), x)
    assert HashDropout(0.0).variables == []


def test_gradient_is_that_of_what_was_kept():
    layer = HashDropout(0.5)
    x = tf.ones((20, 20))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)
    np.testing.assert_array_equal(tape.gradient(outputs, x), outputs)


def test_xla_and_shapes_unknown_until_called():
    layer = HashDropout(0.25)
    for function in (
        tf.function(lambda x: layer(x, training=True), jit_compile=True),
        tf.function(
            lambda x: layer(x, training=True),
            input_signature=[tf.TensorSpec((None, None))],
        ),
    ):
        outputs = np.array(function(tf.ones((300, 101))))
        assert 0.24 < (outputs == 0).mean() < 0.26
        assert outputs.max() == pytest.approx(4 / 3)


def test_serializable():
    layer = HashDropout(0.25, dtype="mixed_bfloat16")
    twin = HashDropout.from_config(layer.get_config())
    assert (twin.rate, twin.dtype_policy.name) == (0.25, "mixed_bfloat16")


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=r"at least 0 and below 1. Received"):
        HashDropout(rate)


def test_nearly_everything_can_be_left_out():
    outputs = drop(0.999, (1000, 256))
    assert 150 < np.count_nonzero(outputs) < 370
    assert outputs.max() == pytest.approx(1000, rel=1e-3)
