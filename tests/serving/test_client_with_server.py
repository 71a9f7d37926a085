"""The client and `kbert serve` itself: the same answers, a kill, a limit."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbert.errors import ServingError
from kbert.serving import Client
from tests.serving.models import toy_probabilities, write_toy_classifier

HARD = [
    *("good", "bad", "", " ", "x" * 10_000, "好 ä 👩‍🚀", "[MASK]", 'a\n\t"b\\'),
    *("a\0good", os.fsdecode(b"caf\xe9"), "\ud800"),
]
MAX_BODY_BYTES = 20_000


def to_bytes(text: str) -> bytes:
    if text == "\ud800":
        return b"\xed\xa0\x80"
    return text.encode("utf-8", "surrogateescape")


class Server:
    """`kbert serve` in a process of its own, on ports that stay the same."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as rest:
            with socket.create_server(("127.0.0.1", 0)) as grpc:
                ports = rest.getsockname()[1], grpc.getsockname()[1]
        self.rest = f"http://127.0.0.1:{ports[0]}/v1/models/toy"
        self.grpc = f"grpc://127.0.0.1:{ports[1]}/toy"
        self._log = folder.with_suffix(".log")
        self._command = [
            *(sys.executable, "-c", "from kbert_cli.main import main; main()"),
            *("serve", str(folder)),
            *(f"--rest_api_port={ports[0]}", f"--port={ports[1]}"),
            f"--max_body_bytes={MAX_BODY_BYTES}",
        ]

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until the model is available."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self._log.read_text()
            try:
                with Client(self.rest, retries=None, timeout=5) as client:
                    if client.status()[0]["state"] == "AVAILABLE":
                        return
            except ServingError:
                time.sleep(0.1)
        raise TimeoutError(self._log.read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served") / "toy"
    write_toy_classifier(folder, 1)
    server = Server(folder)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_hard_texts(server: Server, protocol: str) -> None:
    with Client(getattr(server, protocol), batch_size=3) as client:
        answers = client.predict(HARD)
    assert [answer["text"] for answer in answers] == HARD
    for text, answer in zip(HARD, answers, strict=True):
        neg, pos = toy_probabilities(to_bytes(text))
        assert answer["probabilities"] == pytest.approx(
            {"neg": neg, "pos": pos}, abs=1e-6
        )
        assert answer["label"] == ("pos" if pos > neg else "neg")
        assert answer["score"] == answer["probabilities"][answer["label"]]


def test_rest_and_grpc_give_the_very_same_numbers(server: Server) -> None:
    texts = [f"text {number}" + " good" * (number % 3) for number in range(200)]
    with Client(server.rest) as rest, Client(server.grpc) as grpc:
        assert rest.predict(texts) == grpc.predict(texts)
        assert rest.metadata()["metadata"] == grpc.metadata()["metadata"]
        assert rest.status() == grpc.status()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_batches_above_the_limit_are_halved(server: Server, protocol: str) -> None:
    texts = [f"{number} {'x' * 3000}" for number in range(32)]
    with Client(getattr(server, protocol), connections=1) as client:
        answers = client.predict(texts)
        assert [answer["text"] for answer in answers] == texts
        assert client.latencies.count == 8
        with pytest.raises(ServingError, match=r"so large.* It holds a single text"):
            client.predict(["x" * 2 * MAX_BODY_BYTES])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_what_is_not_there(server: Server, protocol: str) -> None:
    url = getattr(server, protocol)
    with Client(url.replace("toy", "other")) as client:
        with pytest.raises(ServingError, match="Servable not found for request"):
            client.predict(["a"])
    with Client(f"{url}/versions/9") as client:
        with pytest.raises(ServingError, match=r"Specific\(toy, 9\)"):
            client.predict(["a"])
    with Client(f"{url}/labels/canary") as client:
        with pytest.raises(ServingError, match="Unrecognized servable version label"):
            client.predict(["a"])


def test_a_kill_and_a_restart_are_not_noticed(server: Server) -> None:
    texts = [f"text {number}" for number in range(600)]
    with (
        Client(server.rest, batch_size=4, timeout=120) as rest,
        Client(server.grpc, batch_size=4, timeout=120) as grpc,
    ):
        streams = [rest.answers(texts), grpc.answers(texts)]
        received = [[next(stream) for _ in range(40)] for stream in streams]
        server.kill()
        server.start()
        for answers, stream in zip(received, streams, strict=True):
            answers += stream
    for answers in received:
        assert [answer["text"] for answer in answers] == texts
