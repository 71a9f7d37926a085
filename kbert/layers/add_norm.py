"""The sum of a sublayer's input and output, normalized (Vaswani et al. 2017, 3.1).

Axes: D hidden.
"""

import functools
from typing import Any

import keras
from keras import ops

from kbert.layers.dropout import HashDropout, dropped
from kbert.layers.fused import fused


@keras.saving.register_keras_serializable(package="kbert")
class AddNorm(keras.layers.Layer):
    """LayerNorm(x + dropout(y)), in training in one pass over memory each way.

    LayerNorm (Ba et al. 2016) is computed in float32, whatever the policy.

    Args:
        dropout: rate at which elements of y are left out in training.
        epsilon: what is added to the variance.

    Input: x and y, `[..., D]` each. Output: `[..., D]`.
    """

    def __init__(
        self, *, dropout: float = 0.0, epsilon: float = 1e-12, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dropout = dropout
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the norm's two vectors for inputs `[..., D]`."""
        size = (input_shape[-1],)
        # Not rounded to half precision: the norm is computed in float32.
        self.gamma = self.add_weight(
            name="gamma", shape=size, initializer="ones", autocast=False
        )
        self.beta = self.add_weight(
            name="beta", shape=size, initializer="zeros", autocast=False
        )
        self.sum_dropout = HashDropout(
            self.dropout, dtype=self.dtype_policy, name="sum_dropout"
        )
        super().build(input_shape)

    def call(  # type: ignore[no-untyped-def]
        self, inputs, addends, training: bool | None = None, fuse: bool = True
    ):
        """See the class; `fuse` false is for arrays too small to compile for."""
        gamma, beta = (
            ops.convert_to_tensor(w, "float32") for w in (self.gamma, self.beta)
        )
        if not training:
            # What is served compiles nothing.
            return norm(inputs + addends, gamma, beta, self.epsilon)
        drops = self.dropout > 0
        seed = self.sum_dropout.next_seed() if drops else ops.zeros((2,), "uint32")
        add_norm = _fused_add_norm if fuse else _add_norm
        return add_norm(
            inputs, addends, gamma, beta, seed, rate=self.dropout, epsilon=self.epsilon
        )

    def compute_output_shape(self, input_shape, addends_shape=None):  # type: ignore[no-untyped-def]
        """That of either input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "dropout": self.dropout,
            "epsilon": self.epsilon,
        }


def norm(x: Any, gamma: Any, beta: Any, epsilon: float, mean: Any = None) -> Any:
    """LayerNorm along the last axis, computed in float32, in the dtype of `x`.

    Args:
        x: `[..., D]`.
        gamma: `[D]` float32, as `beta`.
        mean: a function that gives means along the last axis, `[..., 1]`; None: of
            the backend.
    """
    mean = mean or functools.partial(ops.mean, axis=-1, keepdims=True)
    wide = ops.cast(x, "float32")
    centred = wide - mean(wide)
    variance = mean(ops.square(centred))
    return ops.cast(centred * ops.rsqrt(variance + epsilon) * gamma + beta, x.dtype)


def _add_norm(
    x: Any, y: Any, gamma: Any, beta: Any, seed: Any, *, rate: float, epsilon: float
) -> Any:
    wide = ops.cast(x, "float32") + dropped(ops.cast(y, "float32"), seed, rate)
    normed = norm(wide, gamma, beta, epsilon, mean=quick_mean())
    return ops.cast(normed, x.dtype)


_fused_add_norm = fused(_add_norm)


@fused
def fused_norm_dropout(
    x: Any, gamma: Any, beta: Any, seed: Any, *, rate: float, epsilon: float
) -> Any:
    """`norm` and then `dropped`, in training in one pass over memory each way."""
    normed = norm(ops.cast(x, "float32"), gamma, beta, epsilon, mean=quick_mean())
    return ops.cast(dropped(normed, seed, rate), x.dtype)


def quick_mean() -> Any:
    """A function that gives means along the last axis fast in XLA; None: as it is.

    On a CPU XLA sums a row in twice the time that a product with ones takes. A GPU's
    product may round its factors.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return None
    return _mean_by_product


def _mean_by_product(x: Any) -> Any:
    size = x.shape[-1]
    return ops.matmul(x, ops.full((size, 1), 1.0 / size))
