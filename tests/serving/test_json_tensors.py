import json
import math
import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import types_pb2

from kbert.serving.json_tensors import (
    element_texts,
    float_texts,
    nest,
    nest_rows,
    to_array,
)
from kbert.serving.status import Code, StatusError

DTYPES = {
    types_pb2.DT_FLOAT: np.float32,
    types_pb2.DT_DOUBLE: np.float64,
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_INT16: np.int16,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_UINT64: np.uint64,
    types_pb2.DT_BOOL: np.bool_,
    types_pb2.DT_STRING: object,
}


def error_of(value: object, data_type: int) -> StatusError:
    with pytest.raises(StatusError) as caught:
        to_array(value, data_type)
    return caught.value


@pytest.mark.parametrize("data_type", DTYPES)
def test_every_type_keeps_shape_and_values(data_type: int):
    element = {types_pb2.DT_BOOL: True, types_pb2.DT_STRING: "ü"}.get(data_type, 3)
    found = to_array([[element, element, element], [element] * 3], data_type)
    expected = "ü".encode() if element == "ü" else element
    assert found.dtype == DTYPES[data_type]
    assert found.shape == (2, 3)
    assert found.tolist() == [[expected] * 3] * 2


@pytest.mark.parametrize(
    ("value", "shape"), [(1, ()), ([], (0,)), ([[], []], (2, 0)), ([[[5]]], (1, 1, 1))]
)
def test_shapes(value: object, shape: tuple[int, ...]):
    assert to_array(value, types_pb2.DT_INT32).shape == shape


@pytest.mark.parametrize(
    ("data_type", "value", "shown"),
    [
        (types_pb2.DT_INT32, 1.0, "1.0 Type: Number"),
        (types_pb2.DT_INT32, True, "true Type: True"),
        (types_pb2.DT_INT32, 2**31, "2147483648 Type: Number"),
        (types_pb2.DT_INT32, -(2**31) - 1, "-2147483649 Type: Number"),
        (types_pb2.DT_INT64, 2**63, "9223372036854775808 Type: Number"),
        (types_pb2.DT_UINT32, -1, "-1 Type: Number"),
        (types_pb2.DT_UINT64, 2**64, "Type: Number"),
        (types_pb2.DT_FLOAT, "1", '"1" Type: String'),
        (types_pb2.DT_FLOAT, False, "false Type: False"),
        (types_pb2.DT_FLOAT, {"b64": "eA=="}, "Type: Object"),
        (types_pb2.DT_BOOL, 1, "1 Type: Number"),
        (types_pb2.DT_STRING, 1, "1 Type: Number"),
        (types_pb2.DT_STRING, None, "null Type: Null"),
    ],
)
def test_elements_of_another_type(data_type: int, value: object, shown: str):
    error = error_of([value], data_type)
    assert error.code is Code.INVALID_ARGUMENT
    name = {types_pb2.DT_FLOAT: "float"}.get(
        data_type, types_pb2.DataType.Name(data_type)[3:].lower()
    )
    assert shown in error.message
    assert error.message.endswith(f" is not of expected type: {name}")


def test_floats_take_integers_and_what_is_no_number():
    found = to_array([1, 2.5, math.inf, -math.inf, math.nan, 10**30], 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found, np.float32([1, 2.5, np.inf, -np.inf, np.nan, 1e30])
    )
    assert to_array(1e300, types_pb2.DT_FLOAT) == np.inf


def test_an_integer_that_no_double_holds():
    error = error_of([10**400], types_pb2.DT_DOUBLE)
    assert "Number too big to be stored in double." in error.message


def test_small_integers_wrap_around():
    assert to_array([300, -1], types_pb2.DT_UINT8).tolist() == [44, 255]
    assert to_array([200], types_pb2.DT_INT8).tolist() == [-56]


def test_64_bits_are_exact():
    big = [2**63 - 1, -(2**63), 2**53 + 1]
    assert to_array(big, types_pb2.DT_INT64).tolist() == big
    assert to_array([2**64 - 1, 0], types_pb2.DT_UINT64).tolist() == [2**64 - 1, 0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("YWJj", b"abc"),
        ("YWI=", b"ab"),
        ("YWI", b"ab"),
        ("YQ", b"a"),
        (" Y Q=\n=", b"a"),
        ("", b""),
        ("//8=", b"\xff\xff"),
    ],
)
def test_base64(value: str, expected: bytes):
    assert to_array({"b64": value}, types_pb2.DT_STRING).item() == expected


@pytest.mark.parametrize("value", ["Y", "Y*==", "ü", "YQ==YQ=="])
def test_what_is_no_base64(value: str):
    error = error_of([{"b64": value}], types_pb2.DT_STRING)
    assert error.message == "Unable to base64 decode"


@pytest.mark.parametrize("value", [{}, {"b64": 1}, {"b64": "eA==", "x": 1}])
def test_objects_that_are_no_base64(value: dict):
    error = error_of([value], types_pb2.DT_STRING)
    assert "not formatted correctly for base64 data" in error.message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [[1, 2], [3]],
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            [[1], 2],
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. "
            "Expected at level: 2",
        ),
        ([1, [2]], "Encountered list at unexpected level: 1 expected < 1"),
    ],
)
def test_ragged_lists(value: list, message: str):
    assert error_of(value, types_pb2.DT_INT32).message == message


def test_more_dimensions_than_an_array_has():
    deep: list = [1]
    for _ in range(500):
        deep = [deep]
    assert "at most 64 dimensions but got: 501" in error_of(deep, 3).message


@pytest.mark.parametrize(
    ("data_type", "name"),
    [
        (types_pb2.DT_HALF, "half"),
        (types_pb2.DT_BFLOAT16, "bfloat16"),
        (types_pb2.DT_COMPLEX64, "complex64"),
        (types_pb2.DT_UINT16, "uint16"),
    ],
)
def test_inputs_of_types_that_json_cannot_say(data_type: int, name: str):
    error = error_of([1.5], data_type)
    assert error.code is Code.UNIMPLEMENTED
    assert error.message == f"Conversion of JSON Value: 1.5 to type: {name}"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e-7, "1e-07"),
        (123456.0, "123456.0"),
        (1234567.0, "1234567.0"),
        (9e6, "9e+06"),
        (3.4028235e38, "3.40282347e+38"),
        (1e-45, "1.4013e-45"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_float32_as_tensorflow_serving_prints_it(number: float, text: str):
    assert float_texts(np.array([number], np.float32)) == [text]


def test_float64_has_up_to_17_digits():
    found = float_texts(np.array([0.1, 1 / 3, 2.0, 1.7976931348623157e308]))
    assert found == ["0.1", "0.33333333333333331", "2.0", "1.7976931348623157e+308"]


@given(
    arrays.arrays(
        np.float32,
        st.integers(0, 20),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_floats_are_as_short_as_exact_allows(numbers: np.ndarray):
    for number, text in zip(numbers, float_texts(numbers), strict=True):
        short = f"{float(number):g}"
        assert np.float32(text) == number
        assert re.search(r"[.e]", text)
        if np.float32(short) == number:
            assert text in (short, short + ".0")
        assert isinstance(json.loads(text), float)


@given(
    arrays.arrays(
        st.sampled_from([np.int8, np.uint32, np.int64, np.uint64, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    )
)
def test_nested_lists_are_those_of_numpy(array: np.ndarray):
    texts = element_texts(array, "y")
    assert json.loads(nest(texts, array.shape)) == array.tolist()
    if array.ndim:
        rows = nest_rows(texts, array.shape)
        assert [json.loads(row) for row in rows] == array.tolist()


def test_strings_and_bytes():
    array = np.empty(3, object)
    array[:] = [b'a"\n\0', "ü\u2028😀".encode(), b"\xff"]
    texts = element_texts(array, "label")
    assert [json.loads(text) for text in texts] == ['a"\n\0', "ü\u2028😀", "\ufffd"]
    assert json.loads(element_texts(array, "image_bytes")[2]) == {"b64": "/w=="}


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float16, "half"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.complex64, "complex64"),
        (np.uint16, "uint16"),
    ],
)
def test_outputs_of_types_that_json_cannot_say(dtype: type, name: str):
    with pytest.raises(StatusError) as caught:
        element_texts(np.zeros(1, dtype), "y")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == (
        f"Failed to write JSON value for tensor type: {name}"
    )
