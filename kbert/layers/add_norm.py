"""The sum of a sublayer's input and output, normalized (Vaswani et al. 2017, 3.1).

Axes: D hidden.
"""

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
        tensors = (inputs, addends, gamma, beta, self.sum_dropout.next_seed())
        if fuse and keras.config.backend() == "tensorflow":
            from kbert.layers.fused_norms import add_norm

            return add_norm(*tensors, rate=self.dropout, epsilon=self.epsilon)
        return _add_norm(*tensors, rate=self.dropout, epsilon=self.epsilon)

    def compute_output_shape(self, input_shape, addends_shape=None):  # type: ignore[no-untyped-def]
        """That of either input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "dropout": self.dropout,
            "epsilon": self.epsilon,
        }


def norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """LayerNorm along the last axis, computed in float32, in the dtype of `x`.

    Args:
        x: `[..., D]`.
        gamma: `[D]` float32, as `beta`.
        epsilon: what is added to the variance.
    """
    wide = ops.cast(x, "float32")
    centred = wide - ops.mean(wide, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return ops.cast(centred * ops.rsqrt(variance + epsilon) * gamma + beta, x.dtype)


def _add_norm(
    x: Any, y: Any, gamma: Any, beta: Any, seed: Any, *, rate: float, epsilon: float
) -> Any:
    wide = ops.cast(x, "float32") + dropped(ops.cast(y, "float32"), seed, rate)
    return ops.cast(norm(wide, gamma, beta, epsilon), x.dtype)


@fused
def fused_norm_dropout(
    x: Any, gamma: Any, beta: Any, seed: Any, *, rate: float, epsilon: float
) -> Any:
    """`norm` and then `dropped`, in training in one pass over memory each way."""
    normed = norm(ops.cast(x, "float32"), gamma, beta, epsilon)
    return ops.cast(dropped(normed, seed, rate), x.dtype)
