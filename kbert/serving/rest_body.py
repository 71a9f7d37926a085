"""A request's body, read no further than its limit and no longer than its time."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# A client that is still sending does not hear an answer before the connection is
# closed under it; so this much more is read and thrown away.
_LINGER_SECONDS = 2.0
_GZIP = 16 + zlib.MAX_WBITS
_UNPACK_BYTES = 1 << 20


class DisconnectedError(Exception):
    """The client has gone; there is nobody to answer."""


class BodyError(Exception):
    """A body that is not read to its end.

    Attributes:
        status: HTTP status to answer with, after which the connection is closed.
        message: what the client is shown.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


def header(scope: Message, name: bytes) -> str:
    """Return a request header, "" where it is absent.

    Args:
        name: in small letters.
    """
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return ""


async def read_body(
    scope: Message, receive: Receive, max_bytes: int, timeout_seconds: float
) -> bytes:
    """Return the body as it was sent.

    Raises:
        BodyError: 413 for more than `max_bytes`, 408 where it took too long.
        DisconnectedError: the client went away.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            if _is_larger(header(scope, b"content-length"), max_bytes):
                # With `Expect`, the client waits to hear whether it may send at all.
                if not header(scope, b"expect"):
                    await _linger(receive, max_bytes)
                raise _too_large(max_bytes)
            return await _read(receive, max_bytes)
    except TimeoutError:
        raise BodyError(
            408, f"The request's body did not arrive within {timeout_seconds:g} s"
        ) from None


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone; to be called when the body is read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def unpack(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the body without its Content-Encoding, of which gzip is known.

    Raises:
        BodyError: 413 where it unpacks to more than `max_bytes`, 400 where it is no
            gzip.
    """
    if "gzip" not in encoding.lower():
        return body
    pieces, size, packed = [], 0, body
    try:
        while packed:  # One gzip file may follow the other.
            unpacker = zlib.decompressobj(_GZIP)
            while not unpacker.eof:
                piece = unpacker.decompress(packed, _UNPACK_BYTES)
                packed = unpacker.unconsumed_tail
                pieces.append(piece)
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if not piece and not packed and not unpacker.eof:
                    raise BodyError(400, "The gzip body is cut off")
            packed = unpacker.unused_data
    except zlib.error as error:
        raise BodyError(400, f"The body is no gzip: {error}") from None
    return b"".join(pieces)


def _is_larger(length: str, max_bytes: int) -> bool:
    # The number of digits first: Python refuses to convert thousands of them.
    return length.isdecimal() and (len(length) > 18 or int(length) > max_bytes)


async def _read(receive: Receive, max_bytes: int) -> bytes:
    pieces, size, more = [], 0, True
    while more:
        message = await _next(receive)
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
        if size > max_bytes:
            if more:
                await _linger(receive, max_bytes)
            raise _too_large(max_bytes)
    return b"".join(pieces)


async def _linger(receive: Receive, max_bytes: int) -> None:
    """Read and drop the rest of a body, up to as much as the limit once more."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            dropped, more = 0, True
            while more and dropped <= max_bytes:
                message = await _next(receive)
                dropped += len(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        return


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    return message


def _too_large(max_bytes: int) -> BodyError:
    return BodyError(
        413,
        f"The request's body is larger than this server's limit of {max_bytes} bytes; "
        "send fewer examples a request",
    )
