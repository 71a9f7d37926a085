"""The same run each time, on a GPU too."""

import os

import keras

_XLA_FLAG = "--xla_gpu_deterministic_ops=true"


def make_deterministic() -> None:
    """Has the backend use no operation whose result depends on the order of threads.

    On a CPU kbert's runs are the same bit for bit without it. To be called before the
    backend's first computation, for the rest of the process.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "jax" and _XLA_FLAG not in os.environ.get("XLA_FLAGS", ""):
        # Read when JAX opens its device, which importing it does not.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} {_XLA_FLAG}".strip()
