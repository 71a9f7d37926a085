"""Asks an ASGI application in this process, byte for byte as a server would."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body.decode("utf-8"))

    @property
    def error(self) -> str:
        document = self.json()
        assert list(document) == ["error"]
        return document["error"]


class Exchange:
    """One request, whose body and end the test gives out piece by piece."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []

    def body(self, data: bytes, more: bool = False) -> None:
        self.incoming.put_nowait(
            {"type": "http.request", "body": data, "more_body": more}
        )

    def disconnect(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def response(self) -> Response:
        start, *bodies = self.sent
        headers = {key.decode(): value.decode() for key, value in start["headers"]}
        body = b"".join(message.get("body", b"") for message in bodies)
        return Response(start["status"], headers, body)


def http_scope(
    method: str, target: str, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8"),
        "query_string": query.encode("utf-8"),
        "headers": [
            (key.lower().encode(), value.encode())
            for key, value in (headers or {}).items()
        ],
    }


async def exchange(
    app: Any,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] = b"",
    headers: dict[str, str] | None = None,
) -> Response:
    """Send a request, in several pieces where `body` is a list, and wait."""
    conversation = Exchange()
    pieces = [body] if isinstance(body, bytes) else list(body)
    for index, piece in enumerate(pieces):
        conversation.body(piece, more=index + 1 < len(pieces))
    scope = http_scope(method, target, headers)
    await app(scope, conversation.incoming.get, conversation.send)
    return conversation.response()


def ask(
    app: Any,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] | dict | list = b"",
    headers: dict[str, str] | None = None,
) -> Response:
    """As `exchange`, from a test that is no coroutine; objects go as JSON."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    return asyncio.run(exchange(app, method, target, body, headers))
