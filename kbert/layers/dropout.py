"""Dropout whose random numbers are bytes."""

import math
from typing import Any

import keras
from keras import ops

_MOST = 255 / 256  # more would leave nothing of a byte


@keras.saving.register_keras_serializable(package="kbert")
class ByteDropout(keras.layers.Layer):
    """Leaves out elements at random in training, and scales up the others.

    As keras.layers.Dropout (Srivastava et al. 2014), with one random byte an element
    where that draws a float: on a CPU random numbers are most of its time, and in
    bfloat16 its floats are too coarse for the rate. An element is left out where its
    byte lies below 256 times the rate. Where that is no whole number each call takes
    one of the two next to it, such that `rate` holds exactly on average.

    Args:
        rate: share of the elements that are left out; at least 0, below 1.

    Input and output: any shape.

    Raises:
        ValueError: the rate is out of its range.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be at least 0 and below 1. Received: {rate}")
        self.rate = rate
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator()
        self.supports_masking = True
        self.built = True

    def call(self, inputs, training: bool | None = None):  # type: ignore[no-untyped-def]
        """See the class."""
        if not training or self.rate == 0:
            return inputs
        kept = self._random_bytes(ops.shape(inputs)) >= self._threshold()
        scale = 1.0 / (1.0 - self.rate)
        # A product: a choice by `where` takes twice as long on a CPU.
        return inputs * (ops.cast(kept, self.compute_dtype) * scale)

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate}

    def _random_bytes(self, shape):  # type: ignore[no-untyped-def]
        size = math.prod(shape)
        # Four bytes a number; the column's known length is what `view` needs.
        words = _random_words(((size + 3) // 4, 1), self.seed_generator)
        flat = ops.reshape(ops.view(words, "uint8"), (-1,))
        return ops.reshape(flat[:size], shape)

    def _threshold(self):  # type: ignore[no-untyped-def]
        """256 times the rate, rounded up as often as its fraction says: uint8."""
        fraction, whole = math.modf(256 * min(self.rate, _MOST))
        rounds_up = keras.random.uniform((), seed=self.seed_generator) < fraction
        return ops.cast(rounds_up, "uint8") + ops.cast(int(whole), "uint8")


def _random_words(shape, seed_generator):  # type: ignore[no-untyped-def]
    """Random int32 of all bits."""
    if keras.backend.backend() != "tensorflow":
        return keras.random.randint(shape, -(2**31), 2**31 - 1, seed=seed_generator)
    # Without bounds, which take a division an element.
    import tensorflow as tf

    seed = ops.cast(seed_generator.next(), "int32")
    return tf.random.stateless_uniform(shape, seed, None, None, tf.int32)
