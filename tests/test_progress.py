"""What the progress line writes, to the letter, on a terminal and in a log."""

import io
import os
import shutil

import pytest

from kbert.progress import ProgressLine, format_duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The width of the terminal, to be set by the test."""
    size = [200]

    def get_terminal_size() -> os.terminal_size:
        return os.terminal_size((size[0], 24))

    monkeypatch.setattr(shutil, "get_terminal_size", get_terminal_size)
    return size


def on_screen(text: str) -> list[str]:
    """The lines that a terminal shows after `text`."""
    lines = []
    for written in text.split("\n"):
        shown = ""
        for part in written.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


class TestLog:
    def test_lines_come_after_5_seconds_and_then_every_30(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(100, stream, clock=clock)
        clock.now += 40  # the first step compiles
        for step in range(1, 101):
            progress.update(
                step, examples=32, tokens=4000, loss=1 / step, learning_rate=3e-5
            )
            clock.now += 1
        progress.close()
        assert stream.getvalue().splitlines() == [
            "  6%  6/100 steps  1:34 left  loss 0.1667  learning rate 3.0e-05"
            "  32 examples/s  4,000 tokens/s",
            " 36%  36/100 steps  1:04 left  loss 0.0278  learning rate 3.0e-05"
            "  32 examples/s  4,000 tokens/s",
            " 66%  66/100 steps  0:34 left  loss 0.0152  learning rate 3.0e-05"
            "  32 examples/s  4,000 tokens/s",
            " 96%  96/100 steps  0:04 left  loss 0.0104  learning rate 3.0e-05"
            "  32 examples/s  4,000 tokens/s",
            "100%  100/100 steps  loss 0.0100  learning rate 3.0e-05"
            "  32 examples/s  4,000 tokens/s",
        ]

    def test_a_short_job_writes_its_end(self, clock: Clock) -> None:
        stream = io.StringIO()
        with ProgressLine(2, stream, label="validation", clock=clock) as progress:
            progress.update(1, examples=8)
            clock.now += 2
            progress.update(2, examples=5)
            assert stream.getvalue() == ""
        progress.close()
        assert stream.getvalue() == "validation  100%  2/2 steps  2.5 examples/s\n"

    def test_no_total(self, clock: Clock) -> None:
        stream = io.StringIO()
        with ProgressLine(None, stream, clock=clock) as progress:
            progress.update(1, examples=1000)
            clock.now += 5
            progress.update(1500, examples=10_000)
        assert stream.getvalue() == "steps 1,500  2,000 examples/s\n"

    def test_nothing_done_writes_nothing(self, clock: Clock) -> None:
        stream = io.StringIO()
        ProgressLine(10, stream, clock=clock).close()
        assert stream.getvalue() == ""

    def test_a_message_is_a_line(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(10, stream, clock=clock)
        progress.update(1, examples=1)
        progress.message("epoch 1: accuracy 0.9")
        assert stream.getvalue() == "epoch 1: accuracy 0.9\n"

    def test_it_ends_its_line_when_the_job_fails(self, clock: Clock) -> None:
        stream = io.StringIO()
        with (
            pytest.raises(KeyboardInterrupt),
            ProgressLine(10, stream, clock=clock) as progress,
        ):
            progress.update(3, examples=1, loss=0.5)
            raise KeyboardInterrupt
        assert stream.getvalue() == " 30%  3/10 steps  loss 0.5000\n"


class TestTerminal:
    def test_a_line_is_rewritten(self, clock: Clock, columns: list[int]) -> None:
        stream = Terminal()
        progress = ProgressLine(1000, stream, clock=clock)
        progress.update(1, examples=32, tokens=4096, loss=0.25)
        clock.now += 0.1
        progress.update(2, examples=32, tokens=4096, loss=0.24)  # too soon
        clock.now += 0.1
        progress.update(3, examples=32, tokens=4096, loss=0.125)
        first = "  0%  [                    ]  1/1,000 steps  loss 0.2500"
        second = (
            "  0%  [                    ]  3/1,000 steps  1:40 left  loss 0.1250"
            "  320 examples/s  40,960 tokens/s"
        )
        assert stream.getvalue() == f"\r{first}\r{second}"

    def test_what_a_longer_line_left_is_wiped(
        self, clock: Clock, columns: list[int]
    ) -> None:
        stream = Terminal()
        progress = ProgressLine(4, stream, clock=clock)
        progress.update(1, examples=1, note=123456.0)
        clock.now += 1
        progress.update(2, examples=1, note=1.0)
        clock.now += 1
        progress.update(4, examples=2, note=1.0)
        progress.close()
        assert on_screen(stream.getvalue()) == [
            "100%  [====================]  4/4 steps  note 1.0000  1.5 examples/s",
            "",
        ]

    @pytest.mark.parametrize(
        ("width", "line"),
        [
            (
                100,
                " 50%  [==========          ]  50/100 steps  0:50 left  loss 0.2500"
                "  32 examples/s",
            ),
            (70, " 50%  50/100 steps  0:50 left  loss 0.2500  32 examples/s"),
            (58, " 50%  50/100 steps  0:50 left  loss 0.2500  32 examples/s"),
            (57, " 50%  50/100 steps  0:50 left  loss 0.2500"),
            (20, " 50%  50/100 steps"),
            (4, " 5…"),
            (1, ""),
        ],
    )
    def test_it_never_wraps(
        self, clock: Clock, columns: list[int], width: int, line: str
    ) -> None:
        columns[0] = width
        stream = Terminal()
        progress = ProgressLine(100, stream, clock=clock)
        progress.update(1, examples=32, loss=1.0)
        clock.now += 49
        progress.update(50, examples=49 * 32, loss=0.25)
        assert stream.getvalue().split("\r")[-1].rstrip() == line

    def test_a_wide_label_counts_twice(self, clock: Clock, columns: list[int]) -> None:
        columns[0] = 20
        stream = Terminal()
        progress = ProgressLine(None, stream, label="验证", clock=clock)
        progress.update(1, examples=1, loss=1.0)
        assert stream.getvalue() == "\r验证  steps 1"

    def test_a_message_goes_above(self, clock: Clock, columns: list[int]) -> None:
        stream = Terminal()
        progress = ProgressLine(10, stream, clock=clock)
        progress.message("before")
        progress.update(1, examples=1)
        progress.message("epoch 1")
        progress.close()
        line = " 10%  [==                  ]  1/10 steps"
        assert on_screen(stream.getvalue()) == ["before", "epoch 1", line, ""]

    def test_a_pause_makes_room(self, clock: Clock, columns: list[int]) -> None:
        stream = Terminal()
        train = ProgressLine(10, stream, clock=clock)
        train.update(1, examples=1, loss=0.5)
        train.pause()
        with ProgressLine(None, stream, clock=clock) as validation:
            validation.update(7, examples=1)
        train.close()
        line = " 10%  [==                  ]  1/10 steps  loss 0.5000"
        assert on_screen(stream.getvalue()) == ["steps 7", line, ""]


class TestSpeeds:
    def shown(self, progress: ProgressLine, stream: io.StringIO) -> str:
        progress.close()
        return stream.getvalue().splitlines()[-1]

    def test_they_are_of_the_last_20_seconds(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(1000, stream, clock=clock)
        for step in range(1, 101):  # 10 examples/s
            progress.update(step, examples=10)
            clock.now += 1
        for step in range(101, 131):  # 20 examples/s
            progress.update(step, examples=10)
            clock.now += 0.5
        # From step 95, at 94 s, to step 130, at 114.5 s: 35 steps in 20.5 s.
        line = " 13%  130/1,000 steps  8:30 left  17 examples/s"
        assert self.shown(progress, stream) == line

    def test_slow_steps_have_speeds_too(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(4, stream, clock=clock)
        for step in range(1, 4):
            progress.update(step, examples=80)
            clock.now += 40
        assert (
            self.shown(progress, stream) == " 75%  3/4 steps  0:40 left  2.0 examples/s"
        )

    def test_a_pause_does_not_count(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(100, stream, clock=clock)
        for step in range(1, 11):
            progress.update(step, examples=8)
            clock.now += 1
        progress.pause()
        clock.now += 600
        progress.update(11, examples=8)
        assert "  8.0 examples/s" in stream.getvalue().splitlines()[-1]
        clock.now += 2
        progress.update(12, examples=8)
        assert self.shown(progress, stream).endswith("  2:56 left  4.0 examples/s")

    def test_a_resumed_job(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(1000, stream, clock=clock)
        progress.update(901, examples=32)
        clock.now += 1
        progress.update(902, examples=32)
        assert self.shown(progress, stream) == (
            " 90%  902/1,000 steps  1:38 left  32 examples/s"
        )

    def test_a_clock_that_stands_still(self, clock: Clock) -> None:
        stream = io.StringIO()
        progress = ProgressLine(10, stream, clock=clock)
        progress.update(1, examples=32)
        progress.update(2, examples=32)
        assert self.shown(progress, stream) == " 20%  2/10 steps"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (3599.6, "1:00:00"),
        (100_000, "27:46:40"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (2e-5, "2.0e-05"),
        (0.5, "0.5000"),
        (float("nan"), "nan"),
        (12, "12"),
    ],
)
def test_figures(clock: Clock, value: float, text: str) -> None:
    stream = io.StringIO()
    with ProgressLine(None, stream, clock=clock) as progress:
        progress.update(1, examples=1, some_figure=value)
    assert stream.getvalue() == f"steps 1  some figure {text}\n"
