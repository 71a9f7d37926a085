"""Batches across requests, as TensorFlow Serving's batching session makes them.

Requests for the same signature and outputs stand in one queue. In it they join an open
batch whose inputs have the same types and inner shapes; batch threads run what is
full, or has waited long enough. Axes: B rows of a request or of a batch.

batching_session.cc of TensorFlow Serving, shared_batch_scheduler.h of TensorFlow.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kbert.serving.batch_queues import Batch, BatchQueues, QueueKey, Task
from kbert.serving.batching_options import BatchingOptions
from kbert.serving.status import Code, StatusError

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
# signature, inputs, outputs, seconds or None -> arrays by output
RunFunction = Callable[
    [str, Mapping[str, np.ndarray], Sequence[str], float | None], Arrays
]


class Batcher:
    """Runs requests in batches, on threads of its own.

    Args:
        run: runs a signature; what it raises are StatusErrors.
        options: sizes, waiting and threads.
    """

    def __init__(self, run: RunFunction, options: BatchingOptions) -> None:
        self._run = run
        self._options = options
        # Guards the queues; never held while a batch runs.
        self._changed = threading.Condition()
        self._queues = BatchQueues(options)
        self._closed = False
        self._threads: set[threading.Thread] = set()
        for _ in range(options.num_threads):
            self._start_thread()

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> Arrays:
        """Runs a request as a part of a batch; safe from any thread.

        Args:
            inputs: [B, ...] each, with one B.
            timeout: seconds until it is given up; None for as long as it takes.

        Returns:
            The outputs, [B, ...] each.

        Raises:
            StatusError: INVALID_ARGUMENT, the inputs are no rows, or too many;
                UNAVAILABLE, the queue is full; DEADLINE_EXCEEDED; what the run gives.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        rows = _num_rows(inputs)
        if rows > self._options.max_batch_size:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._options.max_batch_size}",
            )
        if rows == 0:
            return self._run(signature_name, inputs, outputs, timeout)
        key = QueueKey.of(signature_name, inputs, outputs)
        tasks = self._enqueue(key, inputs, rows, deadline)
        try:
            parts = [_wait(task) for task in tasks]
        except StatusError:
            for task in tasks:
                task.future.cancel()
            raise
        if len(parts) == 1:
            return parts[0]
        return {
            name: np.concatenate([part[name] for part in parts]) for name in outputs
        }

    def close(self) -> None:
        """Takes no more, answers what is waiting, and ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _enqueue(
        self,
        key: QueueKey,
        inputs: Mapping[str, np.ndarray],
        rows: int,
        deadline: float | None,
    ) -> list[Task]:
        with self._changed:
            if self._closed:
                raise StatusError(Code.UNAVAILABLE, "The batch scheduler is closed")
            tasks, is_news = self._queues.add(
                key, inputs, rows, deadline, time.monotonic()
            )
            if is_news:
                self._changed.notify()
            return tasks

    def _start_thread(self) -> None:
        """With the lock held, or before any other thread knows of this object."""
        name = f"{self._options.thread_name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        """The life of a batch thread."""
        try:
            while (batch := self._next_batch()) is not None:
                self._answer(batch.key, batch.tasks)
                # Else the rows of the last batch live until there is a next one.
                del batch
        finally:
            # A defect that ends this thread must not end the service.
            with self._changed:
                self._threads.discard(threading.current_thread())
                if not self._closed or self._queues:
                    self._start_thread()

    def _next_batch(self) -> Batch | None:
        """Waits for a batch that is to run; None once closed and empty."""
        with self._changed:
            while True:
                batch, seconds = self._queues.take(
                    time.monotonic(), take_all=self._closed
                )
                if batch is not None:
                    if self._queues:
                        # Another thread watches over what is left.
                        self._changed.notify()
                    return batch
                if self._closed:
                    return None
                self._changed.wait(seconds)

    def _answer(self, key: QueueKey, tasks: Sequence[Task]) -> None:
        """Gives each task its rows, or an error."""
        begun = [task for task in tasks if _begin(task)]
        if begun:
            self._answer_begun(key, begun)

    def _answer_begun(self, key: QueueKey, tasks: Sequence[Task]) -> None:
        try:
            results = self._run_tasks(key, tasks)
        except StatusError as error:
            if len(tasks) > 1 and error.code is Code.INVALID_ARGUMENT:
                # One request's mistake is not to be its neighbours' error.
                for task in tasks:
                    self._answer_begun(key, [task])
                return
            for task in tasks:
                # Each has its own: an exception that several threads raise grows.
                task.future.set_exception(StatusError(error.code, error.message))
        except BaseException as error:
            for task in tasks:
                task.future.set_exception(StatusError(Code.INTERNAL, repr(error)))
            raise
        else:
            for task, result in zip(tasks, results, strict=True):
                task.future.set_result(result)

    def _run_tasks(self, key: QueueKey, tasks: Sequence[Task]) -> list[Arrays]:
        """Runs one batch; returns the outputs of each of its tasks."""
        rows = sum(task.rows for task in tasks)
        size = self._filled_size(rows)
        inputs = {}
        for name in tasks[0].inputs:
            pieces = [task.inputs[name] for task in tasks]
            # As TensorFlow Serving: copies of the last task's first row.
            pieces += [pieces[-1][:1]] * (size - rows)
            inputs[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        found = self._run(key.signature_name, inputs, key.outputs, _longest_wait(tasks))
        for value in found.values():
            _check_output(value, size)
        results, start = [], 0
        for task in tasks:
            rows_of_task = slice(start, start + task.rows)
            results.append({name: found[name][rows_of_task] for name in key.outputs})
            start += task.rows
        return results

    def _filled_size(self, rows: int) -> int:
        sizes = self._options.allowed_batch_sizes
        return next((size for size in sizes if size >= rows), rows)


def _num_rows(inputs: Mapping[str, np.ndarray]) -> int:
    if not inputs or any(value.ndim == 0 for value in inputs.values()):
        raise StatusError(
            Code.INVALID_ARGUMENT,
            "Batching Run() input tensors must have at least one dimension",
        )
    sizes = {len(value) for value in inputs.values()}
    if len(sizes) > 1:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            "Batching Run() input tensors must have equal 0th-dimension size",
        )
    return sizes.pop()


def _begin(task: Task) -> bool:
    """Whether a task still has somebody waiting for it."""
    if not task.future.set_running_or_notify_cancel():
        return False
    if task.deadline is not None and time.monotonic() >= task.deadline:
        task.future.set_exception(_late())
        return False
    return True


def _wait(task: Task) -> Arrays:
    seconds = None
    if task.deadline is not None:
        seconds = max(task.deadline - time.monotonic(), 0)
    try:
        return task.future.result(seconds)
    except TimeoutError:
        raise _late() from None


def _late() -> StatusError:
    return StatusError(
        Code.DEADLINE_EXCEEDED,
        "Run() timeout exceeded while waiting in batching queue",
    )


def _longest_wait(tasks: Sequence[Task]) -> float | None:
    """Seconds until the last of the tasks is given up."""
    deadlines = [task.deadline for task in tasks if task.deadline is not None]
    if len(deadlines) < len(tasks):
        return None
    return max(max(deadlines) - time.monotonic(), 0)


def _check_output(value: np.ndarray, size: int) -> None:
    if value.ndim == 0:
        raise StatusError(
            Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions"
        )
    if len(value) != size:
        raise StatusError(
            Code.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th "
            "dimension sizes of the input tensors",
        )
