"""The whole server, as a process: public protocols in, signals, mistakes."""

import contextlib
import functools
import http.client
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kbert.errors import UserError
from kbert.serving import ports
from kbert.serving.manager import ModelManager
from kbert.serving.options import ServerOptions
from kbert.serving.prepared import prepare
from kbert.serving.server import serve
from tests.serving.models import (
    half_plus_two,
    toy_probabilities,
    write_half_plus_two,
    write_oddities,
    write_toy_classifier,
)
from tests.serving.ports import free_port
from tests.serving.processes import Process, write_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_toy_classifier(folder / "toy", 1)
    write_half_plus_two(folder / "half", 1)
    write_oddities(folder / "odd", 1)
    return folder


@pytest.fixture(scope="module")
def toy(folder: Path) -> Iterator[Process]:
    process = Process(folder / "toy")
    process.wait_for_line()
    yield process
    process.stop()


def grpc_predict(process: Process, model: str, timeout: float = 30, **inputs: Any):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, timeout=timeout)


def test_rest_and_grpc_answer_alike(toy: Process) -> None:
    texts = ["a good film", "a bad film", "", " ", "日本 😀", "x" * 10000]
    expected = [toy_probabilities(text.encode()) for text in texts]
    rows = toy.post("toy", {"instances": texts})["predictions"]
    np.testing.assert_allclose([r["probabilities"] for r in rows], expected, atol=1e-6)
    columns = toy.post("toy", {"inputs": {"text": texts}})["outputs"]
    assert columns["label"] == [row["label"] for row in rows]
    response = grpc_predict(toy, "toy", text=[text.encode() for text in texts])
    outputs = {name: tf.make_ndarray(o) for name, o in response.outputs.items()}
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert [label.decode() for label in outputs["label"]] == columns["label"]


def test_greeting_says_where_it_answers(toy: Process) -> None:
    assert "Engine: kbert's development server" in toy.log
    assert f"gRPC: 127.0.0.1:{toy.port}" in toy.lines
    assert f"REST: {toy.url}/v1/models/toy" in toy.lines
    assert f"Page: {toy.url}/" in toy.lines
    (example,) = (line for line in toy.lines if line.startswith("Try:"))
    _, program, flag, body, url = shlex.split(example)
    assert (program, flag) == ("curl", "-d")
    status, answer = toy.ask(url.removeprefix(toy.url), body.encode())
    assert (status, len(answer["predictions"])) == (200, 1)


def test_only_the_loopback_address_answers_unless_told(toy: Process) -> None:
    # 127.0.0.2 is this machine too, but is not 127.0.0.1: as its address in a network.
    for port in (toy.port, toy.rest_api_port):
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=30)


def test_status_metrics_page_and_health_are_there(toy: Process) -> None:
    status, answer = toy.ask("/v1/models/toy")
    assert status == 200
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"
    toy.post("toy", {"instances": ["a"]})
    status, text = toy.ask("/monitoring/prometheus/metrics")
    assert status == 200
    assert ':tensorflow:serving:request_count{model_name="toy",status="OK"}' in text
    status, text = toy.ask("/")
    assert status == 200
    assert "<html" in text
    with grpc.insecure_channel(f"127.0.0.1:{toy.port}") as channel:
        request = health_pb2.HealthCheckRequest(service="PredictionService")
        health = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_a_new_version_is_served_and_a_broken_one_is_not(
    toy: Process, folder: Path
) -> None:
    broken = folder / "toy" / ".export-2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    broken.rename(folder / "toy" / "2")
    write_toy_classifier(folder / "toy", 3, flip=True)
    expected = toy_probabilities(b"good", flip=True)
    while True:
        (row,) = toy.post("toy", {"instances": ["good"]})["predictions"]
        if row["probabilities"][0] > 0.5:
            break
        np.testing.assert_allclose(
            row["probabilities"], toy_probabilities(b"good"), atol=1e-6
        )
    np.testing.assert_allclose(row["probabilities"], expected, atol=1e-6)


def test_a_config_file_is_read_again(folder: Path, tmp_path: Path) -> None:
    file = write_config(tmp_path / "models.config", {"half": folder / "half"})
    flags = "--model_config_file_poll_wait_seconds=1", "--enable_batching"
    process = Process(f"--model_config_file={file}", *flags)
    try:
        process.wait_for_line()
        assert process.post("half", {"instances": [1.0]}) == {
            "predictions": [half_plus_two(1.0)]
        }
        file.write_text("model_config_list { config { }")
        process.wait_for_line("models.config is not applied")
        assert "predictions" in process.post("half", {"instances": [1.0]})
        write_config(file, {"second": folder / "half", "toy": folder / "toy"})
        process.wait_for_line("models.config has changed and is applied")
        assert "predictions" in process.post("second", {"instances": [1.0]})
        assert (
            "Servable not found" in process.post("half", {"instances": [1.0]})["error"]
        )
        process.process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.log
    finally:
        process.stop()


def test_a_signal_answers_what_was_accepted(folder: Path, tmp_path: Path) -> None:
    # A batch waits for two seconds, and its requests are in flight so long.
    parameters = tmp_path / "batching"
    parameters.write_text(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 2000000 }"
    )
    process = Process(
        *(folder / "half", "--enable_batching", "--max_pending_requests=4"),
        f"--batching_parameters_file={parameters}",
    )
    try:
        process.wait_for_line()
        with ThreadPoolExecutor(4) as pool:
            rest, calls = fill_with_four(process, pool)
            process.process.send_signal(signal.SIGTERM)
            answers = [call.result() for call in rest]
            responses = [call.result() for call in calls]
        assert answers == [{"predictions": [half_plus_two(4.0)]}] * 2
        for response in responses:
            assert list(response.outputs["y"].float_val) == [half_plus_two(4.0)]
        assert process.wait() == 143
        assert process.lines[-1].startswith("Interrupted")
        assert "Traceback" not in process.log
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.rest_api_port))
    finally:
        process.stop()


def fill_with_four(
    process: Process, pool: ThreadPoolExecutor
) -> tuple[list[Future[Any]], list[Future[Any]]]:
    """Two requests of each protocol, all of which have been accepted."""

    def until_accepted(ask: Callable[[], Any]) -> Any:
        while True:
            try:
                answer = ask()
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                continue
            if "limit of 4 requests" not in str(answer):
                return answer

    rest = functools.partial(process.post, "half", {"instances": [4.0]})
    call = functools.partial(grpc_predict, process, "half", x=[np.float32(4.0)])
    asked = [pool.submit(until_accepted, ask) for ask in (rest, rest, call, call)]
    # What is no request at all is answered at once where a place is free.
    while "limit of 4 requests" not in process.post("half", {})["error"]:
        pass
    return asked[:2], asked[2:]


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    process = Process(folder / "odd", "--max_pending_requests=1")
    try:
        process.wait_for_line()
        asking = threading.Thread(target=ask_in_vain, args=(process,))
        asking.start()
        # Refused as long as the other one is being answered, which has no end.
        refusals = 0
        while refusals < 3:
            refusals += "error" in process.post("odd", {"instances": [1.0]})
        process.process.send_signal(signal.SIGTERM)
        process.wait_for_line("Stopping")
        process.process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        asking.join()
    finally:
        process.stop()


def ask_in_vain(process: Process) -> None:
    """Asks for what has no end until the server is gone."""
    endless = {"signature_name": "slow", "instances": [1.0]}
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            process.post("odd", endless)


def refuse(match: str, **flags: Any) -> None:
    options = ServerOptions(port=0, rest_api_port=free_port(), **flags)
    with pytest.raises(UserError, match=match):
        serve(prepare(options))


def test_a_model_that_cannot_be_loaded_ends_the_start(tmp_path: Path) -> None:
    version = tmp_path / "broken" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"no model")
    flags = {"model_name": "broken", "model_base_path": version.parent}
    refuse("broken", **flags, max_num_load_retries=0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("model_config_list { config { }", "ModelServerConfig"),
        (
            'model_config_list { config { name: "a" base_path: "b" '
            'model_platform: "tensorflow" } }',
            "absolute path",
        ),
    ],
)
def test_a_bad_config_file_ends_the_start(
    text: str, match: str, tmp_path: Path
) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    refuse(match, model_config_file=file)


def test_an_interrupt_while_loading_leaves_signals_as_they_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def receive(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ModelManager, "set_config", receive)
    before = signal.getsignal(signal.SIGINT)
    options = ServerOptions(
        model_name="half",
        model_base_path=folder / "half",
        port=0,
        rest_api_port=free_port(),
    )
    with pytest.raises(KeyboardInterrupt):
        serve(prepare(options))
    assert signal.getsignal(signal.SIGINT) is before
    # Nothing is left of it: its port is free, too.
    ports.bind("127.0.0.1", options.rest_api_port, "rest_api_port").close()
