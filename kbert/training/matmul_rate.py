"""How fast this machine multiplies matrices: what a training can at most make of it."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_SIZE = 1024
_ROUNDS = 7


def matmul_rates(
    dtypes: Sequence[str], *, size: int = _SIZE, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Floating-point operations a second of a square product, by dtype.

    Measured by turns, so that other work on the machine slows all dtypes alike; the
    median of the rounds.

    Args:
        dtypes: as Keras names them.
        size: rows and columns of both factors.
        rounds: products of each dtype, after one that is not counted.
    """
    product = _compiled(ops.matmul)
    random = np.random.default_rng(0)
    factor = random.standard_normal((size, size), np.float32)
    factors = {dtype: ops.convert_to_tensor(factor, dtype=dtype) for dtype in dtypes}
    seconds: dict[str, list[float]] = {dtype: [] for dtype in dtypes}
    for number in range(rounds + 1):
        for dtype, x in factors.items():
            start = time.perf_counter()
            # Taken to the CPU, so that it has been computed: one number of it.
            ops.convert_to_numpy(ops.cast(product(x, x)[0, 0], "float32"))
            elapsed = time.perf_counter() - start
            if number:
                seconds[dtype].append(elapsed)
    return {
        dtype: 2 * size**3 / statistics.median(found)
        for dtype, found in seconds.items()
    }


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one compiled call, where the backend has such."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function
