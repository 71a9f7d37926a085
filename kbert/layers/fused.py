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
        function: of tensors by position, and of Python's numbers by name, written with
            `keras.ops`; gradients are those of its float tensors. It is compiled once
            for every shape of the tensors and value of the numbers.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    forward = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backward(upstream: Any, *tensors: Any, **numbers: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x for x in tensors if x.dtype.is_floating])
            result = function(*tensors, **numbers)
        return tape.gradient(result, tensors, output_gradients=upstream)

    @functools.wraps(function)
    def both(*tensors: Any, **numbers: Any) -> Any:
        # TensorFlow takes no named arguments here but in eager execution.
        @tf.custom_gradient
        def of_tensors(*tensors: Any) -> Any:
            result = forward(*tensors, **numbers)
            return result, lambda upstream: backward(upstream, *tensors, **numbers)

        # Variables become tensors, or their gradients would be asked for by name.
        return of_tensors(*map(tf.convert_to_tensor, tensors))

    return both  # type: ignore[return-value]


def fused_product(function: Function) -> Callable[..., Any]:
    """The matrix product of what a function makes of a tensor with another tensor.

    On TensorFlow the function is compiled as by `fused`, and in a graph what it makes
    does not wait for the backward pass, where the product's gradient needs it: it is
    computed anew with the function's own gradient.

    Args:
        function: see `fused`; of a float tensor first, which it gives back as large.

    Returns:
        A function of that tensor `[..., M, N]`, the other one `[..., N, P]` (`[N, P]`
        for `[M, N]`), and what else the first one takes; gradients are those of the
        two.
    """
    if keras.backend.backend() != "tensorflow":

        def plain(x: Any, y: Any, *tensors: Any, **numbers: Any) -> Any:
            return ops.matmul(function(x, *tensors, **numbers), y)

        return plain
    import tensorflow as tf

    forward = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def again_and_gradient(
        upstream: Any, x: Any, *tensors: Any, **numbers: Any
    ) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            left = function(x, *tensors, **numbers)
        return left, tape.gradient(left, x, output_gradients=upstream)

    def product(x: Any, y: Any, *tensors: Any, **numbers: Any) -> Any:
        @tf.custom_gradient
        def of_factors(x: Any, y: Any) -> Any:
            def gradients(upstream: Any) -> tuple[Any, Any]:
                of_left = tf.matmul(upstream, y, transpose_b=True)
                left, of_x = again_and_gradient(of_left, x, *tensors, **numbers)
                return of_x, tf.matmul(left, upstream, transpose_a=True)

            return tf.matmul(forward(x, *tensors, **numbers), y), gradients

        return of_factors(tf.convert_to_tensor(x), tf.convert_to_tensor(y))

    return product


def gelu(x: Any, *, approximate: bool) -> Any:
    """The Gaussian error linear unit (Hendrycks & Gimpel 2016).

    Computed in float32, given in the dtype of `x`.

    Args:
        approximate: the tanh form instead of the exact one.
    """
    wide = ops.cast(x, "float32")
    return ops.cast(ops.gelu(wide, approximate=approximate), x.dtype)


fused_gelu = fused(gelu)
fused_gelu_product = fused_product(gelu)
