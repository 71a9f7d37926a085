"""Loading and unloading versions, in threads of their own.

Nothing that a loading raises can end the service: it is the state of a version.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from kbert.serving.lifecycle import ModelVersions, State, VersionRecord
from kbert.serving.memory import release_memory
from kbert.serving.servable import LoadOptions, Servable
from kbert.serving.status import Code, StatusError

logger = logging.getLogger(__name__)

_NUM_THREADS = 4


@dataclass(frozen=True)
class ManagerOptions:
    """How models are looked for and loaded.

    Attributes:
        load: how each version is loaded.
        poll_seconds: from one look at the disk to the next; 0 to look once.
        max_load_retries: how often a version that failed is loaded again.
        load_retry_interval_seconds: the time between.
        allow_labels_for_unavailable: whether a new label may name a version that is
            not available (yet).
    """

    load: LoadOptions = field(default_factory=LoadOptions)
    poll_seconds: float = 1.0
    max_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0
    allow_labels_for_unavailable: bool = False


class LoadWorkers:
    """Threads that load and unload.

    Args:
        options: how to load, and when again.
        lock: guards the records.
        go_on: called with the lock held when a record has changed.
    """

    def __init__(
        self,
        options: ManagerOptions,
        lock: threading.Condition,
        go_on: Callable[[], None],
    ) -> None:
        self._options = options
        self._lock = lock
        self._go_on = go_on
        self._pool = ThreadPoolExecutor(_NUM_THREADS, "model-loading")

    def load(self, model: ModelVersions, record: VersionRecord) -> None:
        """With the lock: begins to load a version in state START."""
        # Cannot be done before the lock is released: the thread needs it.
        future = self._pool.submit(self._load, model, record)
        future.add_done_callback(partial(self._end_loading, model, record))

    def unload(self, record: VersionRecord, *, cancel: bool = False) -> None:
        """With the lock: begins to unload a version in state UNLOADING, once.

        Args:
            cancel: whether what still runs is cancelled, in place of waited for.
        """
        servable, record.servable = record.servable, None
        if servable is not None:
            future = self._pool.submit(servable.close, cancel=cancel)
            future.add_done_callback(partial(self._end_unloading, record))

    def close(self) -> None:
        """Ends the threads, once all has been loaded and unloaded."""
        self._pool.shutdown()

    def _load(self, model: ModelVersions, record: VersionRecord) -> Servable | None:
        """The version, loaded; None where it is wanted no longer."""
        with self._lock:
            if not model.wants(record.version):
                return None
            record.state = State.LOADING
        return Servable.load(
            model.name, record.version, record.path, self._options.load
        )

    def _end_loading(
        self,
        model: ModelVersions,
        record: VersionRecord,
        future: "Future[Servable | None]",
    ) -> None:
        """A loading has ended, in whatever way."""
        error = future.exception()
        with self._lock:
            if error is not None:
                self._note_failure(model, record, error)
            elif (servable := future.result()) is None:
                record.end()
            else:
                record.state, record.error = State.AVAILABLE, None
                record.servable = servable
            self._go_on()

    def _note_failure(
        self, model: ModelVersions, record: VersionRecord, error: BaseException
    ) -> None:
        what = f"{model.name} version {record.version}"
        if isinstance(error, StatusError):
            # A copy: the traceback of the original holds on to the graph.
            status = StatusError(error.code, error.message)
            logger.warning("Loading %s failed: %s", what, status)
        else:
            status = StatusError(Code.INTERNAL, repr(error))
            logger.error("Loading %s failed", what, exc_info=error)
        retry_at = None
        if record.failures < self._options.max_load_retries:
            seconds = self._options.load_retry_interval_seconds
            retry_at = time.monotonic() + seconds
            # A server that has nothing else to serve does not start, or says so.
            if model.latest_available() is not None:
                logger.info("%s is tried again in %g s", what, seconds)
        record.fail(status, retry_at)
        self._pool.submit(release_memory)

    def _end_unloading(self, record: VersionRecord, future: "Future[None]") -> None:
        """An unloading has ended, in whatever way."""
        if (error := future.exception()) is not None:
            logger.error("Unloading version %d failed", record.version, exc_info=error)
        with self._lock:
            record.end()
            self._go_on()
