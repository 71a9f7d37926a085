"""The times of a job that is done over and over."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

from kbert.progress import ProgressLine

Clock = Callable[[], float]
# Steps done, examples and tokens of the last one.
OnStep = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Timing:
    """How long a job took.

    Attributes:
        first_seconds: its first time, in which graphs are traced and compiled.
        seconds: each time that counts, once it was warm.
    """

    first_seconds: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """In seconds."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, float]:
        """The times that count, in seconds, for JSON."""
        return {
            "median": self.median,
            "min": min(self.seconds),
            "max": max(self.seconds),
        }

    def summary(self) -> str:
        """The times that count, in one line for people."""
        found = f"{format_seconds(self.median)}, the median of {len(self.seconds)}"
        fastest, slowest = min(self.seconds), max(self.seconds)
        return f"{found} ({format_seconds(fastest)} to {format_seconds(slowest)})"


def time_call(job: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """The seconds that a job takes."""
    start = clock()
    job()
    return clock() - start


def format_seconds(seconds: float) -> str:
    """A time with three figures: `41.2 ms`, `1.33 s`, `204 s`."""
    value, unit = (seconds, "s") if seconds >= 1 else (seconds * 1000, "ms")
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} {unit}"


@contextlib.contextmanager
def showing(
    total: int | None, progress: TextIO | None, *, unit: str = "steps"
) -> Iterator[OnStep]:
    """What to tell each step to.

    Args:
        total: steps; None if nobody knows.
        progress: where it is shown; None for nowhere.
        unit: what a step is called.
    """
    if progress is None:
        yield lambda *counts: None
        return
    with ProgressLine(total, progress, label="measuring", unit=unit) as line:
        yield line.update
