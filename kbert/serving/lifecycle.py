"""The versions of one model from loading to unloading. No thread, no clock, no disk.

The policy is TensorFlow Serving's AvailabilityPreservingPolicy: what is no longer
wanted goes when something that is wanted has become available, and not before.
"""

import enum
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbert.serving.servable import Servable
from kbert.serving.status import Code, StatusError


class State(enum.StrEnum):
    """The states of GetModelStatus (get_model_status.proto)."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True)
class VersionState:
    """What a client is told of a version.

    Attributes:
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        code: why it ended; 0 where nothing went wrong.
    """

    version: int
    state: str
    code: int = Code.OK
    message: str = ""


@dataclass(eq=False)
class VersionRecord:
    """A version, and where it stands.

    Attributes:
        path: where it is loaded from.
        error: why the last loading failed.
        servable: while it is available or being unloaded.
        users: how many requests are using the servable.
        failures: how many loadings have failed.
        retry_at: when it is loaded again after a failure; None for never.
        is_past: it has ended and was not wanted since: wanted again, it starts anew.
    """

    version: int
    path: Path
    state: State = State.START
    error: StatusError | None = None
    servable: Servable | None = None
    users: int = 0
    failures: int = 0
    retry_at: float | None = None
    is_past: bool = False

    def describe(self) -> VersionState:
        if self.error is None:
            return VersionState(self.version, self.state)
        code, message = self.error.code, self.error.message
        return VersionState(self.version, self.state, code, message)

    def end(self) -> None:
        """It is no longer there, and no failure is to blame."""
        self.state, self.is_past = State.END, True

    def fail(self, error: StatusError, retry_at: float | None) -> None:
        """A loading has failed."""
        self.state, self.error, self.retry_at = State.END, error, retry_at
        self.failures += 1


@dataclass(frozen=True)
class Steps:
    """What is to be done now, and when to ask again.

    Attributes:
        load: in state START.
        unload: in state UNLOADING, used by nobody.
        ask_at: the time of the next retry; infinite where there is none.
    """

    load: list[VersionRecord]
    unload: list[VersionRecord]
    ask_at: float


@dataclass(eq=False)
class ModelVersions:
    """A model that is served, or was.

    Attributes:
        config: its ModelConfig; None once it is no longer served.
        wanted: path by number of the versions to serve; None as long as none has been
            found.
        is_outdated: whether the disk has not been looked at since the config came.
        labels: version by label.
        complaints: what the last look at the disk found amiss.
    """

    name: str
    config: Any = None
    wanted: dict[int, Path] | None = None
    is_outdated: bool = False
    labels: dict[str, int] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()
    records: dict[int, VersionRecord] = field(default_factory=dict)

    def remove(self) -> None:
        """Serves it no longer."""
        self.config, self.wanted, self.labels, self.complaints = None, {}, {}, ()

    def next_steps(self, now: float) -> Steps:
        """What brings the versions nearer to what is wanted.

        The records are changed accordingly: who asks has to do it.
        """
        load = [] if self.wanted is None else self._start_wanted(self.wanted, now)
        unload = [] if self.wanted is None else self._end_unwanted(self.wanted)
        retries = [r.retry_at for r in self.records.values() if r.retry_at is not None]
        return Steps(load, unload, min(retries, default=math.inf))

    def wants(self, version: int) -> bool:
        return self.wanted is not None and version in self.wanted

    def latest_available(self) -> VersionRecord | None:
        available = [r for r in self.records.values() if r.state is State.AVAILABLE]
        return max(available, key=lambda record: record.version, default=None)

    def is_available(self, version: int) -> bool:
        record = self.records.get(version)
        return record is not None and record.state is State.AVAILABLE

    def is_settled(self) -> bool:
        """Whether each version that is wanted has been loaded, or failed to."""
        if self.wanted is None or self.is_outdated:
            return False
        records = [self.records.get(version) for version in self.wanted]
        return all(
            record is not None
            and not record.is_past
            and record.state in (State.AVAILABLE, State.END)
            for record in records
        )

    def failures(self) -> list[VersionRecord]:
        """The failed versions of a settled model with none available; else empty."""
        if not self.is_settled() or self.latest_available() is not None:
            return []
        assert self.wanted is not None
        return [self.records[version] for version in sorted(self.wanted)]

    def kept_from_elsewhere(self) -> list[str]:
        """A complaint for each available version that is now wanted from elsewhere.

        As with TensorFlow Serving, a number that is loaded is not loaded again.
        """
        return [
            f"Version {version} stays as loaded from {self.records[version].path}; "
            f"{path} is not loaded over it"
            for version, path in (self.wanted or {}).items()
            if self.is_available(version) and self.records[version].path != path
        ]

    def _start_wanted(self, wanted: dict[int, Path], now: float) -> list[VersionRecord]:
        load = []
        for version, path in sorted(wanted.items()):
            record = self.records.get(version)
            if record is None or record.is_past:
                record = self.records[version] = VersionRecord(version, path)
                load.append(record)
            elif record.retry_at is not None and record.retry_at <= now:
                record.state, record.retry_at, record.path = State.START, None, path
                load.append(record)
        return load

    def _end_unwanted(self, wanted: dict[int, Path]) -> list[VersionRecord]:
        may_unload = not wanted or any(self.is_available(v) for v in wanted)
        unload = []
        for version, record in self.records.items():
            if version in wanted:
                continue
            if record.state is State.END:
                record.is_past, record.retry_at = True, None
            elif record.state is State.AVAILABLE and may_unload:
                record.state = State.UNLOADING
                if record.users == 0:
                    unload.append(record)
        return unload
