"""The REST application behind a real server and real sockets."""

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from kbert.serving.gate import Gate
from kbert.serving.metrics import Metrics
from kbert.serving.rest import RestApp, RestOptions
from tests.serving.fake_models import FakeManager, wait_until

PREDICT = "/v1/models/toy:predict"
BODY = json.dumps({"instances": [1.0, 2.0]}).encode()
LIMIT = 1_000_000


class Running:
    def __init__(self) -> None:
        self.block = threading.Event()
        self.block.set()
        self.manager = FakeManager(self.block)
        self.gate = Gate(8)
        self.app = RestApp(
            self.manager,
            RestOptions(max_body_bytes=LIMIT, num_threads=2),
            Metrics(),
            self.gate,
        )
        config = uvicorn.Config(self.app, lifespan="off", log_config=None)
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))

    def connect(self) -> http.client.HTTPConnection:
        host, port = self.socket.getsockname()
        return http.client.HTTPConnection(host, port, timeout=20)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    running = Running()
    running.thread.start()
    wait_until(lambda: running.server.started)
    yield running
    running.server.should_exit = True
    running.thread.join(20)
    running.app.close()
    running.socket.close()
    assert not running.thread.is_alive()


@pytest.fixture
def connection(running: Running) -> Iterator[http.client.HTTPConnection]:
    connection = running.connect()
    yield connection
    connection.close()


def answer(connection: http.client.HTTPConnection) -> tuple[int, object]:
    response = connection.getresponse()
    body = response.read()
    return response.status, json.loads(body) if body else None


def test_one_connection_answers_request_after_request(
    connection: http.client.HTTPConnection,
):
    chunks = (BODY[at : at + 3] for at in range(0, len(BODY), 3))
    packed = {"Content-Encoding": "gzip"}
    for body, headers in (
        (BODY, {}),
        (chunks, {}),  # of unknown length, and so "chunked"
        (gzip.compress(BODY), packed),
    ):
        connection.request("POST", PREDICT, body, headers)
        assert answer(connection) == (200, {"predictions": [2.5, 3.0]})
    connection.request("POST", PREDICT, b"{")
    assert answer(connection)[0] == 400
    connection.request("GET", "/v1/models/toy")
    assert answer(connection)[0] == 200
    connection.request("HEAD", "/v1/models/toy")
    assert answer(connection) == (400, None)
    connection.request("GET", "/v1/models/a%2Fb")
    status, body = answer(connection)
    assert status == 404
    assert body == {"error": "Could not find any versions of model a/b"}


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_hears_why(
    connection: http.client.HTTPConnection, chunked: bool
):
    body = b" " * (LIMIT + LIMIT // 2)
    connection.request("POST", PREDICT, iter([body]) if chunked else body)
    response = connection.getresponse()
    assert response.status == 413
    assert f"limit of {LIMIT} bytes" in json.loads(response.read())["error"]
    assert response.getheader("connection") == "close"


def test_clients_that_hang_up_leave_nothing_behind(running: Running):
    running.block.clear()
    connections = [running.connect() for _ in range(6)]
    for connection in connections:
        connection.request("POST", PREDICT, BODY)
    wait_until(lambda: running.gate.in_flight == 6)
    for connection in connections:
        connection.close()
    wait_until(lambda: running.gate.in_flight == 2)  # what a thread has begun
    running.block.set()
    wait_until(lambda: running.gate.in_flight == 0)


def test_a_body_cut_short_gives_its_place_back(running: Running):
    connection = running.connect()
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", "1000")
    connection.endheaders(BODY)
    wait_until(lambda: running.gate.in_flight == 1)
    connection.close()
    wait_until(lambda: running.gate.in_flight == 0)


def test_two_requests_at_once_on_one_connection(running: Running):
    request = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    with socket.create_connection(running.socket.getsockname(), 20) as client:
        client.sendall(request + request)
        found = b""
        while found.count(b"predictions") < 2:
            found += client.recv(65536)
    assert found.count(b"HTTP/1.1 200") == 2
