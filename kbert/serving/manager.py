"""The models that are served: found, loaded, swapped and unloaded while in use.

One thread looks at the base paths and decides (lifecycle.py); others load and unload.
One lock guards what is known of the models; nothing slow happens under it.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kbert.serving.lifecycle import ModelVersions, State, VersionState
from kbert.serving.loading import LoadWorkers, ManagerOptions
from kbert.serving.model_config import check_model_config
from kbert.serving.registry import Registry, describe_unavailable
from kbert.serving.servable import Servable
from kbert.serving.status import Code, StatusError
from kbert.serving.versions import Look, look

logger = logging.getLogger(__name__)


class ModelManager:
    """Serves models; safe from any thread."""

    def __init__(self, options: ManagerOptions) -> None:
        self._options = options
        self._changed = threading.Condition()
        self._registry = Registry()
        self._num_configs = 0
        self._is_look_due = False
        self._is_ending = False  # no config is taken
        self._is_closing = False  # everything is unloaded
        self._workers = LoadWorkers(options, self._changed, self._go_on)
        self._watcher = threading.Thread(
            target=self._watch, name="model-watching", daemon=True
        )
        self._watcher.start()

    def set_config(self, config: Any, timeout: float | None = None) -> None:
        """Serves the models of a ModelServerConfig in place of the present ones.

        Returns when the models that are new, or had no version available, have one.
        Then, and not before, labels are changed. What fails leaves the models of the
        config in force, and the labels as they were.

        Args:
            timeout: seconds to wait for models; None for as long as it takes.

        Raises:
            StatusError: INVALID_ARGUMENT or UNIMPLEMENTED, the config is none, and
                nothing has changed; UNKNOWN, a model has no version that can be
                loaded; FAILED_PRECONDITION, a label names a version that is not
                available; DEADLINE_EXCEEDED; ABORTED, another config came; UNAVAILABLE,
                the manager is closed.
        """
        check_model_config(config)
        listed = {}
        for model in config.model_config_list.config:
            # The caller's may change.
            listed[model.name] = type(model)()
            listed[model.name].CopyFrom(model)
        with self._changed:
            self._check_open()
            # As in TensorFlow Serving, before anything of the config is loaded.
            self._registry.check_labels(
                listed.values(),
                allow_unavailable=self._options.allow_labels_for_unavailable,
            )
            awaited = self._registry.take_over(listed)
            self._registry.assign_labels(listed.values())
            self._take_steps()
            self._num_configs += 1
            mine = self._num_configs
            self._is_look_due = True
            self._changed.notify_all()
            is_in_time = self._wait_for(
                awaited, timeout, lambda: self._num_configs != mine
            )
            self._check_open()
            if self._num_configs != mine:
                raise StatusError(Code.ABORTED, "Another config has replaced this one")
            if missing := _missing(awaited):
                code = Code.UNKNOWN if is_in_time else Code.DEADLINE_EXCEEDED
                raise StatusError(code, describe_unavailable(missing))

    @contextlib.contextmanager
    def use(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[Servable]:
        """Lends a servable, which is not unloaded as long as the block lasts.

        Args:
            version: the version; None for the label's, or the latest available one.
            label: a label of the model.

        Raises:
            StatusError: NOT_FOUND, it is not available; INVALID_ARGUMENT, there is no
                such label.
        """
        with self._changed:
            record = self._registry.find(name, version, label)
            servable = record.servable
            record.users += 1
        assert servable is not None, "available without a servable"
        try:
            yield servable
        finally:
            with self._changed:
                record.users -= 1
                if record.state is State.UNLOADING and record.users == 0:
                    self._workers.unload(record)

    def states(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> list[VersionState]:
        """The state of each version that is known of a model, the newest first.

        Args:
            version: only this one; None for the label's, or all.
            label: a label of the model.

        Raises:
            StatusError: NOT_FOUND, there is none; INVALID_ARGUMENT, there is no such
                label.
        """
        with self._changed:
            return self._registry.states(name, version, label)

    def model_names(self) -> list[str]:
        """The models of the config, in its order."""
        with self._changed:
            return [model.name for model in self._registry.configured()]

    def announce_close(self) -> None:
        """Takes no configs any more, and lets nobody wait for one; models stay."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def close(self, timeout: float | None = 10.0) -> None:
        """Unloads all models and ends all threads.

        Args:
            timeout: seconds to wait for those who still use a model; after that their
                requests are cancelled. None for as long as it takes.
        """
        with self._changed:
            self._is_ending = self._is_closing = True
            self._registry.take_over({})
            self._take_steps()
            self._changed.notify_all()
            if not self._changed.wait_for(self._has_ended, timeout):
                for record in self._registry.records():
                    if record.state is State.UNLOADING:
                        self._workers.unload(record, cancel=True)
                self._changed.wait_for(self._has_ended)
        self._watcher.join()
        self._workers.close()

    def _check_open(self) -> None:
        if self._is_ending:
            raise StatusError(Code.UNAVAILABLE, "The server is shutting down")

    def _has_ended(self) -> bool:
        return all(record.state is State.END for record in self._registry.records())

    def _wait_for(
        self,
        models: Sequence[ModelVersions],
        timeout: float | None,
        give_up: Callable[[], bool],
    ) -> bool:
        """Waits, with the lock, until models are available or one of them has failed.

        Returns:
            Whether that, or a reason to give up, came in time.
        """

        def is_over() -> bool:
            has_failed = any(model.failures() for model in models)
            are_settled = all(model.is_settled() for model in models)
            return has_failed or are_settled or self._is_ending or give_up()

        return self._changed.wait_for(is_over, timeout)

    def _watch(self) -> None:
        """The thread that looks at the disk and lets the next steps be taken."""
        next_look = math.inf
        while True:
            with self._changed:
                if self._is_closing:
                    return
                is_due = self._is_look_due or time.monotonic() >= next_look
                self._is_look_due = False
                configs = [(m, m.config) for m in self._registry.configured()]
            looks = []
            if is_due:
                # A disk may be slow: not under the lock.
                looks = [(model, config, look(config)) for model, config in configs]
                next_look = time.monotonic() + (self._options.poll_seconds or math.inf)
            with self._changed:
                for model, config, found in looks:
                    if model.config is config:
                        _apply(model, found)
                ask_at = min(self._take_steps(), next_look)
                self._changed.notify_all()
                if not self._is_look_due and not self._is_closing:
                    seconds = None
                    if ask_at < math.inf:
                        seconds = max(ask_at - time.monotonic(), 0)
                    self._changed.wait(seconds)

    def _take_steps(self) -> float:
        """Starts, with the lock, what is to be done; returns when to ask again."""
        ask_at = math.inf
        for model in self._registry.models():
            steps = model.next_steps(time.monotonic())
            for record in steps.load:
                self._workers.load(model, record)
            for record in steps.unload:
                self._workers.unload(record)
            ask_at = min(ask_at, steps.ask_at)
        return ask_at

    def _go_on(self) -> None:
        """With the lock: a version has been loaded or unloaded, or could not be."""
        self._take_steps()
        # Wakes the watcher too, which then knows of the next retry.
        self._changed.notify_all()


def _missing(models: Sequence[ModelVersions]) -> list[ModelVersions]:
    """The models that have failed, or that nothing is known of yet."""
    return [m for m in models if m.failures() or not m.is_settled()]


def _apply(model: ModelVersions, found: Look) -> None:
    """What a look at the disk has found is what is wanted from now on."""
    model.is_outdated = False
    if found.wanted is not None:
        model.wanted = found.wanted
    complaints = (*found.complaints, *model.kept_from_elsewhere())
    if complaints != model.complaints:
        model.complaints = complaints
        for complaint in complaints:
            logger.warning("Model %s: %s", model.name, complaint)
