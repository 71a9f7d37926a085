"""Predictions over TF Serving's REST API, without TensorFlow."""

import base64
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine
from typing import Any
from weakref import WeakSet

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NewConnectionError,
    SSLError,
    TimeoutError,
)
from urllib3.response import BaseHTTPResponse

from kbert.errors import ServingError
from kbert.serving.addresses import REST_FORM, Address
from kbert.serving.retries import TooLargeError, TransientError
from kbert.serving.transport import Inputs, no_model, no_server

# Too many requests; no server behind a proxy, or none that is ready. TF Serving
# itself answers 500 and 504 to a request that will not fare better again.
_BUSY = (429, 502, 503)
_CHUNK = 1 << 16


class RestTransport:
    """See `kbert.serving.transport.Transport`.

    Connections are kept open and used again. Proxies named in the environment are
    not used: what is asked is a server, often on this very machine.

    Args:
        address: an http or https address.
        connections: how many are kept open.
        ca_cert: a file of certificates to trust, in place of the system's.

    Raises:
        ServingError: `ca_cert` cannot be read.
    """

    def __init__(
        self, address: Address, *, connections: int, ca_cert: str | None
    ) -> None:
        self._address = address
        options: dict[str, Any] = {"maxsize": connections}
        if address.is_secure:
            options["ssl_context"] = _tls_context(ca_cert)
        try:
            self._pool = urllib3.connection_from_url(address.origin, **options)
        except LocationValueError as error:
            raise ServingError(f"{address} has no host: {error}.") from None
        self._sockets: WeakSet[Any] = WeakSet()
        self._pool.ConnectionCls = _remembering(self._pool.ConnectionCls, self._sockets)

    def metadata(self, timeout: float) -> dict[str, Any]:
        """See `Transport.metadata`."""
        return self._ask("GET", "/metadata", None, timeout)

    def status(self, timeout: float) -> list[dict[str, Any]]:
        """See `Transport.status`."""
        answer = self._ask("GET", "", None, timeout)
        return self._part(answer, "model_version_status")

    def predict(
        self, signature_name: str, inputs: Inputs, timeout: float
    ) -> dict[str, Any]:
        """See `Transport.predict`."""
        body = {
            "signature_name": signature_name,
            "inputs": {
                key: list(map(_as_json, texts)) for key, texts in inputs.items()
            },
        }
        return self._part(self._ask("POST", ":predict", body, timeout), "outputs")

    def class_names(
        self, signature_name: str, example: Mapping[str, bytes], timeout: float
    ) -> list[str]:
        """See `Transport.class_names`."""
        body = {
            "signature_name": signature_name,
            "examples": [{key: _as_json(text) for key, text in example.items()}],
        }
        answer = self._ask("POST", ":classify", body, timeout)
        try:
            (result,) = self._part(answer, "results")
            return [label for label, _ in result]
        except (TypeError, ValueError):
            raise self._no_tensorflow_serving(json.dumps(answer)) from None

    def close(self) -> None:
        """See `Transport.close`."""
        self._pool.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)

    def _ask(
        self, method: str, action: str, body: Mapping[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        """Sends one request; returns the JSON object of the answer."""
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            response, content = self._exchange(method, action, data, timeout)
        except (HTTPError, ValueError) as error:
            # ValueError: urllib3 on a socket that was closed meanwhile.
            raise self._failure(error) from error
        answer = _json_object(content)
        if response.status == 200 and answer is not None:
            return answer
        raise self._refusal(response, content, answer)

    def _exchange(
        self, method: str, action: str, data: bytes | None, timeout: float
    ) -> tuple[BaseHTTPResponse, bytes]:
        end = time.monotonic() + timeout
        response = self._pool.urlopen(
            method,
            self._address.path + action,
            body=data,
            headers={"Accept": "application/json"}
            | ({"Content-Type": "application/json"} if data else {}),
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(total=max(timeout, 0.001)),
            preload_content=False,
        )
        chunks = []
        while chunk := response.read1(_CHUNK):
            chunks.append(chunk)
            # The timeout of a socket is for each piece of an answer that trickles.
            if time.monotonic() > end:
                response.close()
                reason = f"{self._address.origin} did not answer in time."
                raise TransientError(reason, timed_out=True)
        return response, b"".join(chunks)

    def _failure(self, error: Exception) -> Exception:
        """The error about a request that was not answered."""
        origin = self._address.origin
        cause = error.args[-1] if error.args else error
        if isinstance(error, ConnectTimeoutError):
            refused = isinstance(error, NewConnectionError)
            reason = str(error.__cause__) if refused else "the connection timed out"
            message = no_server(self._address, _without_number(reason))
            return TransientError(message, unreachable=True, timed_out=not refused)
        if isinstance(error, LocationValueError):
            return ServingError(f"{self._address} has no host: {cause}.")
        if isinstance(error, TimeoutError):
            return TransientError(f"{origin} did not answer in time.", timed_out=True)
        if isinstance(error, SSLError):
            return ServingError(
                f"No secure connection to {origin}: {cause}. Trust a certificate of "
                "your own with ca_cert=FILE, or with SSL_CERT_FILE=FILE in the "
                "environment; a server without TLS has a URL with http://."
            )
        if type(cause) is BadStatusLine:  # the sub-class is a line that is missing
            return ServingError(
                f"What answers at {origin} does not speak HTTP. TF Serving's REST "
                f"port is 8501 by default, 8500 is that of gRPC: {REST_FORM}."
            )
        return TransientError(
            f"{origin} did not answer: {_without_number(str(cause))}."
        )

    def _refusal(
        self, response: BaseHTTPResponse, content: bytes, answer: Any
    ) -> Exception:
        """The error about an answer that is none to the request."""
        status = response.status
        if status == 413:
            return TooLargeError(
                f"{self._address.origin} takes no request so large (413)."
            )
        said = answer.get("error") if answer is not None else None
        if status in _BUSY:
            return TransientError(
                f"{self._address.origin} is busy or not ready ({status}): "
                f"{said or response.reason}.",
                retry_after=_retry_after(response.headers.get("Retry-After")),
            )
        if not isinstance(said, str):
            return self._no_tensorflow_serving(
                f"{status} {response.headers.get('Content-Type', '')} "
                + content[:200].decode("utf-8", "replace")
            )
        if status == 404:
            return ServingError(no_model(self._address, said))
        return ServingError(f"{self._address} refused the request ({status}): {said}")

    def _no_tensorflow_serving(self, received: str) -> ServingError:
        return ServingError(
            f"{self._address} is no model of a TF Serving. The URL of one is "
            f"{REST_FORM}. Received: {received!r:.300}"
        )

    def _part(self, answer: Mapping[str, Any], key: str) -> Any:
        if key not in answer:
            raise self._no_tensorflow_serving(json.dumps(answer))
        return answer[key]


def _as_json(text: bytes) -> str | dict[str, str]:
    """A text as it is where JSON can say it, else in base 64.

    JSON has a way to write NUL too, but C++ on its way to the model may end at it.
    """
    if b"\0" not in text:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(text).decode("ascii")}


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _retry_after(value: str | None) -> float:
    """The seconds that a Retry-After header asks for; 0 where there is no sense."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _without_number(reason: str) -> str:
    """`[Errno 111] Connection refused` without its number."""
    return reason.partition("] ")[2] or reason


def _tls_context(ca_cert: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise ServingError(
            f"ca_cert must be a file of certificates in PEM. Received: {ca_cert}: "
            f"{error.strerror or error}."
        ) from None


def _remembering(connection_class: type[Any], sockets: "WeakSet[Any]") -> type[Any]:
    """The connection class, its sockets added to `sockets`, so that they can be shut.

    Closing urllib3's pool closes only the connections that nobody waits for.
    """

    class Remembered(connection_class):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    return Remembered
