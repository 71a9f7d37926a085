"""Random numbers that are a function of where they are used, on every backend alike.

A counter-based generator: no state but the caller's own counting, no order of calls
that matters, and the same numbers from TensorFlow, JAX, PyTorch and NumPy, compiled or
not.

Axes: B batch, T tokens.
"""

from typing import Any

import keras
import numpy as np
from keras import ops


def random_bits(seed: int, draws: Any, length: Any) -> Any:
    """Three independent random numbers a token, `[3, B, T]` uint32.

    A counter-based generator, as in Salmon et al. 2011, of murmur3's finalizer. For
    one draw it maps positions to numbers one to one: no two tokens of a row tie.

    Args:
        seed: 0 or more.
        draws: a number a row, `[B]` uint32.
        length: T.
    """
    keys = np.random.SeedSequence(seed).generate_state(6).reshape(2, 3, 1)
    keys = ops.convert_to_tensor(keys)
    first = mix(wrap(draws[None, :] + keys[0]))  # (3, B)
    second = mix(wrap(draws[None, :] + keys[1]))
    positions = ops.cast(ops.arange(length, dtype="int32"), "uint32")
    mixed = mix(wrap(positions + first[:, :, None]))  # (3, B, T)
    return mix(ops.bitwise_xor(mixed, second[:, :, None]))


def mix(x: Any) -> Any:
    """The finalizer of murmur3 (A. Appleby, public domain), a bijection of uint32.

    What differs in any bit comes out different in about half of the bits.
    """
    x = ops.bitwise_xor(x, shift_right(x, 16))
    x = wrap(ops.multiply(x, ops.convert_to_tensor(np.uint32(0x85EBCA6B))))
    x = ops.bitwise_xor(x, shift_right(x, 13))
    x = wrap(ops.multiply(x, ops.convert_to_tensor(np.uint32(0xC2B2AE35))))
    return ops.bitwise_xor(x, shift_right(x, 16))


def shift_right(x: Any, num_bits: int) -> Any:
    """The upper bits of uint32, moved down by `num_bits`."""
    return ops.right_shift(x, ops.convert_to_tensor(np.uint32(num_bits)))


def wrap(x: Any) -> Any:
    """A result of uint32 arithmetic modulo 2**32.

    Keras's PyTorch backend holds uint32 in int64, where nothing wraps around at 32
    bits; what overflows 64 leaves the lower 32 right.
    """
    if keras.backend.standardize_dtype(x.dtype) == "uint32":
        return x
    return ops.bitwise_and(x, 2**32 - 1)
