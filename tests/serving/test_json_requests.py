import numpy as np
import pytest
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.framework import types_pb2

from kbert.serving.json_requests import predict_inputs, read_examples, signature_name
from kbert.serving.status import Code, StatusError

TEXT = {"text": types_pb2.DT_STRING}
FLOAT = {"x": types_pb2.DT_FLOAT}
TWO = {"b": types_pb2.DT_STRING, "a": types_pb2.DT_INT32}


def error_of(document: dict, data_types: dict, name: str = "") -> StatusError:
    with pytest.raises(StatusError) as caught:
        predict_inputs(document, data_types, name)
    assert caught.value.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
    return caught.value


def test_rows_of_bare_values():
    inputs, in_rows = predict_inputs({"instances": ["a", {"b64": "/w=="}]}, TEXT, "")
    assert in_rows
    assert inputs["text"].tolist() == [b"a", b"\xff"]


def test_rows_of_objects():
    rows = [{"a": [1, 2], "b": "x"}, {"b": "y", "a": [3, 4]}]
    inputs, in_rows = predict_inputs({"instances": rows}, TWO, "")
    assert in_rows
    np.testing.assert_array_equal(inputs["a"], np.int32([[1, 2], [3, 4]]))
    assert inputs["b"].tolist() == [b"x", b"y"]


def test_rows_of_one_input_may_be_objects():
    inputs, _ = predict_inputs({"instances": [{"x": 1}, {"x": 2}]}, FLOAT, "")
    np.testing.assert_array_equal(inputs["x"], np.float32([1, 2]))


@pytest.mark.parametrize("value", [["a", "b"], {"text": ["a", "b"], "extra": 1}])
def test_columns_of_one_input(value: object):
    inputs, in_rows = predict_inputs({"inputs": value, "other": 0}, TEXT, "")
    assert not in_rows
    assert inputs["text"].tolist() == [b"a", b"b"]


def test_columns_may_be_scalars_and_base64():
    assert predict_inputs({"inputs": 3}, FLOAT, "")[0]["x"].shape == ()
    found, _ = predict_inputs({"inputs": {"b64": "YQ=="}}, TEXT, "")
    assert found["text"].item() == b"a"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        (
            {"instances": [1], "inputs": [1]},
            "expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        ({"instances": {"x": 1}}, "Expecting 'instances' to be an list/array"),
        ({"instances": None}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        (
            {"instances": [1, "2"]},
            "Failed to process element: 1 of 'instances' list. Error: "
            'INVALID_ARGUMENT: JSON Value: "2" Type: String is not of expected type: '
            "float",
        ),
        (
            {"instances": [[1, 2], [1]]},
            "Failed to process element: 1 of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
        ),
        (
            {"instances": [[1, 2], [[1], [2]]]},
            "Failed to process element: 1 of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting shape [2] but got: [2,1]",
        ),
        ({"instances": [1, {"x": 1}]}, "got object at item 1 of input list"),
        ({"instances": [{"x": 1}, 1]}, "Expecting object but got list at item 1"),
        (
            {"instances": [{"x": 1}, {"z": 1}]},
            "Failed to process element: 1 key: z of 'instances' list. Error: "
            "INVALID_ARGUMENT: JSON object: does not have named input: z",
        ),
        (
            {"instances": [{"x": "a"}]},
            "Failed to process element: 0 key: x of 'instances' list. Error: ",
        ),
        ({"inputs": {"z": 1}}, "Missing named input: x in 'inputs' object."),
        ({"inputs": [[1], [1, 2]]}, "Encountered list at unexpected size: 2"),
        (
            {"inputs": "1"},
            'JSON Value: "1" Type: String is not of expected type: float',
        ),
    ],
)
def test_mistakes(document: dict, message: str):
    assert message in error_of(document, FLOAT).message


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"instances": [1]},
            "instances is a plain list, but expecting list of objects",
        ),
        ({"inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
        (
            {"instances": [{"a": 1, "b": "x"}, {"a": 1}]},
            "Failed to process element: 1 of 'instances' list. JSON object: "
            '{\n    "a": 1\n} keys must be equal to: a,b',
        ),
        ({"inputs": {"a": [1]}}, "Missing named input: b in 'inputs' object."),
    ],
)
def test_mistakes_with_two_inputs(document: dict, message: str):
    assert message in error_of(document, TWO).message


def test_a_signature_without_inputs():
    message = error_of({"inputs": {}}, {}).message
    assert message == "Failed to get input map for signature: DEFAULT"
    assert error_of({"inputs": {}}, {}, "init").message.endswith(": init")


def test_a_type_that_json_cannot_say():
    half = {"x": types_pb2.DT_HALF}
    assert error_of({"inputs": [1]}, half).code is Code.UNIMPLEMENTED
    error = error_of({"instances": [1]}, half)
    assert error.code is Code.INVALID_ARGUMENT  # as TensorFlow Serving wraps it
    assert "UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half" in error.message


def test_signature_name():
    assert signature_name({}) == ""
    assert signature_name({"signature_name": "s"}) == "s"
    with pytest.raises(StatusError, match="key must be a string value"):
        signature_name({"signature_name": 1})


def examples_of(document: dict) -> list[Example]:
    return [Example.FromString(item) for item in read_examples(document)]


def test_examples():
    features = {
        "text": "ü",
        "raw": {"b64": "/w=="},
        "count": [1, -2],
        "score": [0.5, 2.0],
        "flag": True,
        "large": 2**64,
        "none": [],
    }
    (example,) = examples_of({"examples": [features]})
    feature = example.features.feature
    assert feature["text"].bytes_list.value[0] == "ü".encode()
    assert feature["raw"].bytes_list.value[0] == b"\xff"
    assert list(feature["count"].int64_list.value) == [1, -2]
    assert list(feature["score"].float_list.value) == [0.5, 2.0]
    assert list(feature["flag"].int64_list.value) == [1]
    assert list(feature["large"].float_list.value) == [2.0**64]
    assert feature["none"].WhichOneof("kind") is None


def test_context_is_in_every_example_and_gives_way_to_it():
    context = {"text": "c", "lang": "de"}
    found = examples_of({"context": context, "examples": [{}, {"text": "e"}]})
    texts = [e.features.feature["text"].bytes_list.value[0] for e in found]
    langs = [e.features.feature["lang"].bytes_list.value[0] for e in found]
    assert texts == [b"c", b"e"]
    assert langs == [b"de", b"de"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [None]}, "Example must be JSON object but got JSON Null"),
        ({"context": [], "examples": [{}]}, "Example must be JSON object but got"),
        ({"examples": [{"f": None}]}, "f has element with unexpected JSON type: Null"),
        ({"examples": [{"f": [[]]}]}, "f has element with unexpected JSON type: Array"),
        ({"examples": [{"f": {}}]}, "f has element with unexpected JSON type: Object"),
        ({"examples": [{"f": [1, "a"]}]}, "feature: f expecting type: int64"),
        ({"examples": [{"f": [1, 0.5]}]}, "feature: f expecting type: int64"),
        ({"examples": [{"f": ["a", True]}]}, "feature: f expecting type: bytes"),
        ({"examples": [{"f": [0.5, 1]}]}, "feature: f expecting type: float"),
        ({"examples": [{"f": 2**63}]}, "Feature: f has uint64_t element."),
        ({"examples": [{"f": 10**400}]}, "Number too big"),
        ({"examples": [{"f": {"b64": "*"}}]}, "Unable to base64 decode"),
    ],
)
def test_mistakes_in_examples(document: dict, message: str):
    with pytest.raises(StatusError) as caught:
        read_examples(document)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert message in caught.value.message
