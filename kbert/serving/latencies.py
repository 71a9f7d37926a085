"""How long requests take."""

import math
import threading
from collections import deque

# Percentiles are of the last so many requests: 0.8 MB, however many there are.
_KEPT = 100_000


class Latencies:
    """The times of requests, each from its first sending to its answer.

    Repetitions and the pauses between them are part of a request's time. Requests
    that failed for good do not count. It may be used from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._count = 0
        self._start = math.inf
        self._end = -math.inf

    def add(self, start: float, end: float) -> None:
        """Counts a request by the times, in seconds, at which it began and ended."""
        with self._lock:
            self._seconds.append(end - start)
            self._count += 1
            self._start = min(self._start, start)
            self._end = max(self._end, end)

    def percentile(self, percent: float) -> float:
        """The seconds within which `percent` of the requests are answered.

        Between two requests it is interpolated linearly. NaN where there is none.
        """
        with self._lock:
            ordered = sorted(self._seconds)
        if not ordered:
            return math.nan
        position = (len(ordered) - 1) * percent / 100
        below = math.floor(position)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (position - below)

    @property
    def count(self) -> int:
        """The number of requests that were answered."""
        return self._count

    @property
    def p50(self) -> float:
        """The median, in seconds."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """The 95th percentile, in seconds."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """The 99th percentile, in seconds."""
        return self.percentile(99)

    @property
    def requests_per_second(self) -> float:
        """Requests answered, by the time from the first one to the last answer."""
        return self._count / (self._end - self._start) if self._count else math.nan

    def summary(self) -> str:
        """One line for people."""
        if not self._count:
            return "no requests"
        times = (
            f"p{percent} {self.percentile(percent) * 1000:.1f} ms"
            for percent in (50, 95, 99)
        )
        plural = "" if self._count == 1 else "s"
        return (
            f"{self._count:,} request{plural}, {self.requests_per_second:,.1f} "
            f"requests/s, {', '.join(times)}"
        )
