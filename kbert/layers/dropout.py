"""Dropout whose mask is computed anew backwards and never kept."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.layers.fused import fused, fused_product
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

    def times(self, inputs, others, training: bool | None = None, fuse: bool = True):  # type: ignore[no-untyped-def]
        """The matrix product of what is left of the inputs with `others`.

        What is left need not wait for the backward pass; see `fused_product`.

        Args:
            inputs: `[..., M, N]`.
            others: `[..., N, P]`.
            fuse: as `call` has it.
        """
        if not training or self.rate == 0 or not fuse:
            return ops.matmul(self(inputs, training=training, fuse=fuse), others)
        return _dropped_product(inputs, others, self.next_seed(), rate=self.rate)

    def next_seed(self) -> Any:
        """The seed of a call, `[2]` uint32; another each time."""
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
    shape = ops.shape(x)
    position = ops.cast(ops.arange(math.prod(shape), dtype="int32"), "uint32")
    # A line through the positions that is the seed's own, then murmur3's finalizer.
    offset = mix(ops.bitwise_xor(mix(seed[1]), seed[0]))
    slope = ops.bitwise_or(mix(wrap(offset + seed[1])), _uint32(1))  # odd: one to one
    bits = mix(wrap(wrap(position * slope) + offset))
    kept = bits >= _uint32(round(rate * 2**32))
    factor = ops.cast(ops.reshape(kept, shape), x.dtype) * (1.0 / (1.0 - rate))
    # A product: a choice by `where` takes twice as long on a CPU.
    return x * factor


@fused
def _drop(x: Any, seed: Any, *, rate: float) -> Any:
    return dropped(x, seed, rate)


_dropped_product = fused_product(dropped)


def _uint32(number: int) -> Any:
    return ops.convert_to_tensor(np.uint32(number))
