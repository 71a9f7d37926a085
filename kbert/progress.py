"""One line that says how far a long job is, how fast it goes and when it will end."""

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from kbert.display import cut, display_width

BAR_COLUMNS = 20
REDRAW_SECONDS = 0.2  # on a terminal
FIRST_LINE_SECONDS = 5.0  # in a log: soon a sign of life,
LINE_SECONDS = 30.0  # then now and then
WINDOW_SECONDS = 20.0  # speeds are means over this much of the past


class ProgressLine:
    """Show the progress of a job on `stream`: one line, rewritten, or lines of a log.

    On a terminal the line is redrawn in place, a few times a second, and never
    wider than the terminal. Anywhere else a full line is written every 30 seconds.
    The first step, in which TensorFlow traces and compiles, and the time spent in
    a pause do not count for the speeds.

    Args:
        total_steps: the step at which the job is done; None if nobody knows.
        stream: where to write, by default `sys.stderr`.
        label: what begins the line, such as the name of a data set.
        unit: what is counted.
        clock: gives the time in seconds.

    Example:
        with ProgressLine(1000, label="train") as progress:
            for step in range(1, 1001):
                progress.update(step, examples=32, tokens=4096, loss=0.31)
    """

    def __init__(
        self,
        total_steps: int | None,
        stream: TextIO | None = None,
        *,
        label: str = "",
        unit: str = "steps",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self.label = label
        self.unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._on_terminal = self._stream.isatty()
        self._clock = clock
        self._speeds = _Speeds()
        self._step = 0
        self._figures: dict[str, float] = {}
        self._next_time: float | None = None  # when to show the next line
        self._stale = False  # something happened that no line has shown
        self._columns_drawn = 0  # of the line that the cursor stands on
        self._closed = False

    def update(
        self, step: int, examples: int, tokens: int = 0, **figures: float
    ) -> None:
        """Say that `step` steps are done, and show it if it is time to.

        Args:
            step: the number of steps done so far, of `total_steps`.
            examples: examples in the steps since the last update; 0 where `unit` is
                what the speed is told in.
            tokens: tokens in the steps since the last update; 0 where nobody counts.
            figures: what to show besides, in this order: `loss`, `learning_rate`...
                One that is left out is shown as it was last given.
        """
        now = self._clock()
        self._step = step
        self._figures.update(figures)
        self._speeds.add(now, step, examples, tokens)
        self._stale = True
        if self._next_time is None:
            self._next_time = now if self._on_terminal else now + FIRST_LINE_SECONDS
        if now >= self._next_time:
            self._show()
            wait = REDRAW_SECONDS if self._on_terminal else LINE_SECONDS
            self._next_time = now + wait

    def pause(self) -> None:
        """Make room for something else, such as an evaluation, until the next update.

        The line is taken off the terminal, and the time does not count for the speeds.
        """
        self._speeds.restart()
        self._stale = self._stale or self._columns_drawn > 0
        self._clear()
        self._stream.flush()

    def message(self, text: str) -> None:
        """Write `text` on lines of its own, above the progress."""
        drawn = self._columns_drawn
        self._clear()
        self._stream.write(text + "\n")
        if drawn:
            self._show()
        self._stream.flush()

    def close(self) -> None:
        """Show the last state and end the line."""
        if self._closed:
            return
        self._closed = True
        if self._stale:
            self._show()
        if self._columns_drawn:
            self._stream.write("\n")
            self._columns_drawn = 0
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _show(self) -> None:
        self._stale = False
        if not self._on_terminal:
            self._stream.write("  ".join(self._parts(with_bar=False)) + "\n")
        else:
            # One column stays free: a full last one makes some terminals wrap.
            line = self._fitted(shutil.get_terminal_size().columns - 1)
            width = display_width(line)
            rest = " " * (self._columns_drawn - width)
            self._stream.write("\r" + line + rest)
            self._columns_drawn = width
        self._stream.flush()

    def _clear(self) -> None:
        if self._columns_drawn:
            self._stream.write("\r" + " " * self._columns_drawn + "\r")
            self._columns_drawn = 0

    def _fitted(self, columns: int) -> str:
        """Return the line with as many of its parts as have room."""
        line = "  ".join(self._parts(with_bar=True))
        if display_width(line) <= columns:
            return line
        parts = self._parts(with_bar=False)
        while len(parts) > 1 and display_width("  ".join(parts)) > columns:
            parts.pop()
        return cut("  ".join(parts), columns)

    def _parts(self, *, with_bar: bool) -> list[str]:
        """Return the pieces of the line, the most wanted ones first."""
        speeds = self._speeds.per_second()
        parts = [self.label] if self.label else []
        if self.total_steps:
            step = min(self._step, self.total_steps)
            parts.append(f"{100 * step // self.total_steps:3d}%")
            if with_bar:
                done = BAR_COLUMNS * step // self.total_steps
                parts.append("[" + "=" * done + " " * (BAR_COLUMNS - done) + "]")
            parts.append(f"{self._step:,}/{self.total_steps:,} {self.unit}")
            if speeds and self._step < self.total_steps:
                seconds = (self.total_steps - self._step) / speeds.steps
                parts.append(f"{format_duration(seconds)} left")
        else:
            parts.append(f"{self.unit} {self._step:,}")
        parts += [f"{_title(k)} {_number(v)}" for k, v in self._figures.items()]
        if speeds:
            if speeds.examples:
                parts.append(f"{_speed(speeds.examples)} examples/s")
            else:
                parts.append(f"{_speed(speeds.steps)} {self.unit}/s")
            if speeds.tokens:
                parts.append(f"{_speed(speeds.tokens)} tokens/s")
        return parts


def format_duration(seconds: float) -> str:
    """Return `seconds` as `m:ss`, or as `h:mm:ss` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


class _Amounts(NamedTuple):
    steps: float
    examples: float
    tokens: float


class _Speeds:
    """Speeds over the last seconds, from counts that are added step by step."""

    def __init__(self) -> None:
        self._window: deque[tuple[float, _Amounts]] = deque()  # time, done until then
        self._last: _Amounts | None = None

    def add(self, now: float, step: int, examples: int, tokens: int) -> None:
        window = self._window
        if not window:  # what came before took time that is not counted
            window.append((now, _Amounts(step, 0, 0)))
            return
        _, before = window[-1]
        done = _Amounts(step, before.examples + examples, before.tokens + tokens)
        window.append((now, done))
        # The oldest one is the last at least a window ago; slow steps keep two.
        while len(window) > 2 and now - window[1][0] >= WINDOW_SECONDS:
            window.popleft()
        start, at_start = window[0]
        elapsed = now - start
        if elapsed > 0 and step > at_start.steps:
            self._last = _Amounts(
                steps=(done.steps - at_start.steps) / elapsed,
                examples=(done.examples - at_start.examples) / elapsed,
                tokens=(done.tokens - at_start.tokens) / elapsed,
            )

    def restart(self) -> None:
        self._window.clear()

    def per_second(self) -> _Amounts | None:
        """Return the last speeds known; None until the second update."""
        return self._last


def _title(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 0.001 else f"{value:.4f}"


def _speed(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
