"""The gRPC services, asked through TensorFlow Serving's own stubs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kbert.errors import ServingError
from kbert.serving.gate import Gate
from kbert.serving.grpc_api import GrpcOptions, GrpcServer
from kbert.serving.grpc_calls import MAX_MESSAGE_BYTES, truncate
from kbert.serving.manager import ManagerOptions, ModelManager
from kbert.serving.metrics import Metrics
from kbert.serving.model_config import single_model_config
from kbert.serving.servable import LoadOptions
from tests.serving.certificates import make_certificate
from tests.serving.models import (
    half_plus_two,
    toy_probabilities,
    write_half_plus_two,
    write_oddities,
    write_toy_classifier,
)
from tests.serving.ports import free_port

StatusCode = grpc.StatusCode
OPTIONS = GrpcOptions(num_threads=4, max_body_bytes=1 << 20, max_pending_requests=8)


class Server:
    """A gRPC server and stubs for it."""

    def __init__(self, manager: ModelManager, options: GrpcOptions = OPTIONS) -> None:
        self.gate, self.metrics = Gate(options.max_pending_requests), Metrics()
        self.server = GrpcServer(manager, self.metrics, self.gate, options)
        self.port = free_port()

    def start(self, ssl_config: Any = None) -> "Server":
        self.server.listen("127.0.0.1", self.port, ssl_config)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        )
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        return self

    def close(self) -> None:
        self.channel.close()
        self.server.stop(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_half_plus_two(folder / "half", 1)
    write_half_plus_two(folder / "half", 2, offset=3.0)
    write_toy_classifier(folder / "toy", 7)
    write_oddities(folder / "odd", 1)
    return folder


@pytest.fixture(scope="module")
def manager(folder: Path) -> Iterator[ModelManager]:
    options = ManagerOptions(load=LoadOptions(), allow_labels_for_unavailable=True)
    manager = ModelManager(options)
    manager.set_config(config_of(folder))
    yield manager
    manager.close()


def config_of(folder: Path) -> Any:
    config = single_model_config("toy", folder / "toy")
    for name in ("half", "odd"):
        config.MergeFrom(single_model_config(name, folder / name))
    half = config.model_config_list.config[1]
    half.model_version_policy.all.SetInParent()
    half.version_labels["stable"] = 1
    return config


@pytest.fixture(scope="module")
def server(manager: ModelManager) -> Iterator[Server]:
    server = Server(manager).start()
    yield server
    server.close()


def predict_request(model: str = "toy", **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def with_examples(
    request: Any, texts: list[str], signature: str = "classify", name: str = "toy"
) -> Any:
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for text in texts:
        request.input.example_list.examples.append(example(text=text.encode()))
    return request


def example(**features: Any) -> tf.train.Example:
    result = tf.train.Example()
    for name, value in features.items():
        feature = result.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return result


class Refusal:
    """Catches what a call is refused with."""

    def __init__(self, code: StatusCode, message: str | None = None) -> None:
        self._code, self._message = code, message

    def __enter__(self) -> None:
        self._context = pytest.raises(grpc.RpcError)
        self._caught = self._context.__enter__()

    def __exit__(self, *arguments: Any) -> bool | None:
        result = self._context.__exit__(*arguments)
        error: Any = self._caught.value
        assert error.code() is self._code, error.details()
        if self._message is not None:
            assert self._message in error.details()
        return result


TEXTS = [
    b"a good film",
    b"a bad film",
    b"",
    b" ",
    b"\x00good",
    b"\xff\xfe",
    b"x" * 10000,
]


def test_predict_answers_bytes_that_are_no_text_too(server: Server) -> None:
    response = server.prediction.Predict(predict_request(text=TEXTS))
    probabilities = tf.make_ndarray(response.outputs["probabilities"])
    expected = [toy_probabilities(text) for text in TEXTS]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert list(response.outputs["label"].string_val)[:2] == [b"pos", b"neg"]
    assert response.model_spec.name == "toy"
    assert response.model_spec.signature_name == "serving_default"
    assert response.model_spec.version.value == 7
    assert response.outputs["score"].float_val
    assert not response.outputs["score"].tensor_content


def test_predict_by_version_label_signature_and_filter(server: Server) -> None:
    request = predict_request("half", x=[1.0, 4.0])
    for choice, version, offset in (
        ({}, 2, 3.0),
        ({"version": {"value": 1}}, 1, 2.0),
        ({"version_label": "stable"}, 1, 2.0),
    ):
        request.ClearField("model_spec")
        request.model_spec.name = "half"
        request.model_spec.signature_name = "two_outputs"
        request.model_spec.MergeFrom(type(request.model_spec)(**choice))
        request.output_filter[:] = ["y"]
        response = server.prediction.Predict(request)
        assert response.model_spec.version.value == version
        assert response.model_spec.signature_name == "two_outputs"
        assert dict(response.outputs).keys() == {"y"}
        expected = [half_plus_two(x, offset) for x in (1.0, 4.0)]
        assert list(response.outputs["y"].float_val) == expected


def test_outputs_travel_as_bytes_where_asked_for(manager: ModelManager) -> None:
    options = GrpcOptions(4, 1 << 20, 8, tensor_content=True, health=False)
    server = Server(manager, options).start()
    try:
        response = server.prediction.Predict(predict_request(text=TEXTS))
        assert response.outputs["score"].tensor_content
        assert tf.make_ndarray(response.outputs["score"]).shape == (len(TEXTS),)
        with Refusal(StatusCode.UNIMPLEMENTED):
            server.health.Check(health_pb2.HealthCheckRequest())
    finally:
        server.close()


def test_classify_and_its_context(server: Server) -> None:
    request = with_examples(classification_pb2.ClassificationRequest(), ["good", "bad"])
    response = server.prediction.Classify(request)
    rows = response.result.classifications
    assert [[c.label for c in row.classes] for row in rows] == [["neg", "pos"]] * 2
    scores = [[c.score for c in row.classes] for row in rows]
    expected = [toy_probabilities(b"good"), toy_probabilities(b"bad")]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert response.model_spec.version.value == 7
    request.input.ClearField("example_list")
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(example(text=b"good"))
    listed.examples.append(tf.train.Example())
    response = server.prediction.Classify(request)
    assert response.result.classifications[0].classes[1].score > 0.5


def test_regress_and_multi_inference(server: Server) -> None:
    regression = regression_pb2.RegressionRequest()
    regression.model_spec.name = "half"
    regression.model_spec.signature_name = "regress"
    regression.input.example_list.examples.append(example(x=4.0))
    response = server.prediction.Regress(regression)
    assert [r.value for r in response.result.regressions] == [half_plus_two(4.0, 3.0)]
    request = inference_pb2.MultiInferenceRequest(input=regression.input)
    task = request.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.CopyFrom(regression.model_spec)
    results = server.prediction.MultiInference(request).results
    assert results[0].regression_result.regressions[0].value == 5.0
    assert results[0].model_spec.version.value == 2
    request.tasks.add().CopyFrom(task)
    with Refusal(StatusCode.INVALID_ARGUMENT, "Duplicate evaluation of signature"):
        server.prediction.MultiInference(request)
    request.tasks[1].model_spec.name = "toy"
    with Refusal(StatusCode.INVALID_ARGUMENT, "must access the same model name"):
        server.prediction.MultiInference(request)
    del request.tasks[1]
    request.tasks[0].method_name = "tensorflow/serving/predict"
    with Refusal(StatusCode.UNIMPLEMENTED, "Unsupported signature method_name"):
        server.prediction.MultiInference(request)
    del request.tasks[:]
    with Refusal(StatusCode.INVALID_ARGUMENT):
        server.prediction.MultiInference(request)


def test_metadata(server: Server) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "toy"
    with Refusal(StatusCode.INVALID_ARGUMENT, "at least one metadata_field"):
        server.prediction.GetModelMetadata(request)
    request.metadata_field[:] = ["signature_def"]
    response = server.prediction.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "classify", "encoded"} <= set(signatures.signature_def)
    text = signatures.signature_def["serving_default"].inputs["text"]
    assert text.dtype == types_pb2.DT_STRING
    assert response.model_spec.version.value == 7
    request.metadata_field[:] = ["signature_def", "weather"]
    with Refusal(StatusCode.INVALID_ARGUMENT, "field weather is not supported"):
        server.prediction.GetModelMetadata(request)


def test_status_of_versions(server: Server) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    states = server.model.GetModelStatus(request).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert {(s.version, s.state, s.status.error_code) for s in states} == {
        (1, available, 0),
        (2, available, 0),
    }
    request.model_spec.version_label = "stable"
    states = server.model.GetModelStatus(request).model_version_status
    assert [state.version for state in states] == [1]
    request.model_spec.ClearField("version_label")
    request.model_spec.version.value = 5
    with Refusal(StatusCode.NOT_FOUND, "Could not find version 5 of model half"):
        server.model.GetModelStatus(request)


def bad_predictions() -> dict[str, tuple[Any, StatusCode, str]]:
    bad: dict[str, tuple[Any, StatusCode, str]] = {}
    invalid = StatusCode.INVALID_ARGUMENT
    request = predict_request(text=["a"])
    request.ClearField("model_spec")
    bad["no spec"] = (request, invalid, "Missing ModelSpec")
    request = predict_request("", text=["a"])
    bad["no name"] = (request, invalid, "ModelSpec has no name specified.")
    bad["model"] = (
        predict_request("none", text=["a"]),
        StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(none)",
    )
    request = predict_request(text=["a"])
    request.model_spec.version.value = 9
    bad["version"] = (
        request,
        StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(toy, 9)",
    )
    request = predict_request(text=["a"])
    request.model_spec.version_label = "l"
    bad["label"] = (request, invalid, "Unrecognized servable version label: l")
    request = predict_request(text=["a"])
    request.model_spec.signature_name = "s"
    bad["signature"] = (
        request,
        StatusCode.FAILED_PRECONDITION,
        'Serving signature key "s" not found.',
    )
    bad["no input"] = (
        predict_request(),
        invalid,
        "input size does not match signature: 0!=1 len({}) != len({text})",
    )
    bad["other input"] = (predict_request(other=["a"]), invalid, '"text" not found')
    bad["dtype"] = (predict_request(text=[1]), invalid, "")
    bad["scalar"] = (predict_request(text="a"), invalid, "")
    bad["matrix"] = (predict_request(text=[["a"]]), invalid, "")
    request = predict_request(text=["a"])
    request.output_filter[:] = ["none"]
    bad["filter"] = (request, invalid, "output tensor alias not found in signature")
    request = predict_request(text=["a"])
    request.output_filter[:] = ["score", "score"]
    bad["filter twice"] = (request, invalid, "duplicate output tensor alias")
    request = predict_request(text=["a"])
    request.inputs["text"].tensor_shape.dim[0].size = 1 << 40
    bad["bomb"] = (request, invalid, "tensor parsing error")
    request = predict_request(text=["a"])
    request.inputs["text"].dtype = types_pb2.DT_VARIANT
    bad["variant"] = (request, invalid, "DT_VARIANT is not served (input text)")
    bad["in the graph"] = (
        predict_request("odd", x=np.array([-1.0], np.float32)),
        invalid,
        "negative",
    )
    bad["in the graph"][0].model_spec.signature_name = "checked"
    return bad


@pytest.mark.parametrize("name", bad_predictions())
def test_bad_predictions(server: Server, name: str) -> None:
    request, code, message = bad_predictions()[name]
    with Refusal(code, message):
        server.prediction.Predict(request)


def test_bad_examples(server: Server) -> None:
    request = with_examples(classification_pb2.ClassificationRequest(), [])
    with Refusal(StatusCode.INVALID_ARGUMENT, "Input is empty."):
        server.prediction.Classify(request)
    request.input.example_list.examples.append(example(other=b"a"))
    with Refusal(StatusCode.INVALID_ARGUMENT, "text"):
        server.prediction.Classify(request)
    request = with_examples(request, ["a"], signature="serving_default")
    with Refusal(StatusCode.INVALID_ARGUMENT):
        server.prediction.Classify(request)


def test_bytes_that_are_no_message_are_the_clients_mistake(server: Server) -> None:
    for method, payload in (
        ("PredictionService/Predict", b"\xff\xff"),
        # A model's name that is no UTF-8.
        ("PredictionService/Predict", b"\x0a\x03\x0a\x01\xff"),
        ("ModelService/GetModelStatus", b"\x0a\x7f"),
    ):
        call = server.channel.unary_unary(f"/tensorflow.serving.{method}")
        with Refusal(StatusCode.INVALID_ARGUMENT, "The request is no valid tensorflow"):
            call(payload)
    with Refusal(StatusCode.UNIMPLEMENTED):
        server.channel.unary_unary("/tensorflow.serving.PredictionService/None")(b"")


CLIENT_CODES = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION,
}


@settings(max_examples=150, deadline=None)
@given(payload=st.data())
def test_mutilated_requests_are_the_clients_mistake(
    server: Server, payload: st.DataObject
) -> None:
    whole = bytearray(predict_request(text=["a good film", "b"]).SerializeToString())
    for _ in range(payload.draw(st.integers(1, 4))):
        place = payload.draw(st.integers(0, len(whole) - 1))
        whole[place] = payload.draw(st.integers(0, 255))
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    try:
        call(bytes(whole), timeout=20)
    except grpc.RpcError as error:
        assert error.code() in CLIENT_CODES, error.details()


def test_a_message_over_the_limit_is_refused(server: Server) -> None:
    request = predict_request(text=[b"a" * OPTIONS.max_body_bytes])
    with Refusal(StatusCode.RESOURCE_EXHAUSTED, "larger than max"):
        server.prediction.Predict(request)


def test_a_deadline_ends_a_run(server: Server) -> None:
    request = predict_request("odd", x=np.array([1.0], np.float32))
    request.model_spec.signature_name = "slow"
    with Refusal(StatusCode.DEADLINE_EXCEEDED):
        server.prediction.Predict(request, timeout=0.3)
    # Its thread is free again, and so is its place.
    assert wait_until(lambda: server.gate.in_flight == 0)


def wait_until(condition: Any) -> bool:
    waited = threading.Event()
    return any(condition() or waited.wait(0.05) for _ in range(400))


def test_a_full_gate_refuses_but_lets_status_and_health_through(
    server: Server,
) -> None:
    for _ in range(OPTIONS.max_pending_requests):
        server.gate.acquire()
    try:
        with Refusal(StatusCode.RESOURCE_EXHAUSTED):
            server.prediction.Predict(predict_request(text=["a"]))
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "toy"
        assert server.model.GetModelStatus(status).model_version_status
        check = server.health.Check(health_pb2.HealthCheckRequest())
        assert check.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        for _ in range(OPTIONS.max_pending_requests):
            server.gate.release()
    assert server.prediction.Predict(predict_request(text=["a"])).outputs


def test_calls_are_counted(server: Server) -> None:
    before = counted(server)
    server.prediction.Predict(predict_request(text=["a"]))
    with Refusal(StatusCode.INVALID_ARGUMENT):
        server.prediction.Predict(predict_request())
    after = counted(server)
    assert after["OK"] == before.get("OK", 0) + 1
    assert after["INVALID_ARGUMENT"] == before.get("INVALID_ARGUMENT", 0) + 1
    assert 'API="Predict",entrypoint="GRPC"' in server.metrics.exposition()


def counted(server: Server) -> dict[str, int]:
    start = ':tensorflow:serving:request_count{model_name="toy",status="'
    lines = server.metrics.exposition().splitlines()
    found = [line.removeprefix(start) for line in lines if line.startswith(start)]
    return {line.split('"')[0]: int(line.split()[-1]) for line in found}


@pytest.mark.parametrize("service", ["", "PredictionService", "ModelService"])
def test_health(manager: ModelManager, service: str) -> None:
    server = Server(manager).start()
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        serving = health_pb2.HealthCheckResponse.SERVING
        assert server.health.Check(request).status == serving
        with Refusal(StatusCode.NOT_FOUND):
            server.health.Check(health_pb2.HealthCheckRequest(service="Other"))
        server.server.announce_stop()
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.health.Check(request).status == not_serving
        assert server.prediction.Predict(predict_request(text=["a"])).outputs
    finally:
        server.close()


def test_another_config_replaces_the_models(folder: Path) -> None:
    manager = ModelManager(ManagerOptions(load=LoadOptions()))
    manager.set_config(single_model_config("toy", folder / "toy"))
    server = Server(manager).start()
    try:
        request = model_management_pb2.ReloadConfigRequest()
        with Refusal(StatusCode.INVALID_ARGUMENT, "Only ModelConfigList"):
            server.model.HandleReloadConfigRequest(request)
        request.config.CopyFrom(single_model_config("other", folder / "half"))
        response = server.model.HandleReloadConfigRequest(request)
        assert response.status.error_code == 0
        assert server.prediction.Predict(predict_request("other", x=[1.0])).outputs
        with Refusal(StatusCode.NOT_FOUND):
            server.prediction.Predict(predict_request("toy", text=["a"]))
        request.config.model_config_list.config[0].base_path = "relative"
        with Refusal(StatusCode.INVALID_ARGUMENT, "absolute path"):
            server.model.HandleReloadConfigRequest(request)
        assert server.prediction.Predict(predict_request("other", x=[1.0])).outputs
    finally:
        server.close()
        manager.close()


def test_tls_and_a_unix_socket(manager: ModelManager, tmp_path: Path) -> None:
    from kbert.protos import SSLConfig

    certificate, key, authority = make_certificate(tmp_path)
    config = SSLConfig(
        server_key=key,
        server_cert=certificate,
        custom_ca=authority,
        client_verify=True,
    )
    server = Server(manager)
    server.server.listen_on_socket(tmp_path / "socket")
    server.start(config)
    try:
        root = authority.encode()
        ours = grpc.ssl_channel_credentials(root, key.encode(), certificate.encode())
        anonymous = grpc.ssl_channel_credentials(root)
        address = f"localhost:{server.port}"
        for channel, is_let_in in (
            (grpc.secure_channel(address, ours), True),
            (grpc.secure_channel(address, anonymous), False),
            (grpc.insecure_channel(address), False),
            (grpc.insecure_channel(f"unix:{tmp_path / 'socket'}"), True),
        ):
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with channel:
                if is_let_in:
                    assert stub.Predict(predict_request(text=["a"]), timeout=10).outputs
                else:
                    with Refusal(StatusCode.UNAVAILABLE):
                        stub.Predict(predict_request(text=["a"]), timeout=10)
    finally:
        server.close()


def test_a_port_belongs_to_one_server(manager: ModelManager, server: Server) -> None:
    other = Server(manager)
    with pytest.raises(ServingError, match=rf"Port {server.port} on .* in use"):
        other.server.listen("127.0.0.1", server.port)
    other.server.stop(0)


def test_long_messages_are_cut() -> None:
    assert truncate("a" * MAX_MESSAGE_BYTES) == "a" * MAX_MESSAGE_BYTES
    assert truncate("a" * 1025) == "a" * 1024 + "...TRUNCATED"
    cut = truncate("a" + "é" * 600)
    assert cut == "a" + "é" * 511 + "...TRUNCATED"
    assert truncate("\ud800") == "?"


def test_a_long_message_arrives(server: Server) -> None:
    with Refusal(StatusCode.NOT_FOUND, "...TRUNCATED"):
        server.prediction.Predict(predict_request("日本" * 5000, text=["a"]))
