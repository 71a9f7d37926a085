"""When a checkpoint is written, and what it holds of a run besides the variables."""

import time
from collections.abc import Callable
from typing import Self

import keras
from pydantic import BaseModel, ConfigDict, model_validator

from kbert.runs import RunFolder
from kbert.settings import SharedTrainSettings
from kbert.training.checkpoints import (
    delete_old_checkpoints,
    variables_of,
    write_checkpoint,
)
from kbert.training.loop import Progress
from kbert.workflows.machine import versions
from kbert.workflows.reporting import ListenerState, RunListener


class RunState(BaseModel):
    """What a checkpoint says in `state.json`.

    Attributes:
        progress: where the loop goes on.
        listener: what was written down and shown.
        data: a digest of what is trained and measured on.
        seconds: what the training has taken so far.
        backend: the Keras backend.
        versions: Python's and those of the packages that decide a result.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    progress: Progress
    listener: ListenerState
    data: str
    seconds: float
    backend: str
    versions: dict[str, str]

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        step = (self.progress.position or {}).get("step")
        is_number = isinstance(step, int) and not isinstance(step, bool)
        if not is_number or step != self.progress.step or step < 1:
            raise ValueError("the step of the data is not that of the training")
        for line in self.listener.history:
            figures = line.get("validation")
            if not isinstance(line.get("step"), int) or not isinstance(figures, dict):
                raise ValueError("a line of history has no step or no validation")
            if not all(isinstance(figure, float) for figure in figures.values()):
                raise ValueError("a figure of history is no number")
        return self


class Checkpointer:
    """Keeps checkpoints of a training: each N steps or minutes, and when it is told to.

    Args:
        run: where to write.
        model: in training.
        settings: how often, and how many stay.
        data: a digest of what is trained and measured on.
        listener: whose figures are kept too.
        seconds: gives what the training has taken so far.
        kept: where the checkpoint is that the training has gone on from.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        run: RunFolder,
        model: keras.Model,
        settings: SharedTrainSettings,
        *,
        data: str,
        listener: RunListener,
        seconds: Callable[[], float],
        kept: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = run.checkpoints_folder
        self._variables = variables_of(model)
        self._settings = settings
        self._data = data
        self._listener = listener
        self._seconds = seconds
        self._kept = kept
        self._clock = clock
        self._last_time = clock()
        self._versions = versions()

    def on_step(self, progress: Progress) -> None:
        """See `Keeper`."""
        if self._settings.checkpoint_steps is not None:
            is_due = progress.step % self._settings.checkpoint_steps == 0
        else:
            minutes = (self._clock() - self._last_time) / 60
            is_due = minutes >= self._settings.checkpoint_minutes
        if is_due:
            self.keep(progress)

    def keep(self, progress: Progress) -> None:
        """See `Keeper`.

        Raises:
            OSError: the disk is full; the checkpoints before are as they were.
        """
        if progress == self._kept:
            return
        state = RunState(
            progress=progress,
            listener=self._listener.state(),
            data=self._data,
            seconds=round(self._seconds(), 3),
            backend=keras.backend.backend(),
            versions=self._versions,
        )
        write_checkpoint(
            self._folder,
            progress.step,
            self._variables,
            state.model_dump(mode="json"),
            keep=self._settings.keep_checkpoints,
        )
        self._kept = progress
        self._last_time = self._clock()

    def finish(self) -> None:
        """Deletes all but the last: a training that is over needs no second one."""
        delete_old_checkpoints(self._folder, keep=1)


def checkpoint_bytes(num_parameters: int, settings: SharedTrainSettings) -> int:
    """What the checkpoints of a run take on the disk: weights and AdamW's two moments.

    One more than are kept: an old one goes when the new one is there.
    """
    return (settings.keep_checkpoints + 1) * 3 * 4 * num_parameters
