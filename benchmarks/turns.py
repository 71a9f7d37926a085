"""Processes that work by turns on the same cores, and their fastest settings.

Shared by the benchmarks that compare sides. The standard library and psutil alone.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.pretraining.worker import Segment, Worker

# Cores that others use meanwhile, at most: torch's threads wait for one another in
# every product, so that a busy machine slows the peer far more than kbert.
MAX_OTHERS = 0.1
# The C library neither returns freed memory to the system nor asks for it again.
KEEPS_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}

Settings = Mapping[str, Any]


@dataclass
class Side:
    """One of those that are compared, in one setting.

    Attributes:
        description: what its process says of itself.
        losses: what its steps gave, warm-up included.
        segments: what was measured.
        processor_seconds: that it used in its segments.
        idle_seconds: that it used in the other sides'.
    """

    name: str
    settings: Settings
    worker: Worker
    description: str = ""
    losses: list[float] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    processor_seconds: float = 0.0
    idle_seconds: float = 0.0

    def train(self, num_steps: int) -> Segment:
        """Lets it make steps; see `Worker.train`."""
        segment = self.worker.train(num_steps)
        self.losses += segment.losses
        return segment

    @property
    def seconds(self) -> list[float]:
        """Of every step that was measured."""
        return [second for segment in self.segments for second in segment.seconds]


AnySide = TypeVar("AnySide", bound=Side)


@contextlib.contextmanager
def started(
    side_class: type[AnySide],
    name: str,
    command: Sequence[str],
    settings: Settings,
    log: Path,
    *,
    warm_up_steps: int,
) -> Iterator[AnySide]:
    """Yields a side that has been started and warmed up.

    Args:
        command: that starts its process, before the settings in JSON.
        settings: `keeps_memory` is for the C library, the others for the process.
        log: file that takes what it writes to stderr.
    """
    options = {key: settings[key] for key in settings if key != "keeps_memory"}
    environment = KEEPS_MEMORY if settings.get("keeps_memory") else None
    with Worker([*command, json.dumps(options)], log, environment) as worker:
        side = side_class(name, settings, worker)
        side.description = worker.wait()
        side.train(warm_up_steps)
        yield side


def fastest(
    measure: Callable[[Settings], float],
    alternatives: Sequence[Settings],
    changes: Sequence[Settings] = (),
) -> Settings:
    """The best of several settings, and of changes that are tried on it in turn.

    Args:
        measure: gives a rate; 0 where settings do not work.
        changes: what is faster is kept for the next one.
    """
    rates = [measure(settings) for settings in alternatives]
    best = max(rates)
    chosen = alternatives[rates.index(best)]
    for change in changes:
        changed = {**chosen, **change}
        if changed == chosen:
            continue
        found = measure(changed)
        if found > best:
            best, chosen = found, changed
    return chosen


def take_turns(
    sides: Sequence[Side],
    *,
    num_segments: int,
    num_steps: int,
    describe: Callable[[Segment], str],
) -> float:
    """Lets the sides work in turn, segment by segment.

    Args:
        describe: what is printed of a segment.

    Returns:
        How many cores others used meanwhile.
    """
    start, busy = time.perf_counter(), busy_seconds()
    processes = {side.name: psutil.Process(side.worker.process_id) for side in sides}
    for number in range(num_segments):
        # A B, B A, A B: none always comes first.
        for side in sides if number % 2 == 0 else sides[::-1]:
            before = {name: used(process) for name, process in processes.items()}
            segment = side.train(num_steps)
            side.segments.append(segment)
            for other in sides:
                seconds = used(processes[other.name]) - before[other.name]
                if other is side:
                    other.processor_seconds += seconds
                else:
                    other.idle_seconds += seconds
            print(f"segment {number + 1}: {side.name}: {describe(segment)}", flush=True)
    ours = sum(side.processor_seconds + side.idle_seconds for side in sides)
    return (busy_seconds() - busy - ours) / (time.perf_counter() - start)


def used(process: psutil.Process) -> float:
    """The processor seconds of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


def busy_seconds() -> float:
    """What all processes have used of the cores of this one so far."""
    times = psutil.cpu_times(percpu=True)
    cores = [times[core] for core in os.sched_getaffinity(0)]
    return sum(sum(core) - core.idle - core.iowait - core.guest for core in cores)


def peak_memory(process_id: int) -> int:
    """The largest resident size of a process so far, in bytes; on Linux."""
    status = Path(f"/proc/{process_id}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
