"""REST request bodies -> inputs of a signature (json_tensor.cc of TensorFlow Serving).

The order of checks is theirs: the body's syntax before the model's existence, the
signature before the values.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow.core.framework import types_pb2

from kbert.serving.json_parsing import format_error, is_integer, type_name
from kbert.serving.json_tensors import decode_base64, is_base64, to_array
from kbert.serving.status import Code, StatusError

_INT64_MAX = 2**63 - 1

Inputs = dict[str, np.ndarray]


def signature_name(document: Mapping[str, Any]) -> str:
    """Return the signature that a body asks for, "" where it asks for none.

    Raises:
        StatusError: INVALID_ARGUMENT where the name is no string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(
            document,
            "not formatted correctly. 'signature_name' key must be a string value.",
        )
    return name


def predict_inputs(
    document: Mapping[str, Any], data_types: Mapping[str, int], signature: str
) -> tuple[Inputs, bool]:
    """Return the inputs of a :predict body, and whether they came in rows.

    Args:
        data_types: DataType number of each input of the signature.
        signature: its name, for the message.

    Raises:
        StatusError: INVALID_ARGUMENT or, for inputs of a type that JSON cannot say,
            UNIMPLEMENTED.
    """
    if not data_types:
        raise _invalid(
            f"Failed to get input map for signature: {signature or 'DEFAULT'}"
        )
    if "instances" in document and "inputs" in document:
        raise format_error(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist ",
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return _from_rows(instances, data_types), True
    if "inputs" in document:
        return _from_columns(document["inputs"], data_types), False
    raise _invalid("Missing 'inputs' or 'instances' key")


def _from_rows(rows: list[Any], data_types: Mapping[str, int]) -> Inputs:
    names = sorted(data_types)
    if not isinstance(rows[0], dict) and len(names) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    if not _is_row_object(rows[0]):
        for index, row in enumerate(rows):
            if _is_row_object(row):
                raise _invalid(
                    f"Expecting value/list but got object at item {index} of input list"
                )
        return {names[0]: _stack(rows, data_types[names[0]], "")}
    for index, row in enumerate(rows):
        _check_keys(row, index, names)
    return {
        name: _stack([row[name] for row in rows], data_types[name], f" key: {name}")
        for name in names
    }


def _is_row_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _check_keys(row: Any, index: int, names: list[str]) -> None:
    if not _is_row_object(row):
        raise _invalid(f"Expecting object but got list at item {index} of input list")
    for key in row:
        if key not in names:
            raise _element_error(
                index,
                f" key: {key}",
                _invalid(f"JSON object: does not have named input: {key}"),
            )
    if len(row) != len(names):
        shown = format_error(row, f"keys must be equal to: {','.join(names)}").message
        shown = shown.replace("JSON Value", "JSON object", 1)
        raise _invalid(
            f"Failed to process element: {index} of 'instances' list. {shown}"
        )


def _stack(column: list[Any], data_type: int, key: str) -> np.ndarray:
    """Return the rows of one input as one array with the rows in front."""
    try:
        return to_array(column, data_type)
    except StatusError:
        _explain_rows(column, data_type, key)
        raise


def _explain_rows(column: list[Any], data_type: int, key: str) -> None:
    """Raise what is wrong with the first row that does not fit."""
    first: np.ndarray | None = None
    for index, row in enumerate(column):
        try:
            array = to_array(row, data_type)
            if first is None:
                first = array
            _check_same_shape(first, array)
        except StatusError as error:
            raise _element_error(index, key, error) from None


def _check_same_shape(first: np.ndarray, other: np.ndarray) -> None:
    if other.size != first.size:
        raise _invalid(f"Expecting tensor size: {first.size} but got: {other.size}")
    if other.shape != first.shape:
        raise _invalid(
            f"Expecting shape {_shape_text(first)} but got: {_shape_text(other)}"
        )


def _shape_text(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _element_error(index: int, key: str, error: StatusError) -> StatusError:
    return _invalid(
        f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
    )


def _from_columns(value: Any, data_types: Mapping[str, int]) -> Inputs:
    if not isinstance(value, dict) or is_base64(value):
        if len(data_types) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        name, data_type = next(iter(data_types.items()))
        return {name: to_array(value, data_type)}
    for name in data_types:
        if name not in value:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: to_array(value[name], data_types[name]) for name in data_types}


def read_examples(document: Mapping[str, Any]) -> list[bytes]:
    """Return the serialized tf.train.Examples of a :classify or :regress body.

    Features of `context` are in all of them; an example's own win.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    context = b""
    if "context" in document:
        context = _example(document["context"]).SerializeToString()
    if "examples" not in document:
        raise format_error(
            document,
            "When method is classify, key 'examples' is expected and was not found",
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    # Two serialized messages in a row are one, the later winning.
    return [context + _example(example).SerializeToString() for example in examples]


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise _invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
    return example


def _add_to_feature(item: Any, name: str, feature: Feature) -> None:
    kind, value = _feature_value(item, name)
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise _invalid(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{present.removesuffix('_list')}"
        )
    getattr(feature, kind).value.append(value)


def _feature_value(item: Any, name: str) -> tuple[str, Any]:
    """Return the list of a feature that a JSON value goes to, and what goes there."""
    if isinstance(item, bool):
        return "int64_list", int(item)
    if isinstance(item, str):
        return "bytes_list", item.encode("utf-8")
    if is_base64(item):
        return "bytes_list", decode_base64(item)
    if is_integer(item):
        if item > _INT64_MAX:
            raise _invalid(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        return "int64_list", item
    if isinstance(item, (int, float)):
        return "float_list", float(to_array(item, types_pb2.DT_FLOAT))
    raise _invalid(
        f"Feature: {name} has element with unexpected JSON type: {type_name(item)}"
    )


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
