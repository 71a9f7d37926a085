"""JSON values <-> arrays, by the rules of TensorFlow Serving's json_tensor.cc.

Tensors are NumPy arrays in C order; strings are object arrays of bytes. The type of an
input comes from the signature, a DataType number of TensorFlow.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from kbert.serving.json_parsing import (
    debug_string,
    format_error,
    type_name,
)
from kbert.serving.status import Code, StatusError

_MAX_RANK = 64  # of a NumPy array
_BYTES_SUFFIX = "_bytes"


class _Rule(NamedTuple):
    types: frozenset[type]
    dtype: np.dtype[Any]
    bounds: tuple[int, int] | None = None  # of what JSON may say, both included


def _integers(name: str, lowest: int, highest: int) -> _Rule:
    return _Rule(frozenset({int}), np.dtype(name), (lowest, highest))


_INT32 = (-(2**31), 2**31 - 1)
_NUMBERS = frozenset({int, float})
_STRINGS = _Rule(frozenset({str, dict}), np.dtype(object))
_RULES = {
    types_pb2.DT_FLOAT: _Rule(_NUMBERS, np.dtype(np.float32)),
    types_pb2.DT_DOUBLE: _Rule(_NUMBERS, np.dtype(np.float64)),
    types_pb2.DT_BOOL: _Rule(frozenset({bool}), np.dtype(np.bool_)),
    types_pb2.DT_STRING: _STRINGS,
    # The small ones are not checked against their own range: they wrap around.
    types_pb2.DT_INT8: _integers("int8", *_INT32),
    types_pb2.DT_UINT8: _integers("uint8", *_INT32),
    types_pb2.DT_INT16: _integers("int16", *_INT32),
    types_pb2.DT_INT32: _integers("int32", *_INT32),
    types_pb2.DT_INT64: _integers("int64", -(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: _integers("uint32", 0, 2**32 - 1),
    types_pb2.DT_UINT64: _integers("uint64", 0, 2**64 - 1),
}


def data_type_name(data_type: int) -> str:
    """Return TensorFlow's name of a type: "float", "double", "int32", "half" ..."""
    return types_pb2.DataType.Name(data_type).removeprefix("DT_").lower()


def to_array(value: Any, data_type: int) -> np.ndarray:
    """Return the tensor that a JSON value says: nested lists, or one element.

    Raises:
        StatusError: INVALID_ARGUMENT where the lists are ragged or an element is of
            another type, UNIMPLEMENTED where JSON cannot say elements of the type.
    """
    shape, leaves = _flatten(value)
    if len(shape) > _MAX_RANK:
        raise _invalid(
            f"Tensors have at most {_MAX_RANK} dimensions but got: {len(shape)}"
        )
    return _to_elements(leaves, data_type).reshape(shape)


def is_base64(value: Any) -> bool:
    """Whether a JSON value is {"b64": "..."}, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and type(value.get("b64")) is str


def decode_base64(value: Any) -> bytes:
    """Return the bytes of {"b64": "..."}. Raises StatusError: INVALID_ARGUMENT."""
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    # Padding and white space are the sender's choice.
    text = re.sub(r"\s+", "", value["b64"]).rstrip("=.")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("Unable to base64 decode") from None


def _flatten(value: Any) -> tuple[list[int], list[Any]]:
    """Return the shape by the first element of each level, and the elements."""
    shape = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    items = [value]
    for level, size in enumerate(shape):
        for item in items:
            if not isinstance(item, list):
                raise format_error(
                    item,
                    f"found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}",
                )
            if len(item) != size:
                raise _invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: "
                    f"{level} expected size: {size}"
                )
        items = list(chain.from_iterable(items))
    if list in set(map(type, items)):
        raise _invalid(
            f"Encountered list at unexpected level: {len(shape)} expected < "
            f"{len(shape)}"
        )
    return shape, items


def _to_elements(leaves: list[Any], data_type: int) -> np.ndarray:
    """Return a vector of the elements."""
    rule = _RULES.get(data_type)
    if rule is None:
        shown = debug_string(leaves[0]) if leaves else "[]"
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shown} to type: {data_type_name(data_type)}",
        )
    if not set(map(type, leaves)) <= rule.types:
        wrong = next(leaf for leaf in leaves if type(leaf) not in rule.types)
        raise _type_error(wrong, data_type)
    if rule is _STRINGS:
        elements = np.empty(len(leaves), object)
        elements[:] = [
            leaf.encode("utf-8") if type(leaf) is str else decode_base64(leaf)
            for leaf in leaves
        ]
        return elements
    if rule.bounds is not None:
        lowest, highest = rule.bounds
        if leaves and (min(leaves) < lowest or max(leaves) > highest):
            wrong = next(leaf for leaf in leaves if not lowest <= leaf <= highest)
            raise _type_error(wrong, data_type)
        wide = np.uint64 if highest > 2**63 else np.int64
        return np.array(leaves, wide).astype(rule.dtype)
    return _to_numbers(leaves, rule.dtype)


def _to_numbers(leaves: list[Any], dtype: np.dtype[Any]) -> np.ndarray:
    try:
        # float32 by way of float64, as RapidJSON does; what is too large is infinite.
        with np.errstate(over="ignore"):
            return np.array(leaves, np.float64).astype(dtype)
    except OverflowError:
        raise _invalid(
            "JSON Parse error: Number too big to be stored in double."
        ) from None


def _type_error(value: Any, data_type: int) -> StatusError:
    return format_error(
        value,
        f"Type: {type_name(value)} is not of expected type: "
        f"{data_type_name(data_type)}",
    )


def element_texts(array: np.ndarray, name: str) -> list[str]:
    """Return the JSON of each element, in C order.

    Args:
        name: of the output; strings of one that ends in `_bytes` are base64.

    Raises:
        StatusError: INVALID_ARGUMENT where JSON cannot say elements of the type.
    """
    kind = array.dtype
    if kind in (np.float32, np.float64):
        return float_texts(array)
    if kind == np.bool_:
        return ["true" if item else "false" for item in array.ravel().tolist()]
    if kind.kind in "iu" and kind != np.uint16:
        return list(map(str, array.ravel().tolist()))
    if kind.kind == "O":
        items = array.ravel().tolist()
        return list(map(_bytes_text if name.endswith(_BYTES_SUFFIX) else _text, items))
    data_type = tf.as_dtype(kind).as_datatype_enum
    raise _invalid(
        f"Failed to write JSON value for tensor type: {data_type_name(data_type)}"
    )


def float_texts(array: np.ndarray) -> list[str]:
    """Return the JSON of float32 or float64 numbers.

    Six digits where they say the number exactly, else as many as it takes (9 or 17);
    whole numbers keep a ".0", so that a reader sees what they are.
    """
    flat = array.ravel()
    numbers = flat.tolist()
    texts = ("%g " * len(numbers) % tuple(numbers)).split()
    with np.errstate(over="ignore"):  # the largest number, cut to six digits
        exact = np.array(list(map(float, texts)), np.float64).astype(flat.dtype) == flat
    precise = "%.9g" if flat.dtype == np.float32 else "%.17g"
    for index in np.flatnonzero(~exact).tolist():
        texts[index] = precise % numbers[index]
    texts = [text if "." in text or "e" in text else text + ".0" for text in texts]
    for index in np.flatnonzero(~np.isfinite(flat)).tolist():
        texts[index] = _name_of_no_number(numbers[index])
    return texts


def nest(texts: Sequence[str], shape: Sequence[int]) -> str:
    """Return elements as nested JSON lists of `shape`; the bare element for []."""
    return nest_rows(texts, [1, *shape])[0]


def nest_rows(texts: Sequence[str], shape: Sequence[int]) -> list[str]:
    """Return the JSON of each row (of the first dimension of `shape`)."""
    level = list(texts)
    for depth in range(len(shape) - 1, 0, -1):
        size = shape[depth]
        count = int(np.prod(shape[:depth], dtype=np.int64))
        level = [
            f"[{', '.join(level[row * size : (row + 1) * size])}]"
            for row in range(count)
        ]
    return level


def _name_of_no_number(number: float) -> str:
    if number != number:
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _text(item: bytes) -> str:
    # JSON is UTF-8; other bytes belong in an output whose name ends in `_bytes`.
    return json.dumps(item.decode("utf-8", "replace"), ensure_ascii=False)


def _bytes_text(item: bytes) -> str:
    return f'{{"b64": "{base64.b64encode(item).decode("ascii")}"}}'


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
