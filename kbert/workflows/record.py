"""What a run's `kbert.json` says of its training: on what, when, how it ended."""

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kbert.runs import RunFolder
from kbert.workflows.checkpointing import RunState
from kbert.workflows.machine import machine, peak_memory, versions


class Record:
    """Keeps `kbert.json`; times count from when the record is made."""

    def __init__(self) -> None:
        self._clock = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._seconds_before = 0.0
        self._info: dict[str, Any] = {"started": _now()}

    def _note_earlier(self, earlier: Mapping[str, Any], state: RunState) -> None:
        before = earlier.get("resumed")
        now = {"at": _now(), "step": state.progress.step}
        resumed = [*before, now] if isinstance(before, list) else [now]
        started = earlier.get("started", self._info["started"])
        self._info = {"started": started, "resumed": resumed}
        self._seconds_before = state.seconds

    def training_seconds(self) -> float:
        """What the training has taken so far, its earlier parts included."""
        now = self._elapsed() - self._seconds["until_training"]
        return self._seconds_before + now

    def begin(
        self,
        run: RunFolder,
        *,
        precision: str,
        data: Mapping[str, Any],
        going_on: RunState | None = None,
    ) -> None:
        """Notes that the training begins.

        Args:
            run: where to write.
            data: what is read.
            going_on: where an earlier training was stopped, which goes on.
        """
        self._run = run
        if going_on is not None:
            self._note_earlier(run.read_info(), going_on)
        self._info |= {
            "versions": versions(),
            "machine": machine() | {"precision": precision},
            "data": data,
        }
        self._write("running")
        self._seconds["until_training"] = self._elapsed()

    def note_trained(self) -> None:
        """Takes the time of the training; test data may follow."""
        self._seconds["training"] = self.training_seconds()

    def note_early_end(self, status: str) -> None:
        """Notes that the training was `interrupted`, or `failed`."""
        with contextlib.suppress(OSError):  # A full disk may have no room for it.
            self._write(status)

    def finish(self, **figures: Any) -> None:
        """Notes that all is done.

        Args:
            figures: what else there is to say.
        """
        self._seconds["total"] = self._seconds_before + self._elapsed()
        self._info |= figures
        self._info |= {
            "seconds": {name: round(value, 2) for name, value in self._seconds.items()},
            "peak_memory_bytes": peak_memory(),
        }
        self._write("finished")

    def _elapsed(self) -> float:
        return time.monotonic() - self._clock

    def _write(self, status: str) -> None:
        self._run.write_info({"status": status} | self._info)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
