"""Whether a request fits a signature, and a result what its signature promises.

Wordings are those of TensorFlow Serving's predict_util.cc, classifier.cc and
regressor.cc. All functions raise StatusError, INVALID_ARGUMENT. Axes: B examples,
K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from kbert.serving.json_tensors import data_type_name
from kbert.serving.status import Code, StatusError


def complete_inputs(
    signature: Any, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the inputs by name, with the signature's defaults for those not sent."""
    sent, wanted = set(inputs), set(signature.inputs)
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise _invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_set_text(sent)}) != len({_set_text(wanted)}). Sent extra: "
            f"{_set_text(sent - wanted)}. Missing but required: "
            f"{_set_text(wanted - sent)}."
        )
    complete = {}
    for index, name in enumerate(sorted(wanted)):
        if name in inputs:
            complete[name] = inputs[name]
        elif name in signature.defaults:
            complete[name] = tf.make_ndarray(signature.defaults[name])
        else:
            raise _invalid(
                f'Signature input alias: "{name}" not found in request or in the '
                f"signature's defaults. Inputs expected: {_set_text(wanted)}."
            )
        _check_data_type(complete[name], signature.inputs[name].dtype, index)
    return complete


def chosen_outputs(signature: Any, output_filter: Sequence[str]) -> list[str]:
    """Return the outputs to fetch: those asked for, or all of them."""
    chosen: list[str] = []
    for name in output_filter:
        if name not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {name} Outputs "
                f"expected to be in the set {_set_text(set(signature.outputs))}."
            )
        if name in chosen:
            raise _invalid(f"duplicate output tensor alias: {name}")
        chosen.append(name)
    chosen = chosen or sorted(signature.outputs)
    for name in chosen:
        # An operation such as __saved_model_init_op, which has no output.
        if signature.outputs[name].dtype == types_pb2.DT_INVALID:
            raise _invalid(
                f"Tensor {signature.outputs[name].name}:0, specified in either "
                "feed_devices or fetch_devices was not found in the Graph"
            )
    return chosen


def classification_outputs(signature: Any) -> list[str]:
    """Return which of `classes` and `scores` a signature that classifies has."""
    _check_single_input(signature)
    if len(signature.outputs) not in (1, 2):
        raise _invalid(
            f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    _check_examples_input(signature, "classification")
    outputs = [name for name in ("classes", "scores") if name in signature.outputs]
    if not outputs:
        raise _invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {signature}'
        )
    return outputs


def check_regression_signature(signature: Any) -> None:
    """Check that a signature takes examples and returns `outputs`."""
    _check_single_input(signature)
    if len(signature.outputs) != 1:
        raise _invalid("Expected one output Tensor.")
    _check_examples_input(signature, "regression")
    if "outputs" not in signature.outputs:
        raise _invalid(f"No regression outputs found in SignatureDef: {signature}")


def check_classification(found: Mapping[str, np.ndarray], num_examples: int) -> None:
    """Check that `classes` and `scores` are string and float32, [B, K] both."""
    wanted = {"classes": ("DT_STRING", object), "scores": ("DT_FLOAT", np.float32)}
    for name, array in found.items():
        label, dtype = wanted[name]
        if array.ndim != 2:
            raise _invalid(
                "Expected Tensor shape: [batch_size num_classes] but got "
                f"{_shape_text(array)}"
            )
        if array.dtype != dtype:
            raise _invalid(
                f"Expected {name} Tensor of {label}. Got: {_data_type_of(array)}"
            )
        if len(array) != num_examples:
            raise _invalid(
                f"Expected {name} output batch size of {num_examples}. "
                f"Got: {len(array)}"
            )
    counts = [array.shape[1] for array in found.values()]
    if len(set(counts)) > 1:
        raise _invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{counts[0]} vs. {counts[1]}"
        )


def check_regression(values: np.ndarray, num_examples: int) -> None:
    """Check that the values are float32, [B] or [B, 1]."""
    if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
        raise _invalid(
            "Expected output Tensor shape to be either [batch_size] or "
            f"[batch_size, 1] but got {_shape_text(values)}"
        )
    if len(values) != num_examples:
        raise _invalid(
            "Input batch size did not match output batch size: "
            f"{num_examples} vs. {len(values)}"
        )
    if values.dtype != np.float32:
        raise _invalid(
            f"Expected output Tensor of DT_FLOAT.  Got: {_data_type_of(values)}"
        )


def _check_data_type(array: np.ndarray, wanted: int, index: int) -> None:
    # Python's Session would convert; the one in TensorFlow Serving refuses.
    found = tf.as_dtype(array.dtype).as_datatype_enum
    if found != wanted:
        raise _wrong_data_type(index, wanted, found)


def _check_single_input(signature: Any) -> None:
    if len(signature.inputs) != 1:
        raise _invalid("Expected one input Tensor.")


def _check_examples_input(signature: Any, purpose: str) -> None:
    if "inputs" not in signature.inputs:
        raise _invalid(f"No {purpose} inputs found in SignatureDef: {signature}")
    data_type = signature.inputs["inputs"].dtype
    if data_type != types_pb2.DT_STRING:
        raise _wrong_data_type(0, data_type, types_pb2.DT_STRING)


def _wrong_data_type(index: int, wanted: int, found: int) -> StatusError:
    return _invalid(
        f"Expects arg[{index}] to be {data_type_name(wanted)} but "
        f"{data_type_name(found)} is provided"
    )


def _data_type_of(array: np.ndarray) -> str:
    return types_pb2.DataType.Name(tf.as_dtype(array.dtype).as_datatype_enum)


def _shape_text(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _set_text(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
