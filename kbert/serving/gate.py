"""How many requests the server holds at once, REST and gRPC together.

TensorFlow Serving bounds its batch queues only. A server in one Python process also
bounds the requests that wait for a thread, so that an overload is answered at once
(429, RESOURCE_EXHAUSTED) in place of piling up until memory or patience ends.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from kbert.serving.status import Code, StatusError


class Gate:
    """Counts the requests in flight or waiting; nothing in it blocks but `drain`.

    Safe from any thread and from an event loop.

    Args:
        limit: the largest number of requests at once, at least 1.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"`limit` must be at least 1. Received: limit={limit}")
        self._limit = limit
        self._in_flight = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def acquire(self) -> None:
        """Count a request in; `release` has to follow, from whatever thread.

        Raises:
            StatusError: RESOURCE_EXHAUSTED where the limit is reached, UNAVAILABLE
                once `drain` was called.
        """
        with self._changed:
            if self._closed:
                raise StatusError(Code.UNAVAILABLE, "The server is shutting down")
            if self._in_flight >= self._limit:
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The server is at its limit of {self._limit} requests in flight "
                    "or waiting; try again later",
                )
            self._in_flight += 1

    def release(self) -> None:
        """Count a request out."""
        with self._changed:
            assert self._in_flight > 0, "released more often than acquired"
            self._in_flight -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place for the length of the block. Raises as `acquire` does."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def drain(self, timeout: float | None) -> bool:
        """Refuse new requests from now on and wait for those that were accepted.

        Args:
            timeout: seconds to wait at most; None waits for as long as it takes.

        Returns:
            Whether all of them ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._closed = True
            while self._in_flight:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True
