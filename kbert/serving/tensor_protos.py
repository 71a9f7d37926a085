"""TensorProto <-> NumPy, for bytes that anybody may have sent.

A TensorProto of 20 bytes can claim any shape: one value stands for all. Everything is
checked before an array is made, and what is wrong is the client's mistake
(INVALID_ARGUMENT). Reads what `Tensor::FromProto` of TensorFlow reads.
"""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from kbert.serving.status import Code, StatusError

# Field of each dtype's values. Complex, quantized, resource and variant tensors have
# no place in a served model's signature.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_STRING: "string_val",
}
_MAX_RANK = 64  # NumPy's
_MAX_ELEMENTS = 1 << 31
# How many elements fewer values may stand for.
_MAX_FILLED = 1 << 16


def array_from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array of a TensorProto; strings as an object array of bytes.

    Raises:
        StatusError: INVALID_ARGUMENT, the dtype is none that is served, the shape is
            none, or the values are not as many as the shape says.
    """
    if proto.dtype not in _FIELDS:
        raise _invalid(f"dtype {_dtype_name(proto.dtype)} is not served")
    shape = _shape(proto)
    count = math.prod(shape)
    if proto.tensor_content:
        return _from_content(proto, count).reshape(shape)
    values = getattr(proto, _FIELDS[proto.dtype])
    _check_count(proto, len(values), count)
    if proto.dtype == types_pb2.DT_STRING:
        array = np.empty(count, dtype=object)
        array[:] = list(values) if len(values) == count else values[0]
    elif proto.dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        bits = np.asarray(values, np.int64).astype(np.uint16)
        array = _filled(bits, count).view(_numpy_dtype(proto.dtype))
    else:
        wide = np.int64 if _FIELDS[proto.dtype] == "int_val" else None
        array = np.fromiter(values, wide or _numpy_dtype(proto.dtype), len(values))
        array = _filled(array.astype(_numpy_dtype(proto.dtype)), count)
    return array.reshape(shape)


def proto_from_array(array: np.ndarray, *, as_content: bool) -> tensor_pb2.TensorProto:
    """The TensorProto of an array, as TensorFlow Serving answers.

    Args:
        array: an output of a model.
        as_content: as one string of bytes (smaller, quicker); otherwise as numbers in
            the dtype's own field.
    """
    if as_content and array.dtype != object:
        dtype = tf.as_dtype(array.dtype)
        proto = _empty_proto(dtype.as_datatype_enum, array.shape)
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
        return proto
    is_text = array.dtype.kind in "OS"
    enum = types_pb2.DT_STRING if is_text else tf.as_dtype(array.dtype).as_datatype_enum
    proto = _empty_proto(enum, array.shape)
    values = array.ravel()
    if _FIELDS[enum] == "half_val":
        values = values.view(np.uint16)
    getattr(proto, _FIELDS[enum]).extend(values.tolist())
    return proto


def _empty_proto(enum: int, shape: tuple[int, ...]) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=enum)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()  # a scalar has a shape, too
    return proto


def _shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank:
        raise _invalid("its shape has an unknown rank")
    if len(shape) > _MAX_RANK:
        raise _invalid(f"its shape has {len(shape)} dimensions, over {_MAX_RANK}")
    if any(size < 0 for size in shape):
        raise _invalid(f"its shape {list(shape)} has a negative dimension")
    # A zero does not excuse the others: NumPy multiplies them all the same.
    if math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        raise _invalid(f"its shape {list(shape)} has too many elements")
    return shape


def _check_count(proto: tensor_pb2.TensorProto, received: int, count: int) -> None:
    """Of fewer values than elements the last one, or else a zero, stands for the rest.

    Of strings only a single one does: two for three are rather a client's mistake.
    """
    is_text = proto.dtype == types_pb2.DT_STRING
    if received > count or (is_text and received not in (1, count)):
        raise _invalid(
            f"its shape has {count} elements and {_FIELDS[proto.dtype]} {received}"
        )
    if received < count and count > _MAX_FILLED:
        raise _invalid(
            f"{received} values stand for {count} elements, over {_MAX_FILLED}"
        )


def _from_content(proto: tensor_pb2.TensorProto, count: int) -> np.ndarray:
    content = proto.tensor_content
    if proto.dtype == types_pb2.DT_STRING:
        return _strings_from_content(content, count)
    dtype = _numpy_dtype(proto.dtype)
    if len(content) != count * dtype.itemsize:
        raise _invalid(
            f"tensor_content has {len(content)} bytes and its shape asks for "
            f"{count * dtype.itemsize}"
        )
    if dtype == np.bool_:
        values = np.frombuffer(content, np.uint8)
        if (values > 1).any():  # TensorFlow refuses it
            raise _invalid("tensor_content of DT_BOOL has a byte other than 0 and 1")
        return values != 0
    return np.frombuffer(content, dtype).copy()


def _strings_from_content(content: bytes, count: int) -> np.ndarray:
    """All lengths as varints, then all bytes: `port::DecodeStringList`."""
    if count > len(content):
        raise _invalid(f"tensor_content is too short for {count} strings")
    lengths, position = [], 0
    for _ in range(count):
        length, position = _varint(content, position)
        lengths.append(length)
    if sum(lengths) != len(content) - position:
        raise _invalid("tensor_content does not hold what its lengths say")
    array = np.empty(count, dtype=object)
    for index, length in enumerate(lengths):
        array[index] = content[position : position + length]
        position += length
    return array


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _invalid("tensor_content ends in the middle of a length")


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) == count:
        return values
    filled = np.full(count, values[-1] if len(values) else 0, values.dtype)
    filled[: len(values)] = values
    return filled


def _numpy_dtype(enum: int) -> np.dtype:
    return np.dtype(tf.as_dtype(enum).as_numpy_dtype)


def _dtype_name(enum: int) -> str:
    known = enum in types_pb2.DataType.values()
    return types_pb2.DataType.Name(enum) if known else str(enum)


def _invalid(reason: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, f"tensor parsing error: {reason}")
