"""Functions that read and write their arrays once, where single operations would not.

TensorFlow goes through memory once for every operation, and GELU's tanh form has about
eight, with more backwards. XLA makes one pass of them.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import keras
from keras import ops

Function = TypeVar("Function", bound=Callable[..., Any])


def fused(function: Function) -> Function:
    """Compiles a function of tensors with XLA on TensorFlow, forward and backward.

    Nothing of the forward pass is kept for the backward one but the arguments: the rest
    is computed anew. Elsewhere it stays as it is: what JAX compiles is fused already.

    Args:
        function: of tensors alone, written with `keras.ops`; gradients are those of
            its float arguments.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    forward = tf.function(function, jit_compile=True)

    @tf.function(jit_compile=True)
    def backward(upstream: Any, *arguments: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x for x in arguments if x.dtype.is_floating])
            result = function(*arguments)
        return tape.gradient(result, arguments, output_gradients=upstream)

    @tf.custom_gradient
    def both(*arguments: Any) -> Any:
        return forward(*arguments), lambda upstream: backward(upstream, *arguments)

    return functools.wraps(function)(both)  # type: ignore[return-value]


def fused_gelu(x: Any, *, approximate: bool) -> Any:
    """The Gaussian error linear unit (Hendrycks & Gimpel 2016).

    Computed in float32, given in the dtype of `x`.

    Args:
        approximate: the tanh form instead of the exact one.
    """
    return _tanh_gelu(x) if approximate else _exact_gelu(x)


@fused
def _tanh_gelu(x: Any) -> Any:
    return ops.cast(ops.gelu(ops.cast(x, "float32"), approximate=True), x.dtype)


@fused
def _exact_gelu(x: Any) -> Any:
    return ops.cast(ops.gelu(ops.cast(x, "float32"), approximate=False), x.dtype)
