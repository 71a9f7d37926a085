"""Interrupts that end a training between two steps, never within one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from kbert.errors import Interrupted


class StopSignal:
    """Makes SIGINT, SIGTERM and SIGALRM `Interrupted`, at a moment that loses nothing.

    Within `deferred` a signal is kept until the block has ended. A SIGINT after it, a
    person's, acts at once, as it would have without this class; a second SIGTERM or
    SIGALRM changes nothing, so that a clock and the end of a slot may both be near.
    Outside the main thread, where Python hands out no signals, nothing is changed.

    Attributes:
        message: what `Interrupted` says; kept up to date by who trains.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        self._received: int | None = None
        self._deferring = False
        self._previous: dict[int, Any] = {}

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that a signal does not cut through.

        Raises:
            Interrupted: a signal came meanwhile.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._received is not None:
            raise Interrupted(self.message, self._received)

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._set(signal.SIGINT, self._previous.pop(signal.SIGINT))
        for other in self._previous:
            signal.signal(other, signal.SIG_IGN)
        if not self._deferring:
            raise Interrupted(self.message, number)
        self._received = number

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            self._set(number, handler)
        self._previous.clear()

    def _set(self, number: int, handler: Any) -> None:
        # None: a handler that was not set from Python.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
