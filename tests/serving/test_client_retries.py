"""What the client sends again, what it does not, and for how long."""

import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from kbert.errors import ServingError
from kbert.serving import Client
from kbert.serving.retries import Retries
from tests.serving.certificates import make_certificate
from tests.serving.fake_server import (
    FakeServer,
    Handler,
    hang_up,
    html,
    reset,
    status,
    truncate,
)

ROOT = Path(__file__).resolve().parents[2]
QUICK = Retries(first_pause=0.01, longest_pause=0.05)


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


@pytest.mark.parametrize(
    "trouble",
    [hang_up, reset, truncate, status(503), status(429), html(502), html(503)],
    ids=["hang up", "reset", "truncate", "503", "429", "html 502", "html 503"],
)
def test_what_may_pass_is_tried_again(server, trouble):
    with Client(server.url, retries=QUICK, timeout=5) as client:
        wanted = client.predict(["good"])
        server.requests.clear()
        server.trouble = [trouble] * 3
        assert client.predict(["good"]) == wanted
    assert len(server.requests) == 4


def test_the_first_contact_too(server):
    server.spares_get = False
    server.trouble = [hang_up, status(503), reset]
    with Client(server.url, retries=QUICK, timeout=5) as client:
        assert client.predict(["good"])[0]["text"] == "good"


def test_nothing_is_sent_twice_without_retries(server):
    with Client(server.url, retries=None) as client:
        client.predict(["a"])
        server.requests.clear()
        server.trouble = [status(503, "later")]
        with pytest.raises(ServingError, match=r"busy or not ready \(503\): later"):
            client.predict(["b"])
    assert len(server.requests) == 1


def test_the_deadline_covers_all_tries(server):
    with Client(server.url, retries=QUICK, timeout=0.5) as client:
        client.predict(["a"])
        server.trouble = [status(503, "never")] * 1000
        with pytest.raises(ServingError, match=r"Tried \d+ times .* of 0.5 s"):
            client.predict(["b"])
        assert len(server.requests) > 5
        server.trouble.clear()
        assert client.predict(["b"])


def test_the_reason_is_told_although_the_last_try_was_cut_short(server):
    def hang(handler: Handler) -> None:
        handler.server.fake.trouble.append(hang)
        handler.rfile.read(1)  # until the client goes away

    with Client(server.url, retries=QUICK, timeout=0.5) as client:
        client.predict(["a"])
        server.trouble = [status(503, "loading"), hang]
        with pytest.raises(ServingError, match=r"loading\. Tried 2 times"):
            client.predict(["b"])


@pytest.mark.parametrize("trickle", [False, True], ids=["silent", "trickling"])
def test_the_deadline_covers_a_server_that_hangs(server, trickle):
    stop = threading.Event()

    def hang(handler: Handler) -> None:
        if trickle:
            handler.send(200, b"{", length=10_000)
        while not stop.wait(0.05):
            if trickle:
                handler.wfile.write(b" ")
        handler.close_connection = True

    with Client(server.url, timeout=0.4) as client:
        client.predict(["a"])
        server.trouble = [hang]
        # It returns at all: the server goes on until it is told to stop.
        with pytest.raises(ServingError, match=r"did not answer in time\. Tried once"):
            client.predict(["b"])
    stop.set()


def test_closing_ends_a_request_under_way(server):
    hanging, stop = threading.Event(), threading.Event()

    def hang(handler: Handler) -> None:
        hanging.set()
        stop.wait(30)
        handler.close_connection = True

    client = Client(server.url, timeout=30)
    client.predict(["a"])
    server.trouble = [hang]
    failures = []

    def ask() -> None:
        try:
            client.predict(["b"])
        except ServingError as error:
            failures.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    assert hanging.wait(5)
    client.close()
    thread.join(10)
    stop.set()
    assert failures == ["This client has been closed."]


class TestRetryAfter:
    @pytest.mark.parametrize("kind", ["seconds", "date"])
    def test_it_is_waited_for(self, server, kind):
        # A date has whole seconds: two from now is more than one away.
        asked = "1" if kind == "seconds" else formatdate(time.time() + 2, usegmt=True)
        with Client(server.url, retries=QUICK, timeout=20) as client:
            client.predict(["a"])
            server.trouble = [status(429, Retry_After=asked)]
            start = time.monotonic()
            client.predict(["b"])
        assert time.monotonic() - start > 0.8

    def test_it_may_be_too_long(self, server):
        with Client(server.url, retries=QUICK, timeout=5) as client:
            client.predict(["a"])
            server.trouble = [status(503, "loading", Retry_After="60")]
            with pytest.raises(ServingError, match=r"loading.* asks to wait 60 s"):
                client.predict(["b"])

    @pytest.mark.parametrize("senseless", ["soon", "", "-1", "Wed, 99 Foo 2020"])
    def test_a_senseless_one_is_ignored(self, server, senseless):
        with Client(server.url, retries=QUICK, timeout=5) as client:
            server.trouble = [status(503, Retry_After=senseless)]
            assert client.predict(["a"])


SERVE = (
    "import sys, time; from tests.serving.fake_server import FakeServer\n"
    "with FakeServer(port=int(sys.argv[1])): print('ready', flush=True); time.sleep(99)"
)


def start_server(port: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    return process


def test_a_server_that_is_killed_and_restarted_is_not_noticed():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = start_server(port)
    processes = [first]
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    texts = [str(number) for number in range(400)]
    with Client(
        f"http://127.0.0.1:{port}/v1/models/toy", batch_size=2, retries=QUICK
    ) as client:
        answers = client.answers(texts)
        received = [next(answers) for _ in range(50)]
        first.send_signal(signal.SIGKILL)
        first.wait()
        restart = threading.Timer(0.3, lambda: processes.append(start_server(port)))
        restart.start()
        received += answers
        restart.join()
    assert [answer["text"] for answer in received] == texts
    for process in processes:
        process.kill()
        process.communicate()


class TestTls:
    @pytest.fixture(scope="class")
    def certificate(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("tls")
        make_certificate(folder, "127.0.0.1")
        return folder

    @pytest.fixture
    def secure(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = (certificate / "certificate.pem", certificate / "key.pem")
        context.load_cert_chain(*files)
        with FakeServer(tls=context) as fake:
            yield fake

    def test_a_certificate_of_ones_own(self, secure, certificate):
        assert secure.url.startswith("https://")
        with Client(secure.url, ca_cert=str(certificate / "authority.pem")) as client:
            assert client.predict(["a"])[0]["text"] == "a"

    def test_an_unknown_certificate_is_refused_at_once(self, secure):
        with Client(secure.url) as client, pytest.raises(ServingError) as caught:
            client.predict(["a"])
        assert "certificate verify failed" in str(caught.value)
        assert "ca_cert=FILE" in str(caught.value)
        assert secure.requests == []

    def test_another_host_than_the_certificate_says(self, secure, certificate):
        url = secure.url.replace("127.0.0.1", "localhost")
        with Client(url, ca_cert=str(certificate / "authority.pem")) as client:
            with pytest.raises(ServingError, match="localhost"):
                client.predict(["a"])

    def test_a_file_that_is_no_certificate(self, tmp_path):
        url = "https://localhost:8501/v1/models/toy"
        with pytest.raises(ServingError, match=r"ca_cert must .*: no\.pem: No such"):
            Client(url, ca_cert="no.pem")
        (tmp_path / "text.pem").write_text("hello")
        with pytest.raises(ServingError, match=r"text\.pem"):
            Client(url, ca_cert=str(tmp_path / "text.pem"))


def test_no_proxy_of_the_environment_is_used(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with Client(server.url) as client:
        assert client.predict(["a"])


def test_pauses_double_up_to_the_longest():
    retries = Retries(first_pause=0.1, longest_pause=1.0)
    for number, whole in enumerate([0.1, 0.2, 0.4, 0.8, 1.0, 1.0]):
        drawn = [retries.pause(number) for _ in range(200)]
        assert whole / 2 <= min(drawn) < max(drawn) <= whole
    assert retries.pause(10_000) <= 1.0
