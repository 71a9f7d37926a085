"""What holds for every layer: saving, precision, XLA, gradients."""

import json

import keras
import numpy as np
import tensorflow as tf

HALF_PRECISIONS = {"mixed_bfloat16": 0.06, "mixed_float16": 0.01}


def randomize(layer: keras.layers.Layer, seed: int = 0, scale: float = 0.3) -> None:
    """Gives every weight values that are all different, biases and norms included."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        value = rng.normal(0.0, scale, weight.shape)
        weight.assign(value + 1.0 if weight.name == "gamma" else value)


def numpy_weights(layer: keras.layers.Layer) -> dict[str, np.ndarray]:
    """The weights by their paths below the layer, in float64."""
    start = layer.trainable_weights[0].path.split("/")[0] + "/"
    return {
        weight.path.removeprefix(start): np.array(weight, np.float64)
        for weight in layer.weights
        if "seed_generator" not in weight.path
    }


def gradients(function, weights, inputs=()):
    """Of the sum of the outputs, each by a factor of its own; values as NumPy."""
    tensors = [tf.convert_to_tensor(value) for value in inputs]
    with tf.GradientTape() as tape:
        for tensor in tensors:
            tape.watch(tensor)
        outputs = [tf.cast(y, "float32") for y in tf.nest.flatten(function(*tensors))]
        loss = sum(tf.reduce_sum(y * _factors(y)) for y in outputs)
    found = tape.gradient(loss, [*tensors, *(weight.value for weight in weights)])
    return [None if g is None else np.array(tf.convert_to_tensor(g)) for g in found]


def _factors(outputs):
    size = int(np.prod(outputs.shape))
    return tf.reshape(tf.cos(tf.range(size, dtype="float32")), outputs.shape)


def assert_every_weight_learns(layer, function):
    weights = layer.trainable_weights
    assert weights
    for weight, gradient in zip(weights, gradients(function, weights), strict=True):
        assert gradient is not None, weight.path
        assert np.abs(gradient).max() > 1e-6, weight.path


def assert_config_round_trip(layer, call):
    """A layer of the same config, with the same weights, computes the same."""
    config = keras.saving.serialize_keras_object(layer)
    twin = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(twin) is type(layer)
    call(twin)  # builds it
    twin.set_weights(layer.get_weights())
    for expected, found in zip(
        numpy_of(call(layer)), numpy_of(call(twin)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def assert_model_is_saved_whole(model, inputs, folder):
    """A model that holds the layer comes back from its file, and computes the same."""
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    expected, found = numpy_of(model(inputs)), numpy_of(loaded(inputs))
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    return loaded


def assert_half_precision_is_close(policy, layer, make, call):
    """`make(dtype)` gives a twin of `layer`, which is of float32."""
    twin = make(policy)
    call(twin)
    twin.set_weights(layer.get_weights())
    assert {weight.dtype for weight in twin.trainable_weights} == {"float32"}
    for expected, found in zip(
        numpy_of(call(layer)), numpy_of(call(twin)), strict=True
    ):
        assert np.isfinite(found).all()
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < HALF_PRECISIONS[policy]


def assert_xla_agrees(call, atol=1e-5):
    compiled = tf.function(call, jit_compile=True, autograph=False)
    for expected, found in zip(numpy_of(call()), numpy_of(compiled()), strict=True):
        np.testing.assert_allclose(found, expected, atol=atol)


def numpy_of(outputs):
    """Flat, in float32, which holds every half precision exactly."""
    return [np.array(tf.cast(y, "float32")) for y in tf.nest.flatten(outputs)]
