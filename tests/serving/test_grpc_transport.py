"""The client over gRPC, against a stand-in made of tensorflow-serving-api's stubs."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.json_format import ParseDict
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kbert.errors import ServingError
from kbert.serving import Client
from kbert.serving.retries import Retries
from tests.serving.fake_server import FakeServer, describe, toy_probabilities

QUICK = Retries(first_pause=0.01, longest_pause=0.05)


class Servicer(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """The model `toy` with the answers of the REST stand-in.

    Attributes:
        trouble: status codes and messages of the next predictions.
        specs: the model specs that were asked for.
    """

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.trouble: list[tuple[grpc.StatusCode, str]] = []
        self.specs = []

    def _check(self, request, context) -> None:
        self.specs.append(request.model_spec)
        if request.model_spec.name != "toy":
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")

    def GetModelMetadata(self, request, context):  # noqa: N802
        self._check(request, context)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = describe(self.fake)["metadata"]["signature_def"]
        message = ParseDict(signatures, get_model_metadata_pb2.SignatureDefMap())
        response.metadata["signature_def"].Pack(message)
        response.model_spec.name = "toy"
        response.model_spec.version.value = 7
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        self._check(request, context)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=7, state=30)
        return response

    def Classify(self, request, context):  # noqa: N802
        self._check(request, context)
        assert request.model_spec.signature_name == "classify"
        (example,) = request.input.example_list.examples
        names = {"text", "text_pair"} if self.fake.is_paired else {"text"}
        assert set(example.features.feature) == names
        response = classification_pb2.ClassificationResponse()
        classes = response.result.classifications.add().classes
        for label in self.fake.labels:
            classes.add(label=label, score=0.5)
        return response

    def Predict(self, request, context):  # noqa: N802
        self._check(request, context)
        if self.trouble:
            context.abort(*self.trouble.pop(0))
        columns = [tf.make_ndarray(request.inputs["text"])]
        if self.fake.is_paired:
            columns.append(tf.make_ndarray(request.inputs["text_pair"]))
        assert all(column.ndim == 1 for column in columns)
        rows = np.array(
            [self.fake.probabilities(list(row)) for row in zip(*columns, strict=True)],
            np.float32,
        )
        labels = np.array(self.fake.labels)[rows.argmax(axis=1)].astype("S")
        response = predict_pb2.PredictResponse()
        response.outputs["label"].CopyFrom(tf.make_tensor_proto(labels))
        response.outputs["score"].CopyFrom(tf.make_tensor_proto(rows.max(axis=1)))
        response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto(rows))
        return response


@pytest.fixture
def servicer():
    with FakeServer() as fake:
        yield Servicer(fake)


@pytest.fixture
def port(servicer):
    server = grpc.server(ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        servicer, server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def client(port):
    url = f"grpc://127.0.0.1:{port}/toy"
    with Client(url, retries=QUICK, timeout=10, batch_size=3) as client:
        yield client


def test_the_same_answers_as_over_rest(client, servicer):
    texts = ["good", "", "ä 好", "a\0b", "a\udce9", "\ud800", "x" * 10_000]
    with Client(servicer.fake.url) as rest:
        assert client.predict(texts) == rest.predict(texts)
    assert client.latencies.count == 3


def test_pairs(client, servicer):
    servicer.fake.is_paired = True
    (answer,) = client.predict([("a", "b\0")])
    row = [float(np.float32(n)) for n in toy_probabilities([b"a", b"b\0"])]
    assert answer["probabilities"] == {"neg": row[0], "pos": row[1]}


def test_metadata_and_status_in_the_form_of_rest(client, servicer):
    with Client(servicer.fake.url) as rest:
        wanted = rest.metadata()["metadata"]["signature_def"]["signature_def"]
    metadata = client.metadata()
    assert metadata["model_spec"]["version"] == "7"
    found = metadata["metadata"]["signature_def"]["signature_def"]
    assert found.keys() == wanted.keys()
    text = found["serving_default"]["inputs"]["text"]
    assert text["dtype"] == "DT_STRING"
    assert text["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    (status,) = client.status()
    assert (status["version"], status["state"]) == ("7", "AVAILABLE")


def test_a_version_or_a_label_is_asked_for(port, servicer):
    for selection in ("/versions/3", "/labels/stable"):
        servicer.specs.clear()
        with Client(f"grpc://127.0.0.1:{port}/toy{selection}") as client:
            client.predict(["a"])
            client.status()
        assert len(servicer.specs) == 4
        for spec in servicer.specs:
            kind = spec.WhichOneof("version_choice")
            wanted = {"version": 3, "version_label": "stable"}[kind]
            chosen = getattr(spec, kind)
            assert getattr(chosen, "value", chosen) == wanted


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_what_may_pass_is_tried_again(client, servicer, code):
    servicer.trouble = [(grpc.StatusCode[code], "busy")] * 3
    assert client.predict(["a"])[0]["text"] == "a"
    assert servicer.trouble == []


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "INTERNAL", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"]
)
def test_a_refusal_is_final(client, servicer, code):
    client.predict(["a"])
    servicer.trouble = [(grpc.StatusCode[code], "no, because")] * 2
    with pytest.raises(ServingError, match=rf"refused .*\({code}\): no, because"):
        client.predict(["b"])
    assert len(servicer.trouble) == 1


def test_a_request_larger_than_the_server_takes_is_halved(client, servicer):
    message = "Received message larger than max (5 vs. 4)"
    servicer.trouble = [(grpc.StatusCode.RESOURCE_EXHAUSTED, message)]
    answers = client.predict(["a", "b", "c"])
    assert [answer["text"] for answer in answers] == ["a", "b", "c"]
    servicer.trouble = [(grpc.StatusCode.RESOURCE_EXHAUSTED, message)]
    with pytest.raises(ServingError, match=r"so large.*It holds a single text"):
        client.predict(["a"])


def test_another_model(port):
    with Client(f"grpc://127.0.0.1:{port}/other") as client:
        with pytest.raises(ServingError, match=r"not found.*grpc://HOST:8500/NAME"):
            client.predict(["a"])


def test_no_server():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Client(f"grpc://127.0.0.1:{port}/toy") as client:
        with pytest.raises(ServingError, match=r"(?s)refused.*kbert serve"):
            client.predict(["a"])


def test_the_ports_of_rest_and_grpc_confused(port, servicer):
    rest = servicer.fake.port
    with Client(f"grpc://127.0.0.1:{rest}/toy", timeout=5) as client:
        with pytest.raises(ServingError, match="gRPC port is 8500 by default"):
            client.predict(["a"])
    url = f"http://127.0.0.1:{port}/v1/models/toy"
    with Client(url, timeout=5) as client:
        with pytest.raises(ServingError, match="8500 is that of gRPC"):
            client.predict(["a"])


def test_without_the_packages(monkeypatch):
    monkeypatch.delitem(sys.modules, "kbert.serving.grpc_transport", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ServingError, match="pip install grpcio tensorflow-serving-api"):
        Client("grpc://localhost/toy")


def test_a_certificate_that_is_not_there():
    with pytest.raises(ServingError, match=r"ca_cert must .*no\.pem: No such file"):
        Client("grpcs://localhost/toy", ca_cert="no.pem")
