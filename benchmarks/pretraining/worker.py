"""A process that trains on command: both ends of its pipe.

The standard library alone, so that it runs in kbert's environment and in the peer's.

The process says `{"ready": ...}` when its model is there. Then it gets numbers of
steps, a line each, and answers each with `{"seconds": [...], "losses": [...]}`, a
number a step. Between the lines it only waits, so that two of them never train at the
same time.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).resolve().parents[2]


class Segment(NamedTuple):
    """What some steps took, and their losses."""

    seconds: list[float]
    losses: list[float]


class Worker:
    """The end that commands: starts the process and asks it for steps.

    Args:
        command: that starts it.
        log: file that takes what it writes to stderr.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._log = log
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def wait(self) -> str:
        """Waits until it can train; returns what it says of itself.

        Raises:
            RuntimeError: it ended; with its last words.
        """
        return self._read()["ready"]

    def train(self, num_steps: int) -> Segment:
        """Lets it train.

        Raises:
            RuntimeError: it ended; with its last words.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{num_steps}\n")
        except BrokenPipeError:
            pass  # Reading tells why.
        return Segment(**self._read())

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(self._command)}: ended\n{last}")
        return json.loads(line)


def obey(make_step: Callable[[], tuple[str, Callable[[int], float]]]) -> None:
    """The end that trains: answers the lines of stdin until there are no more.

    Args:
        make_step: gives a description of the model, and what makes the training step
            of a number, counted from 0, and returns its loss.
    """
    # Libraries may print; the pipe is for answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    description, step = make_step()
    print(json.dumps({"ready": description}), file=answers)
    number = 0
    for line in sys.stdin:
        segment = Segment([], [])
        for _ in range(int(line)):
            start = time.perf_counter()
            segment.losses.append(step(number))
            segment.seconds.append(time.perf_counter() - start)
            number += 1
        print(json.dumps(segment._asdict()), file=answers)
