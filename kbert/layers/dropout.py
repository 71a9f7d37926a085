"""Dropout whose mask is computed anew backwards and never kept."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.layers.fused import fused
from kbert.layers.random_bits import mix, wrap


@keras.saving.register_keras_serializable(package="kbert")
class HashDropout(keras.layers.Layer):
    """Leaves out elements at random in training, and scales up the others.

    As keras.layers.Dropout (Srivastava et al. 2014). Whether an element is kept is a
    hash of its position and of the call's seed, so that one pass over memory draws,
    compares and multiplies, and another does so for the gradient: on a CPU random
    numbers that go through memory take most of dropout's time, and a mask that waits
    for the backward pass takes memory besides.

    Args:
        rate: share of the elements that are left out; at least 0, below 1.

    Input and output: any shape of fewer than 2**31 elements.

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

    def call(self, inputs, training: bool | None = None, fuse: bool = True):  # type: ignore[no-untyped-def]
        """See the class; `fuse` false is for arrays too small to compile for."""
        if not training or self.rate == 0:
            return inputs
        drop = _drop if fuse else dropped
        return drop(inputs, self.next_seed(), rate=self.rate)

    def next_seed(self) -> Any:
        """The seed of a call, `[2]` uint32; another each time, zeros at a rate of 0."""
        if self.rate == 0:
            return ops.zeros(2, "uint32")
        return ops.cast(self.seed_generator.next(), "uint32")

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate}


def dropped(x: Any, seed: Any, rate: float) -> Any:
    """`x` without the elements that dropout leaves out, in its dtype.

    Args:
        x: any shape, floats.
        seed: `[2]` uint32.
        rate: share of the elements that are left out.
    """
    if rate == 0:
        return x
    # In float32: in half precision XLA would round after every step.
    kept = ops.cast(is_kept(ops.shape(x), seed, rate), "float32")
    # A product: a choice by `where` takes twice as long on a CPU.
    return ops.cast(ops.cast(x, "float32") * (kept * (1.0 / (1.0 - rate))), x.dtype)


def is_kept(shape: Any, seed: Any, rate: float) -> Any:
    """Which elements of an array dropout leaves in, bool.

    Args:
        shape: of the array; numbers or scalar tensors.
        seed: `[2]` uint32.
        rate: share of the elements that are left out; above 0.
    """
    position = ops.cast(ops.arange(math.prod(shape), dtype="int32"), "uint32")
    # A line through the positions that is the seed's own, then murmur3's finalizer.
    offset = mix(ops.bitwise_xor(mix(seed[1]), seed[0]))
    slope = ops.bitwise_or(mix(wrap(offset + seed[1])), _uint32(1))  # odd: one to one
    bits = mix(wrap(wrap(position * slope) + offset))
    return ops.reshape(bits >= _uint32(round(rate * 2**32)), shape)


@fused
def _drop(x: Any, seed: Any, *, rate: float) -> Any:
    return dropped(x, seed, rate)


def _uint32(number: int) -> Any:
    return ops.convert_to_tensor(np.uint32(number))
