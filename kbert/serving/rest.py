"""TensorFlow Serving's REST interface as an ASGI 3 application.

The event loop reads and writes; whatever may block runs in threads: predictions in
`RestOptions.num_threads` of them, what only looks (status, metadata) in two of its
own, so that a readiness probe is answered under load too.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kbert.serving.gate import Gate
from kbert.serving.json_responses import error_response
from kbert.serving.metrics import CONTENT_TYPE, Metrics
from kbert.serving.rest_body import (
    BodyError,
    DisconnectedError,
    Message,
    Receive,
    Send,
    header,
    read_body,
    wait_for_disconnect,
)
from kbert.serving.rest_calls import RestCalls
from kbert.serving.rest_routes import Route, decode_target, is_api, parse_route
from kbert.serving.status import Code, StatusError

if TYPE_CHECKING:
    from kbert.serving.manager import ModelManager

AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]


@dataclass(frozen=True)
class RestOptions:
    """What the REST interface can be told.

    Attributes:
        timeout_seconds: for the arrival of a body, and again for its answer.
        max_body_bytes: largest body, before and after it is unpacked.
        enable_cors: whether pages of other origins may ask.
        num_threads: predictions at once.
        metrics_path: where Prometheus reads; None for nowhere.
    """

    timeout_seconds: float = 30.0
    max_body_bytes: int = 64 << 20
    enable_cors: bool = False
    num_threads: int = 4 * (os.cpu_count() or 1)
    metrics_path: str | None = None


class _Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"
    close: bool = False  # the connection


class RestApp:
    """The application.

    Args:
        manager: the models.
        options: limits and what is enabled.
        metrics: counts each request under `/v1/`.
        gate: bounds the predictions at once.
        page: answers all paths but `/v1/...` and the metrics'; None for 404.
    """

    def __init__(
        self,
        manager: "ModelManager",
        options: RestOptions,
        metrics: Metrics,
        gate: Gate,
        page: AsgiApp | None = None,
    ) -> None:
        self._manager = manager
        self._options = options
        self._metrics = metrics
        self._gate = gate
        self._page = page
        self._calls = RestCalls(manager, metrics, options.max_body_bytes)
        self._predictions = ThreadPoolExecutor(options.num_threads, "rest")
        self._looks = ThreadPoolExecutor(2, "rest-status")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            raise ValueError(f"HTTP only, no ASGI scope {scope['type']!r}")
        path = decode_target(scope["raw_path"])
        if is_api(path):
            await self._answer_api(scope, receive, send)
        elif path == self._options.metrics_path:
            await _respond(send, self._metrics_page(scope))
        elif self._page is not None:
            await self._page(scope, receive, send)
        else:
            await _respond(send, _Answer(404, b"", "text/plain"))

    def close(self) -> None:
        """End the threads; to be called when no request is in flight any more."""
        self._predictions.shutdown()
        self._looks.shutdown()

    def _metrics_page(self, scope: Message) -> _Answer:
        if not scope["query_string"]:
            return _Answer(200, self._metrics.exposition().encode(), CONTENT_TYPE)
        message = f"Unexpected path. Should be {self._options.metrics_path}"
        return _Answer(400, message.encode(), "text/plain; charset=utf-8")

    async def _answer_api(self, scope: Message, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        route, code = Route("", "", None, None), Code.UNKNOWN
        extra = _CORS if self._options.enable_cors else []
        try:
            if scope["method"] == "OPTIONS":
                answer = _preflight(scope)
            else:
                route = parse_route(scope["method"], _target(scope))
                answer = _Answer(200, await self._call(route, scope, receive))
            code = Code.OK
        except StatusError as error:
            code = error.code
            answer = _error(error.http_status, error.message)
        except BodyError as error:
            code = Code.INVALID_ARGUMENT
            answer = _error(error.status, error.message, close=True)
        except DisconnectedError:
            code = Code.CANCELLED
            return
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except BaseException:
            await _respond(send, _error(500, "Internal error", close=True), extra)
            raise
        finally:
            seconds = time.perf_counter() - start
            api = route.call if route.is_prediction else ""
            self._metrics.observe(route.model, api, "REST", code, seconds)
        await _respond(send, answer, extra)

    async def _call(self, route: Route, scope: Message, receive: Receive) -> bytes:
        if not route.is_prediction:
            looking = self._looks.submit(self._calls.look, route)
            return await asyncio.wrap_future(looking)
        self._gate.acquire()
        try:
            options = self._options
            body = await read_body(
                scope, receive, options.max_body_bytes, options.timeout_seconds
            )
            future = self._predictions.submit(
                self._calls.predict,
                route,
                body,
                header(scope, b"content-encoding"),
                time.monotonic() + options.timeout_seconds,
            )
        except BaseException:
            self._gate.release()
            raise
        # Not when the client has gone, but when the work is done or was never begun.
        future.add_done_callback(lambda _: self._gate.release())
        return await _result(future, receive)


async def _result(future: "Future[bytes]", receive: Receive) -> bytes:
    """Return the result; work that nobody waits for any more is not begun.

    Raises:
        DisconnectedError: the client went away first.
    """
    answered = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(wait_for_disconnect(receive))
    try:
        either: set[asyncio.Future[Any]] = {answered, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            raise DisconnectedError
        return answered.result()
    finally:
        gone.cancel()
        answered.cancel()


def _target(scope: Message) -> str:
    """Return the request's path and query as they were sent."""
    query = scope["query_string"]
    return decode_target(scope["raw_path"] + (b"?" + query if query else b""))


def _preflight(scope: Message) -> _Answer:
    if not re.search("https?://", header(scope, b"origin")):
        raise StatusError(
            Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight"
        )
    return _Answer(200, b"")


def _error(status: int, message: str, close: bool = False) -> _Answer:
    return _Answer(status, error_response(message), close=close)


async def _respond(
    send: Send, answer: _Answer, extra: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    headers = [
        (b"content-type", answer.content_type.encode("ascii")),
        (b"content-length", str(len(answer.body)).encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    if answer.close:
        headers.append((b"connection", b"close"))
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": answer.body})
