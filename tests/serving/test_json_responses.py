import json

import numpy as np
import pytest

from kbert.serving.json_responses import (
    classify_response,
    error_response,
    metadata_response,
    predict_response,
    regress_response,
    status_response,
)
from kbert.serving.status import Code, StatusError
from tests.serving.fake_models import FakeState, strings, toy_servable

Y = np.float32([[0.5, 1.0], [0.1, np.nan]])


def test_rows_of_one_output_are_bare_values():
    assert predict_response({"y": Y}, rows=True) == (
        b'{"predictions": [[0.5, 1.0], [0.1, NaN]]}'
    )


def test_rows_of_several_outputs_are_objects():
    outputs = {"y": Y[:, 0], "label": strings("a", 'b"')}
    assert json.loads(predict_response(outputs, rows=True)) == {
        "predictions": [{"label": "a", "y": 0.5}, {"label": 'b"', "y": 0.1}]
    }


def test_columns():
    assert predict_response({"y": Y[:1]}, rows=False) == b'{"outputs": [[0.5, 1.0]]}'
    outputs = {"n": np.int64([1, 2]), "raw_bytes": strings(b"\xff", "a")}
    assert json.loads(predict_response(outputs, rows=False)) == {
        "outputs": {"n": [1, 2], "raw_bytes": [{"b64": "/w=="}, {"b64": "YQ=="}]}
    }


def test_columns_may_be_scalars():
    outputs = {"a": np.array(True), "b": np.zeros([2, 0], np.int8)}
    assert json.loads(predict_response(outputs, rows=False)) == {
        "outputs": {"a": True, "b": [[], []]}
    }


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        (
            {"a": np.zeros(2), "b": np.zeros(3)},
            "Tensor name: b has inconsistent batch size: 3 expecting: 2",
        ),
    ],
)
def test_rows_need_a_common_first_dimension(outputs: dict, message: str):
    with pytest.raises(StatusError) as caught:
        predict_response({k: np.asarray(v) for k, v in outputs.items()}, rows=True)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == message


def test_classification():
    results = [[("neg", float(np.float32(0.1))), ("p\n", 0.75)], []]
    assert classify_response(results) == (
        b'{"results": [[["neg", 0.1], ["p\\n", 0.75]], []]}'
    )


def test_regression():
    assert regress_response([2.0, float(np.float32(0.1))]) == b'{"results": [2.0, 0.1]}'


def test_status_newest_first():
    states = [FakeState(9, "END", 5, 'no "x"'), FakeState(10, "AVAILABLE")]
    assert json.loads(status_response(states)) == {
        "model_version_status": [
            {
                "version": "10",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            },
            {
                "version": "9",
                "state": "END",
                "status": {"error_code": "NOT_FOUND", "error_message": 'no "x"'},
            },
        ]
    }


def test_metadata():
    found = json.loads(metadata_response("toy", 2, toy_servable().signatures))
    assert found["model_spec"] == {
        "name": "toy",
        "signature_name": "",
        "version": "2",
    }
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"] == {
        "inputs": {
            "x": {
                "name": "x:0",
                "dtype": "DT_FLOAT",
                "tensor_shape": {
                    "dim": [{"size": "-1", "name": ""}],
                    "unknown_rank": False,
                },
            }
        },
        "outputs": {
            "y": {
                "name": "y:0",
                "dtype": "DT_FLOAT",
                "tensor_shape": {
                    "dim": [{"size": "-1", "name": ""}],
                    "unknown_rank": False,
                },
            }
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert "init_op" in signatures


def test_errors_hold_no_html_and_any_text():
    body = error_response('<script>"\udc80')
    assert b"<" not in body
    assert json.loads(body) == {"error": '<script>"?'}
