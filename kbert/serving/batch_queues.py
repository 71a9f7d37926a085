"""What waits to be run: tasks in batches, batches in queues. No thread, no clock."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kbert.serving.batching_options import BatchingOptions
from kbert.serving.status import Code, StatusError


class QueueKey(NamedTuple):
    """What tasks have in common that run in one batch.

    Attributes:
        kinds: name, type and inner shape of each input.
    """

    signature_name: str
    outputs: tuple[str, ...]
    kinds: tuple[tuple[str, np.dtype, tuple[int, ...]], ...]

    @classmethod
    def of(
        cls,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
    ) -> "QueueKey":
        kinds = [(name, inputs[name].dtype, inputs[name].shape[1:]) for name in inputs]
        kinds.sort(key=lambda kind: kind[0])
        return cls(signature_name, tuple(outputs), tuple(kinds))

    @property
    def queue(self) -> tuple[str, tuple[str, ...]]:
        """Which queue it waits in: TensorFlow Serving has one for these."""
        return self.signature_name, self.outputs


@dataclass(eq=False)
class Task:
    """Rows that run in one batch: a request, or a part of a large one.

    Attributes:
        inputs: [rows, ...] each.
        deadline: on time.monotonic(); None for none.
        future: gets the outputs.
    """

    inputs: dict[str, np.ndarray]
    rows: int
    deadline: float | None
    future: "Future[dict[str, np.ndarray]]" = field(default_factory=Future)


@dataclass(eq=False)
class Batch:
    """Tasks that run together.

    Attributes:
        due: when it runs even if it is not full, on time.monotonic().
        is_closed: whether nothing can join it any more.
    """

    key: QueueKey
    due: float
    tasks: list[Task] = field(default_factory=list)
    rows: int = 0
    is_closed: bool = False


class BatchQueues:
    """The batches that wait for a thread; true as long as there are some.

    Whoever calls holds a lock: nothing in here does.
    """

    def __init__(self, options: BatchingOptions) -> None:
        self._options = options
        # Served in turn; a queue that is empty is not kept.
        self._queues: dict[tuple[str, tuple[str, ...]], list[Batch]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(
        self,
        key: QueueKey,
        inputs: Mapping[str, np.ndarray],
        rows: int,
        deadline: float | None,
        now: float,
    ) -> tuple[list[Task], bool]:
        """Puts a request in its queue, split where that is asked for.

        Returns:
            Its tasks, in the order of the rows, and whether a thread has to look: a
            batch is new or has become full.

        Raises:
            StatusError: UNAVAILABLE, the queue is full; nothing has been added.
        """
        queue = self._queues.get(key.queue, [])
        last = next((b for b in queue if b.key == key and not b.is_closed), None)
        largest = self._options.largest_batch
        room = 0 if last is None else largest - last.rows
        joining = rows if rows <= room else room if self._options.splits_requests else 0
        new_sizes = [
            min(largest, rows - start) for start in range(joining, rows, largest)
        ]
        if new_sizes and (
            len(queue) + len(new_sizes) > self._options.max_enqueued_batches
        ):
            raise StatusError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full",
            )
        self._queues[key.queue] = queue
        tasks = []
        if last is not None and joining:
            tasks.append(_part(inputs, 0, joining, deadline))
            last.tasks.append(tasks[0])
            last.rows += joining
        if last is not None and (new_sizes or last.rows == largest):
            last.is_closed = True
        start = joining
        for size in new_sizes:
            tasks.append(_part(inputs, start, size, deadline))
            due = now + self._options.timeout_seconds
            queue.append(Batch(key, due, [tasks[-1]], size, size == largest))
            start += size
        return tasks, last is None or last.is_closed

    def take(self, now: float, *, take_all: bool) -> tuple[Batch | None, float | None]:
        """Takes out the batch that is to run next, the queues in turn.

        Args:
            take_all: whether batches that could wait longer are ready too.

        Returns:
            The batch, or None and the seconds until one is ready; None for those too
            where nothing waits.
        """
        first_due = None
        for queue_key, queue in self._queues.items():
            for position, batch in enumerate(queue):
                if take_all or batch.is_closed or batch.due <= now:
                    del queue[position], self._queues[queue_key]
                    if queue:
                        self._queues[queue_key] = queue
                    return batch, None
                first_due = (
                    batch.due if first_due is None else min(first_due, batch.due)
                )
        return None, None if first_due is None else first_due - now


def _part(
    inputs: Mapping[str, np.ndarray], start: int, size: int, deadline: float | None
) -> Task:
    part = {name: value[start : start + size] for name, value in inputs.items()}
    return Task(part, size, deadline)
