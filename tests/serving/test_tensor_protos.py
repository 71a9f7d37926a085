"""TensorProtos against TensorFlow's own make_tensor_proto and make_ndarray."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2

from kbert.serving.status import Code, StatusError
from kbert.serving.tensor_protos import array_from_proto, proto_from_array


def tensor_proto(dtype: str, shape: list[int], **values) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DataType.Value(dtype), **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


ARRAYS = {
    "float32": np.array([[1.5, -2.25], [0.0, 3e38]], np.float32),
    "float64": np.array([1e300, -0.1]),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-32768, 32767], np.int16),
    "int32": np.array([[-(2**31)], [2**31 - 1]], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint8": np.array([0, 255], np.uint8),
    "uint16": np.array([0, 65535], np.uint16),
    "uint32": np.array([0, 2**32 - 1], np.uint32),
    "uint64": np.array([0, 2**64 - 1], np.uint64),
    "bool": np.array([[True, False, True]]),
    "float16": np.array([0.5, -65504.0], np.float16),
    "bfloat16": np.array([0.5, -3.0], tf.bfloat16.as_numpy_dtype),
    "string": np.array([b"", b"\xff\x00", "日本".encode()], object),
    "scalar": np.array(7, np.int32),
    "empty": np.zeros((0, 5), np.float32),
    "no strings": np.zeros((0,), object),
}


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("name", ARRAYS)
def test_answers_are_what_tensorflow_reads(name: str, as_content: bool) -> None:
    array = ARRAYS[name]
    proto = proto_from_array(array, as_content=as_content)
    read = tf.make_ndarray(proto)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    assert proto.HasField("tensor_shape")
    is_packed = as_content and array.dtype != object and array.size > 0
    assert bool(proto.tensor_content) == is_packed


@pytest.mark.parametrize("name", ARRAYS)
def test_what_tensorflow_writes_is_read(name: str) -> None:
    array = ARRAYS[name]
    read = array_from_proto(tf.make_tensor_proto(array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("name", ARRAYS)
def test_what_it_writes_it_reads(name: str) -> None:
    array = ARRAYS[name]
    for as_content in (False, True):
        read = array_from_proto(proto_from_array(array, as_content=as_content))
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_strings_as_content_are_read() -> None:
    # The layout of port::EncodeStringList: all lengths, then all bytes.
    content = bytes([1, 0]) + b"\x80\x01" + b"a" + b"b" * 128
    proto = tensor_proto("DT_STRING", [3], tensor_content=content)
    assert array_from_proto(proto).tolist() == [b"a", b"", b"b" * 128]


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("int_val", [7], [7, 7, 7]),
        ("int_val", [1, 2], [1, 2, 2]),
        ("int_val", [], [0, 0, 0]),
        ("string_val", [b"a"], [b"a", b"a", b"a"]),
    ],
)
def test_fewer_values_stand_for_the_rest(field, values, expected) -> None:
    dtype = "DT_STRING" if field == "string_val" else "DT_INT32"
    proto = tensor_proto(dtype, [3], **{field: values})
    assert array_from_proto(proto).tolist() == expected


BAD = {
    "no dtype": (tensor_pb2.TensorProto(), "DT_INVALID"),
    "resource": (tensor_pb2.TensorProto(dtype=types_pb2.DT_RESOURCE), "DT_RESOURCE"),
    "variant": (tensor_pb2.TensorProto(dtype=types_pb2.DT_VARIANT), "DT_VARIANT"),
    "unknown dtype": (tensor_pb2.TensorProto(dtype=9999), "9999"),
}
for _name, _dtype, _shape, _values, _match in (
    ("short content", "DT_INT32", [2], {"tensor_content": b"1234567"}, "7 bytes.* 8"),
    ("long content", "DT_INT32", [1], {"tensor_content": b"12345678"}, "8 bytes.* 4"),
    ("negative", "DT_INT32", [-1], {"int_val": [1]}, "negative"),
    ("two negatives", "DT_INT32", [-2, -2], {"int_val": [1] * 4}, "negative"),
    ("bomb", "DT_FLOAT", [1 << 30], {"float_val": [1]}, "1 values stand for"),
    ("zero bomb", "DT_FLOAT", [1 << 30], {}, "0 values stand for"),
    ("string bomb", "DT_STRING", [1 << 20], {"string_val": [b"a"]}, "stand for"),
    ("overflow", "DT_INT32", [1 << 62, 4], {"int_val": [1]}, "too many"),
    ("hidden overflow", "DT_INT32", [0, 1 << 62, 4], {}, "too many"),
    ("too many values", "DT_INT32", [1], {"int_val": [1, 2]}, "1 elements and .* 2"),
    ("values of nothing", "DT_INT32", [0], {"int_val": [1]}, "0 elements"),
    ("two strings for three", "DT_STRING", [3], {"string_val": [b"", b""]}, "3 elem"),
    ("no strings", "DT_STRING", [2], {}, "2 elements and string_val 0"),
    ("other field", "DT_STRING", [1], {"float_val": [1.0]}, "string_val 0"),
    ("rank", "DT_INT32", [1] * 65, {"int_val": [1]}, "65 dimensions"),
    ("no bool", "DT_BOOL", [2], {"tensor_content": b"\x01\x02"}, "other than 0 and 1"),
    ("half a length", "DT_STRING", [1], {"tensor_content": b"\x80"}, "length"),
    ("long length", "DT_STRING", [1], {"tensor_content": b"\xff" * 9}, "length"),
    ("lengths say more", "DT_STRING", [1], {"tensor_content": b"\x02a"}, "lengths say"),
    ("string content bomb", "DT_STRING", [1 << 30], {"tensor_content": b"a"}, "short"),
):
    BAD[_name] = (tensor_proto(_dtype, _shape, **_values), _match)
BAD["unknown rank"] = (
    tensor_pb2.TensorProto(
        dtype=types_pb2.DT_INT32, tensor_shape={"unknown_rank": True}, int_val=[1]
    ),
    "unknown rank",
)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_tensor_is_the_clients_mistake(name: str) -> None:
    proto, match = BAD[name]
    with pytest.raises(StatusError, match=match) as caught:
        array_from_proto(proto)
    assert caught.value.code is Code.INVALID_ARGUMENT


@st.composite
def protos(draw: st.DrawFn) -> tensor_pb2.TensorProto:
    served = st.sampled_from([tf.as_dtype(a.dtype) for a in ARRAYS.values()])
    every = st.sampled_from(types_pb2.DataType.values())
    dtype = draw(st.one_of(served.map(lambda d: d.as_datatype_enum), every))
    proto = tensor_pb2.TensorProto(dtype=dtype)
    sizes = st.one_of(st.integers(0, 3), st.sampled_from([-1, 1 << 17, 1 << 62]))
    for size in draw(st.lists(sizes, max_size=3)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.integers(0, 9)) == 0
    if draw(st.integers(0, 3)) == 0:
        proto.tensor_content = draw(st.binary(max_size=24))
    for field, values in (
        ("float_val", st.floats(width=32)),
        ("int_val", st.integers(-300, 300)),
        ("int64_val", st.integers(-(2**63), 2**63 - 1)),
        ("half_val", st.integers(0, 65535)),
        ("string_val", st.binary(max_size=3)),
    ):
        getattr(proto, field).extend(draw(st.lists(values, max_size=4)))
    return proto


@settings(max_examples=500, deadline=None)
@given(protos())
def test_what_is_accepted_is_what_tensorflow_would_read(
    proto: tensor_pb2.TensorProto,
) -> None:
    try:
        array = array_from_proto(proto)
    except StatusError as error:
        assert error.code is Code.INVALID_ARGUMENT
        return
    # Tensor::FromProto, which TensorFlow Serving calls, too.
    expected = tf.io.parse_tensor(proto.SerializeToString(), proto.dtype).numpy()
    # Of a single string TensorFlow gives the bytes themselves.
    is_text = isinstance(expected, bytes)
    assert array.dtype == (object if is_text else np.asarray(expected).dtype)
    np.testing.assert_array_equal(array, expected)
