"""When a request is sent again, and when it is given up.

Prediction changes nothing on the server, so a request whose fate is unknown may be
sent again. A transport says by `TransientError` that it is worth it: the connection
failed, or the server is busy or not there for the moment. Any other answer of the
server is final.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kbert.errors import ServingError

Answer = TypeVar("Answer")

# With less than this left no server can answer.
_TOO_LATE_SECONDS = 0.02


@dataclass(frozen=True)
class Retries:
    """How long to wait before a request is sent again: twice as long each time.

    The pauses are shortened by a random share of up to one half, so that many
    clients of a server that comes back do not all return at once.

    Attributes:
        first_pause: seconds before the first repetition.
        longest_pause: seconds that no pause exceeds, unless the server asks for it
            with Retry-After.
    """

    first_pause: float = 0.1
    longest_pause: float = 2.0

    def pause(self, number: int) -> float:
        """Seconds to wait before repetition `number`, counted from 0."""
        # Beyond 2 ** 60 a pause is the longest anyway.
        whole = min(self.longest_pause, self.first_pause * 2 ** min(number, 60))
        return whole * random.uniform(0.5, 1.0)


class TransientError(Exception):
    """A failure after which the same request may succeed.

    Attributes:
        retry_after: the seconds that the server asks to wait.
        unreachable: nothing listens at the address.
        timed_out: the time that was left for this try was too short.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 0.0,
        unreachable: bool = False,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.unreachable = unreachable
        self.timed_out = timed_out


class TooLargeError(Exception):
    """A request that is larger than the server, or a proxy before it, takes."""


class Retrier:
    """Sends requests until they are answered or their time is up.

    Until the server has been reached once, an address where nothing listens is
    taken for a mistake and given up at once; afterwards for a server that restarts.

    Args:
        timeout: seconds for a request, its repetitions and pauses included.
        retries: how to wait between them; None to send each request once.
    """

    def __init__(self, timeout: float, retries: Retries | None) -> None:
        self.timeout = timeout
        self._retries = retries
        self._reached = False
        self._closed = threading.Event()

    def call(self, send: Callable[[float], Answer]) -> Answer:
        """The answer of `send`, which is given the seconds that are left.

        Raises:
            ServingError: there was none in time, or a final refusal.
            TooLargeError: from `send`.
        """
        start = time.monotonic()
        failure: TransientError | None = None
        for number in itertools.count():
            if self._closed.is_set():
                raise ServingError("This client has been closed.")
            try:
                answer = send(self.timeout - (time.monotonic() - start))
            except TransientError as error:
                # The last try, cut short, knows less of what is wrong.
                if failure is None or not error.timed_out:
                    failure = error
                left = self.timeout - (time.monotonic() - start)
                pause = self._pause(number, failure, left)
            else:
                self._reached = True
                return answer
            self._closed.wait(pause)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Ends the pauses; what is called from now on fails."""
        self._closed.set()

    def _pause(self, number: int, error: TransientError, left: float) -> float:
        """Seconds to wait after a failure; ServingError where it is the last one."""
        self._reached = self._reached or not error.unreachable
        if self._retries is None or not self._reached:
            raise ServingError(str(error)) from error
        if max(error.retry_after, _TOO_LATE_SECONDS) >= left:
            asked = error.retry_after
            waits = f" The server asks to wait {asked:g} s." if asked else ""
            tries = "once" if number == 0 else f"{number + 1} times"
            raise ServingError(
                f"{error}{waits} Tried {tries} within the timeout of "
                f"{self.timeout:g} s."
            ) from error
        # Half of what is left at most, so that there is time for another try.
        return max(error.retry_after, min(self._retries.pause(number), left / 2))
