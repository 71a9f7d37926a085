"""A stand-in for TF Serving's REST API that answers, and that can go wrong.

It follows the protocol and knows no TensorFlow; what it received can be read back.
"""

import base64
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np

Row = list[bytes]  # a text, or the two of a pair
MODEL_PATH = "/v1/models/toy"


def toy_probabilities(row: Row) -> list[float]:
    """Some numbers that depend on every byte of the text."""
    positive = (sum(b"|".join(row)) % 97 + 1) / 99
    return [1 - positive, positive]


class FakeServer:
    """One model, `toy`, on a port of its own; a context manager.

    Args:
        labels: the classes in order.
        is_paired: whether the model takes `text_pair` too.
        probabilities: of one row.
        has_classify: whether there is a `classify` signature.
        port: 0 for a free one.
        tls: speaks https with this.

    Attributes:
        trouble: what happens to the next requests, in order, in place of an answer:
            functions of the handler. A GET is spared unless `spares_get` is False.
        requests: method, path and JSON body of each request.
    """

    def __init__(
        self,
        *,
        labels: Sequence[str] = ("neg", "pos"),
        is_paired: bool = False,
        probabilities: Callable[[Row], list[float]] = toy_probabilities,
        has_classify: bool = True,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.labels = list(labels)
        self.is_paired = is_paired
        self.probabilities = probabilities
        self.has_classify = has_classify
        self.trouble: list[Callable[[Handler], None]] = []
        self.spares_get = True
        self.requests: list[tuple[str, str, Any]] = []
        self.max_body = 1 << 30
        self.metadata: Any = None  # in place of the model's
        self._http = _HTTPServer(("127.0.0.1", port), Handler)
        self._http.fake = self
        self.port = self._http.server_address[1]
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}{MODEL_PATH}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def predictions(self) -> list[Any]:
        """The bodies of the :predict requests."""
        return [body for _, path, body in self.requests if path.endswith(":predict")]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON of the answer, as TF Serving gives them."""
        known = path.startswith(MODEL_PATH) or path.startswith(f"/proxy{MODEL_PATH}")
        if not known:
            return 404, {"error": "Servable not found for request: Latest(other)"}
        if method == "GET":
            if path.endswith("/metadata"):
                return 200, self.metadata or describe(self)
            return 200, {"model_version_status": [AVAILABLE]}
        if path.endswith(":classify"):
            (example,) = body["examples"]
            row = self.probabilities([as_bytes(text) for text in example.values()])
            scored = zip(self.labels, row, strict=True)
            return 200, {"results": [[list(pair) for pair in scored]]}
        columns = [body["inputs"]["text"]]
        columns += [body["inputs"]["text_pair"]] if self.is_paired else []
        texts = [list(map(as_bytes, row)) for row in zip(*columns, strict=True)]
        if any(b"refuse me" in text for row in texts for text in row):
            return 400, {"error": "Some text is refused."}
        rows = [list(map(as_printed, self.probabilities(row))) for row in texts]
        outputs = {
            "label": [self.labels[int(np.argmax(row))] for row in rows],
            "score": [max(row) for row in rows],
            "probabilities": rows,
        }
        return 200, {"outputs": outputs}


AVAILABLE = {
    "version": "1",
    "state": "AVAILABLE",
    "status": {"error_code": "OK", "error_message": ""},
}


def describe(fake: FakeServer) -> dict[str, Any]:
    """The metadata of the model."""
    inputs = ["text", "text_pair"] if fake.is_paired else ["text"]
    floats = {"probabilities": "DT_FLOAT", "score": "DT_FLOAT", "label": "DT_STRING"}
    signatures = {
        "__saved_model_init_op": {"inputs": {}, "outputs": {}, "method_name": ""},
        "serving_default": signature(dict.fromkeys(inputs, "DT_STRING"), floats),
        "encoded": signature({"token_ids": "DT_INT32"}, {"logits": "DT_FLOAT"}),
    }
    if fake.has_classify:
        scored = {"classes": "DT_STRING", "scores": "DT_FLOAT"}
        signatures["classify"] = signature({"inputs": "DT_STRING"}, scored)
    return {
        "model_spec": {"name": "toy", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def signature(inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    def tensors(dtypes: dict[str, str]) -> dict[str, Any]:
        shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
        return {
            key: {"dtype": dtype, "tensor_shape": shape, "name": f"{key}:0"}
            for key, dtype in dtypes.items()
        }

    return {
        "inputs": tensors(inputs),
        "outputs": tensors(outputs),
        "method_name": "tensorflow/serving/predict",
    }


def as_bytes(value: str | dict[str, str]) -> bytes:
    """A string of a request, plain or in base 64."""
    if isinstance(value, dict):
        assert value.keys() == {"b64"}
        return base64.b64decode(value["b64"], validate=True)
    return value.encode("utf-8")


def as_printed(number: float) -> float:
    """A float32 as TF Serving prints it: 6 digits if they tell it, else 9."""
    single = np.float32(number)
    short = float(f"{single:.6g}")
    return short if np.float32(short) == single else float(f"{single:.9g}")


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the test's business."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def do_GET(self) -> None:
        self._handle("GET", None)

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        data = self.rfile.read(size)
        if size > self.server.fake.max_body:
            self.send(413, b"<html>too large</html>", "text/html")
        else:
            self._handle("POST", json.loads(data.decode("utf-8")))

    def _handle(self, method: str, body: Any) -> None:
        fake = self.server.fake
        fake.requests.append((method, self.path, body))
        if fake.trouble and (method == "POST" or not fake.spares_get):
            fake.trouble.pop(0)(self)
            return
        status, answer = fake.answer(method, self.path, body)
        self.send(status, json.dumps(answer).encode())

    def send(
        self,
        status: int,
        content: bytes,
        kind: str = "application/json",
        *,
        length: int | None = None,
        **headers: str,
    ) -> None:
        """Answers; `length` is what the header says of the content's size."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header(
            "Content-Length", str(len(content) if length is None else length)
        )
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def hang_up(handler: Handler) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """What a killed process does: RST."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.close_connection = True


def truncate(handler: Handler) -> None:
    """Half an answer, then the end."""
    handler.send(200, b'{"outputs": {"lab', length=1000)
    handler.close_connection = True


def status(code: int, message: str = "as asked", **headers: str) -> Callable:
    """An error of TF Serving."""

    def act(handler: Handler) -> None:
        handler.send(code, json.dumps({"error": message}).encode(), **headers)

    return act


def html(code: int) -> Callable:
    """What a web server says."""

    def act(handler: Handler) -> None:
        handler.send(code, b"<html><h1>Hello</h1></html>", "text/html")

    return act
