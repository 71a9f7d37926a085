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


def compiled(function: Function) -> Function:
    """Compiles a function with XLA, on TensorFlow only; its gradient is not."""
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def is_within_xla() -> bool:
    """Whether what TensorFlow traces now becomes part of a function of XLA."""
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        if context is not None and context.IsXLAContext():
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


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

    forward = compiled(function)

    @compiled
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


def gelu(x: Any, *, approximate: bool) -> Any:
    """The Gaussian error linear unit (Hendrycks & Gimpel 2016).

    Computed in float32, given in the dtype of `x`.

    Args:
        approximate: the tanh form instead of the exact one.
    """
    wide = ops.cast(x, "float32")
    return ops.cast(ops.gelu(wide, approximate=approximate), x.dtype)


fused_gelu = fused(gelu)
