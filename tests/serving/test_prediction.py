import re

import numpy as np
import pytest
import tensorflow as tf

from kbert.serving.metrics import Metrics
from kbert.serving.prediction import classify, predict, regress, signature_def
from kbert.serving.status import Code, StatusError
from tests.serving.fake_models import FakeServable, signature, strings, toy_servable

X = {"x": np.float32([1, 2])}
IN = {"inputs": ("string", [-1])}


def servable(
    inputs: dict, outputs: dict, found: dict | None = None, method: str = "predict"
) -> FakeServable:
    """A model with one signature that always answers `found`."""
    return FakeServable(
        {"serving_default": signature(inputs, outputs, method)},
        {"serving_default": lambda _: found or {}},
    )


def code_and_message(call, *arguments) -> tuple[Code, str]:
    with pytest.raises(StatusError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.message


def test_predict_by_the_default_signature():
    toy = toy_servable()
    found = predict(toy, "", X, (), 2.5)
    np.testing.assert_array_equal(found["y"], np.float32([2.5, 3]))
    assert toy.timeouts == [2.5]


def test_predict_gives_the_outputs_asked_for():
    inputs = {"a": np.int32([[1, 2]]), "b": strings("x")}
    assert list(predict(toy_servable(), "two", inputs, ["sums"], None)) == ["sums"]
    assert set(predict(toy_servable(), "two", inputs, (), None)) == {"sums", "b_bytes"}


@pytest.mark.parametrize(
    ("name", "inputs", "output_filter", "message"),
    [
        (
            "",
            {},
            (),
            "input size does not match signature: 0!=1 len({}) != len({x}). "
            "Sent extra: {}. Missing but required: {x}.",
        ),
        (
            "",
            {**X, "z": X["x"]},
            (),
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
            "Sent extra: {z}. Missing but required: {}.",
        ),
        ("", {"z": X["x"]}, (), 'Signature input alias: "x" not found in request'),
        ("", X, ["z"], "output tensor alias not found in signature: z "),
        ("", X, ["y", "y"], "duplicate output tensor alias: y"),
        ("", {"x": np.float64([1])}, (), "Expects arg[0] to be float but double is"),
        ("", {"x": strings("a")}, (), "Expects arg[0] to be float but string is"),
        ("init_op", {}, (), "Tensor NoOp:0, specified in either feed_devices"),
    ],
)
def test_predict_checks_names_and_types(name, inputs, output_filter, message):
    found = code_and_message(predict, toy_servable(), name, inputs, output_filter, None)
    assert found[0] is Code.INVALID_ARGUMENT
    assert message in found[1]


def test_a_default_stands_for_an_input_not_sent():
    toy = servable({"x": ("float32", [-1]), "k": ("int32", [])}, {}, {})
    toy.functions["serving_default"] = lambda inputs: {"y": inputs["x"] * inputs["k"]}
    definition = toy.signatures["serving_default"]
    definition.outputs["y"].CopyFrom(definition.inputs["x"])
    definition.defaults["k"].CopyFrom(tf.make_tensor_proto(3, tf.int32))
    np.testing.assert_array_equal(predict(toy, "", X, (), None)["y"], [3, 6])
    found = code_and_message(predict, toy, "", {"k": np.int32(1)}, (), None)
    assert "not found in request" in found[1]


def test_an_unknown_signature_in_rest_and_in_grpc():
    toy = toy_servable()
    assert signature_def(toy, "", rest=True) == toy.signatures["serving_default"]
    assert code_and_message(signature_def, toy, "s", True) == (
        Code.INVALID_ARGUMENT,
        'Serving signature name: "s" not found in signature def',
    )
    assert code_and_message(predict, toy, "s", X, (), None) == (
        Code.FAILED_PRECONDITION,
        'Serving signature key "s" not found.',
    )
    for call in (classify, regress):
        assert code_and_message(call, toy, "s", [b""], None) == (
            Code.INVALID_ARGUMENT,
            "No signature was found with the name: s",
        )


def test_classify():
    found = classify(toy_servable(), "classify", [b"", b""], 1)
    assert found == [[("neg", 0.25), ("pos", 0.75)]] * 2


def test_classify_with_one_output_only():
    scores = {"scores": np.float32([[1, 2]])}
    toy = servable(IN, {"scores": ("float32", [-1, 2])}, scores)
    assert classify(toy, "", [b""], None) == [[("", 1.0), ("", 2.0)]]
    classes = {"classes": np.array([[b"a", b"\xff"]], object)}
    toy = servable(IN, {"classes": ("string", [-1, 2])}, classes)
    assert classify(toy, "", [b""], None) == [[("a", 0.0), ("\ufffd", 0.0)]]


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_regress(shape: tuple[int, ...]):
    outputs = {"outputs": np.float32([1, 0.5]).reshape(shape)}
    toy = servable(IN, {"outputs": ("float32", [-1])}, outputs)
    assert regress(toy, "", [b"", b""], None) == [1.0, 0.5]


SCORES = {"scores": ("float32", [-1, 2])}
BOTH = {"classes": ("string", [-1, 2]), **SCORES}


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({**IN, "x": IN["inputs"]}, SCORES, "Expected one input Tensor."),
        ({"text": IN["inputs"]}, SCORES, "No classification inputs found"),
        (IN, {}, "Expected one or two output Tensors, found 0"),
        (
            IN,
            {**BOTH, "z": ("int8", [])},
            "Expected one or two output Tensors, found 3",
        ),
        (IN, {"z": ("float32", [-1, 2])}, 'at least one of "classes" or "scores"'),
        ({"inputs": ("float32", [-1])}, SCORES, "Expects arg[0] to be float but"),
    ],
)
def test_signatures_that_do_not_classify(inputs, outputs, message):
    found = code_and_message(classify, servable(inputs, outputs), "", [b""], None)
    assert found[0] is Code.INVALID_ARGUMENT
    assert message in found[1]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (
            {"outputs": ("float32", [-1]), "z": ("int8", [])},
            "Expected one output Tensor.",
        ),
        ({"z": ("float32", [-1])}, "No regression outputs found in SignatureDef"),
    ],
)
def test_signatures_that_do_not_regress(outputs, message):
    found = code_and_message(regress, servable(IN, outputs), "", [b""], None)
    assert found[0] is Code.INVALID_ARGUMENT
    assert message in found[1]


@pytest.mark.parametrize(
    ("classes", "scores", "message"),
    [
        (np.array([b"a"], object), np.ones((1, 1), "f4"), "shape: [batch_size num_c"),
        (np.ones((1, 1)), np.ones((1, 1), "f4"), "classes Tensor of DT_STRING. Got: "),
        (
            np.array([[b"a"]], object),
            np.ones((1, 1)),
            "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE",
        ),
        (
            np.array([[b"a"]] * 2, object),
            np.ones((1, 1), "f4"),
            "Expected classes output batch size of 1. Got: 2",
        ),
        (
            np.array([[b"a"]], object),
            np.ones((1, 3), "f4"),
            "should match in dim_size(1). Got 1 vs. 3",
        ),
    ],
)
def test_classifications_of_a_wrong_shape_or_type(classes, scores, message):
    toy = servable(IN, BOTH, {"classes": classes, "scores": scores})
    assert message in code_and_message(classify, toy, "", [b""], None)[1]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.ones((1, 2), "f4"), "[batch_size, 1] but got [1,2]"),
        (np.ones(2, "f4"), "did not match output batch size: 1 vs. 2"),
        (np.ones(1), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_regressions_of_a_wrong_shape_or_type(outputs, message):
    toy = servable(IN, {"outputs": ("float32", [-1])}, {"outputs": outputs})
    assert message in code_and_message(regress, toy, "", [b""], None)[1]


def test_no_examples():
    for call in (classify, regress):
        found = code_and_message(call, toy_servable(), call.__name__, [], None)
        assert found == (Code.INVALID_ARGUMENT, "Input is empty.")


def test_examples_and_time_in_the_session_are_counted():
    metrics = Metrics()
    classify(toy_servable(), "classify", [b"", b""], None, metrics)
    predict(toy_servable(), "", X, (), None, metrics)
    text = metrics.exposition()
    assert 'request_example_count_total{model="toy"} 2' in text
    for api in ("Classify", "Predict"):
        pattern = (
            r"runtime_latency_count\{model_name=\"toy\",API=\"" + api + ".*TF1.* 1"
        )
        assert re.search(pattern, text)
