"""The client against a stand-in for TF Serving: the answers, and every mistake."""

import itertools
import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kbert.data.values import to_bytes
from kbert.errors import ServingError
from kbert.serving import Client
from kbert.serving.retries import Retries
from tests.serving.fake_server import (
    FakeServer,
    html,
    signature,
    status,
    toy_probabilities,
)

QUICK = Retries(first_pause=0.01, longest_pause=0.05)


def expected(text: str, data: bytes | None = None) -> dict:
    row = toy_probabilities([text.encode() if data is None else data])
    row = [float(np.float32(number)) for number in row]
    best = int(np.argmax(row))
    return {
        "text": text,
        "label": ("neg", "pos")[best],
        "score": row[best],
        "probabilities": {"neg": row[0], "pos": row[1]},
    }


@pytest.fixture
def server():
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def client(server):
    with Client(server.url, retries=QUICK, timeout=5) as client:
        yield client


def test_answers_are_those_of_a_run(client):
    texts = ["good", "", " ", "ä 好 👩‍🚀", "x" * 10_000, "[MASK]"]
    answers = client.predict(texts)
    assert answers == [expected(text) for text in texts]
    assert list(answers[0]) == ["text", "label", "score", "probabilities"]
    assert client.predict([]) == []


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a\0b", b"a\0b"),
        ("a\udce9", b"a\xe9"),  # Python's way to hold a byte that is no UTF-8
        ("\ud800", b"\xed\xa0\x80"),
        ("\ud800\udce9", b"\xed\xa0\x80\xed\xb3\xa9"),
    ],
)
def test_what_is_no_utf_8_arrives_as_the_bytes_that_a_run_sees(
    client, server, text, data
):
    assert to_bytes(text) == data
    assert client.predict([text, "plain"]) == [expected(text, data), expected("plain")]
    sent = server.predictions[0]["inputs"]["text"]
    assert list(sent[0]) == ["b64"]
    assert sent[1] == "plain"


def test_batches_keep_their_order_whichever_is_answered_first(server):
    slow = threading.Event()

    def wait_for_the_others(row):
        if row[0] == b"0":
            slow.wait(5)
        if row[0] == b"9":
            slow.set()
        return toy_probabilities(row)

    server.probabilities = wait_for_the_others
    texts = [str(number) for number in range(10)]
    with Client(server.url, batch_size=3, connections=4) as client:
        assert client.predict(texts) == [expected(text) for text in texts]
    assert slow.is_set()
    sizes = sorted(len(body["inputs"]["text"]) for body in server.predictions)
    assert sizes == [1, 3, 3, 3]


def test_it_reads_no_further_ahead_than_it_must(server):
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield str(number)

    with Client(server.url, batch_size=2, connections=3) as client:
        answers = client.answers(endless())
        first = list(itertools.islice(answers, 100))
        answers.close()
    assert [answer["text"] for answer in first] == [str(n) for n in range(100)]
    assert len(read) <= 100 + 2 * (3 + 1)


def test_an_answer_does_not_wait_for_more_texts_than_its_batch(server):
    def two_and_then_a_failure():
        yield "a"
        yield "b"
        deadline = time.monotonic() + 5
        while not server.predictions and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        yield "c"
        yield "d"
        raise RuntimeError("read on")

    with Client(server.url, batch_size=2) as client:
        answers = client.answers(two_and_then_a_failure())
        assert next(answers) == expected("a")


def test_many_threads_may_share_a_client(server):
    results = {}
    with Client(server.url, connections=2, batch_size=4) as client:

        def ask(name: str) -> None:
            results[name] = client.predict([f"{name}{n}" for n in range(20)])

        threads = [threading.Thread(target=ask, args=(name,)) for name in "abcdef"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.latencies.count == 6 * 5
    for name in "abcdef":
        assert results[name] == [expected(f"{name}{n}") for n in range(20)]
    asked = [path.rpartition("/")[2] for _, path, _ in server.requests]
    assert asked.count("metadata") == 1
    assert asked.count("toy:classify") == 1


def test_pairs():
    with FakeServer(is_paired=True) as server, Client(server.url) as client:
        assert client.is_paired
        (answer,) = client.predict([("a", "b\0")])
        row = [float(np.float32(n)) for n in toy_probabilities([b"a", b"b\0"])]
        assert list(answer)[:2] == ["text", "text_pair"]
        assert (answer["text"], answer["text_pair"]) == ("a", "b\0")
        assert answer["probabilities"] == {"neg": row[0], "pos": row[1]}
        with pytest.raises(ServingError, match=r"takes pairs of texts.*'a'"):
            client.predict([("a", "b"), "a"])


def test_a_pair_for_a_model_of_single_texts(client):
    assert not client.is_paired
    with pytest.raises(ServingError, match=r"single texts\. Received: \('a', 'b'\)"):
        client.predict(["a", ("a", "b")])


@pytest.mark.parametrize("odd", [None, 3, b"good", ("a", 3), ("a",) * 3])
def test_what_is_no_text_is_named(client, odd):
    with pytest.raises(TypeError, match=r"texts\[33\] = "):
        client.predict(["good"] * 33 + [odd])
    with pytest.raises(TypeError, match="several texts"):
        client.predict("good")


def test_without_a_classify_signature_probabilities_are_a_list():
    with FakeServer(has_classify=False) as server, Client(server.url) as client:
        (answer,) = client.predict(["good"])
    wanted = expected("good")
    wanted["probabilities"] = list(wanted["probabilities"].values())
    assert answer == wanted


@pytest.mark.parametrize("labels", [["pos", "neg"], ["low", "mid", "high"]])
def test_a_new_version_may_have_other_classes(client, server, labels):
    client.predict(["a"])
    server.labels = labels
    row = [0.5, 0.25, 0.125][: len(labels)]
    server.probabilities = lambda texts: row
    (answer,) = client.predict(["a"])
    assert answer["probabilities"] == dict(zip(labels, row, strict=True))


def test_labels_that_fit_no_classes_are_refused(client, server):
    client.predict(["a"])
    server.labels = ["yes", "no"]
    server.answer = _with_other_classes(server.answer)
    with pytest.raises(ServingError, match=r"\(a, b\) do not fit together"):
        client.predict(["a"])


def _with_other_classes(answer):
    def wrapped(method, path, body):
        if path.endswith(":classify"):
            return 200, {"results": [[["a", 0.5], ["b", 0.5]]]}
        return answer(method, path, body)

    return wrapped


def test_metadata_status_and_latencies(client, server):
    assert client.metadata()["model_spec"]["version"] == "1"
    assert [version["state"] for version in client.status()] == ["AVAILABLE"]
    assert client.latencies.count == 0
    client.predict(["a"] * 65)
    assert client.latencies.count == 3
    assert 0 < client.latencies.p50 <= client.latencies.p99 < 5
    assert repr(client) == f"kbert.serving.Client({server.url!r})"


def test_a_version_or_a_label_is_part_of_every_path(server):
    for selection in ("/versions/3", "/labels/stable"):
        server.requests.clear()
        with Client(server.url + selection) as client:
            client.predict(["a"])
            client.status()
        paths = [path for _, path, _ in server.requests]
        assert len(paths) == 4
        assert all(path.startswith(f"/v1/models/toy{selection}") for path in paths)


def test_a_server_below_a_path_of_a_proxy(server):
    url = server.url.replace("/v1/", "/proxy/v1/")
    with Client(url) as client:
        assert client.predict(["a"]) == [expected("a")]


def test_a_large_batch_is_halved_until_it_is_taken(client, server):
    server.max_body = 400
    texts = [f"{number} {'x' * 50}" for number in range(32)]
    assert client.predict(texts) == [expected(text) for text in texts]
    sizes = [len(body["inputs"]["text"]) for body in server.predictions]
    assert sizes == [4] * 8
    with pytest.raises(ServingError, match=r"so large \(413\)\. It holds a single"):
        client.predict(["x" * 500])


class TestMistakes:
    def test_another_model(self, server):
        url = server.url.replace("toy", "other")
        with Client(url) as client, pytest.raises(ServingError) as caught:
            client.predict(["a"])
        assert "Servable not found for request: Latest(other)" in str(caught.value)
        assert "http://HOST:8501/v1/models/NAME" in str(caught.value)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("code", [200, 404, 302])
    def test_another_kind_of_server(self, client, server, code):
        server.spares_get = False
        server.trouble = [html(code)]
        with pytest.raises(ServingError, match=r"is no model of a TF Serving.*Hello"):
            client.predict(["a"])
        assert len(server.requests) == 1

    def test_no_server(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/models/toy"
        with Client(url) as client, pytest.raises(ServingError) as caught:
            client.predict(["a"])
        message = str(caught.value)
        assert f"at http://127.0.0.1:{port}: Connection refused" in message
        assert "kbert serve saved_models/NAME" in message

    def test_an_unknown_host(self):
        url = "http://no-such-host.invalid:8501/v1/models/toy"
        with Client(url) as client, pytest.raises(ServingError, match="no-such-host"):
            client.status()

    @pytest.mark.parametrize("host", ["a b", "a..b", "a\u2028b", "a" * 300])
    def test_what_is_no_host(self, host):
        with pytest.raises(ServingError, match=r"has no host: "):
            Client(f"http://{host}:8501/v1/models/toy").status()

    def test_what_speaks_no_http(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/toy"

            def babble() -> None:
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.sendall(b"\0\0\x12\4\0\0\0\0\0\0\n")
                connection.close()

            thread = threading.Thread(target=babble)
            thread.start()
            with Client(url) as client, pytest.raises(ServingError, match="not speak"):
                client.predict(["a"])
            thread.join()

    @pytest.mark.parametrize("code", [400, 404, 500, 501, 504])
    def test_a_refusal_is_final(self, client, server, code):
        client.predict(["a"])
        server.trouble = [status(code, "no, because")]
        with pytest.raises(ServingError, match="no, because"):
            client.predict(["b"])
        assert len(server.predictions) == 2

    def test_one_refused_batch_ends_the_stream(self, client):
        texts = ["a"] * 40 + ["refuse me"] + ["b"] * 400
        with pytest.raises(ServingError, match=r"\(400\): Some text is refused"):
            client.predict(texts)
        assert client.predict(["a"]) == [expected("a")]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("encoded", r'"encoded" takes token_ids \(DT_INT32\).* must take text'),
            ("classify", r'"classify" takes inputs \(DT_STRING\)'),
            ("serving", 'no signature "serving".*Did you mean "serving_default"'),
            ("__saved_model_init_op", "no signature"),
        ],
    )
    def test_a_signature_that_takes_no_texts(self, server, name, message):
        with Client(server.url, signature_name=name) as client:
            with pytest.raises(ServingError, match=message):
                client.predict(["a"])

    def test_a_model_of_numbers(self, client, server):
        signatures = {
            "serving_default": signature({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"})
        }
        server.metadata = {"metadata": {"signature_def": {"signature_def": signatures}}}
        with pytest.raises(ServingError, match=r"takes x \(DT_FLOAT\)"):
            client.predict(["a"])
        signatures["serving_default"] = signature(
            {"text": "DT_STRING"}, {"y": "DT_FLOAT"}
        )
        with pytest.raises(ServingError, match=r"gives y \(DT_FLOAT\). It must give"):
            client.predict(["a"])

    @pytest.mark.parametrize("metadata", [{"a": 1}, {"metadata": []}])
    def test_metadata_of_something_else(self, client, server, metadata):
        server.metadata = metadata
        with pytest.raises(ServingError, match="not those of a model"):
            client.predict(["a"])

    @pytest.mark.parametrize(
        "outputs",
        [
            [1.0],
            {"label": ["pos"]},
            {"label": ["pos"] * 2, "score": [1.0] * 2, "probabilities": [[0.0, 1.0]]},
            {"label": ["pos"], "score": [1.0], "probabilities": [0.5]},
        ],
    )
    def test_answers_that_do_not_fit_the_texts(self, client, server, outputs):
        content = json.dumps({"outputs": outputs}).encode()
        client.predict(["a"])
        server.trouble = [lambda handler: handler.send(200, content)]
        with pytest.raises(ServingError, match=r"with as many values|are no lists"):
            client.predict(["a"])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"timeout": 0}, "`timeout` must be above 0 s. Received: 0"),
            ({"timeout": float("inf")}, "`timeout`"),
            ({"batch_size": 0}, "`batch_size` must be at least 1. Received: 0"),
            ({"connections": 0}, "`connections` must be at least 1"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ServingError, match=message):
            Client("http://localhost:8501/v1/models/toy", **options)

    def test_a_closed_client(self, server):
        client = Client(server.url)
        client.close()
        for ask in (client.status, lambda: client.predict(["a"])):
            with pytest.raises(ServingError, match="has been closed"):
                ask()


def test_asking_imports_neither_tensorflow_nor_keras(server):
    script = (
        "import sys; from kbert.serving import Client\n"
        f"with Client({server.url!r}) as client:\n"
        "    print(client.predict(['good'])[0]['label'])\n"
        "print([m for m in ('tensorflow', 'keras', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [expected("good")["label"], "[]"]
    assert done.stderr == ""
