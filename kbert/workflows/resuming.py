"""Going on with a run that was stopped: from which checkpoint, and whether it may."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
from pydantic import ValidationError

from kbert.bounded import check_no_way_out, first_problem
from kbert.checksums import check_whole
from kbert.config import Settings, config_to_toml
from kbert.data.kept_encodings import tidy
from kbert.errors import RunError
from kbert.files import recover_folder, write_text
from kbert.new_runs import (
    FreshName,
    check_free_space,
    clear_run,
    differing_settings,
    new_run,
)
from kbert.run_lock import locked
from kbert.runs import RunFolder
from kbert.training.checkpoints import (
    KEPT,
    STATE,
    delete_later_checkpoints,
    read_latest,
    restore,
    variables_of,
)
from kbert.training.loop import Progress
from kbert.workflows.checkpointing import RunState
from kbert.workflows.machine import versions

logger = logging.getLogger(__name__)

# What may differ: how long to train, and what leaves the steps made as they were.
LENGTHS = ("train.epochs", "train.max_steps")
_FREE = (
    *LENGTHS,
    "train.on_nonfinite",
    "train.checkpoint_steps",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
)
# Where the same data and weights lie may differ too: what was read is compared.
_PLACES = (
    "data.source",
    "data.data_dir",
    "data.validation",
    "data.test",
    "model.preset",
)
_PLACES_OF_TEXT = (
    "data.sources",
    "data.data_dir",
    "data.validation",
    "model.preset",
    "model.vocabulary",
)


@dataclass(frozen=True)
class Resumption:
    """A run to go on with.

    Attributes:
        run: held for this process.
        checkpoint: where it goes on; None: it was killed before there was one, and
            begins again.
        state: of the checkpoint.
    """

    run: RunFolder
    checkpoint: Path | None
    state: RunState | None

    @property
    def progress(self) -> Progress:
        """Where the training goes on."""
        return Progress() if self.state is None else self.state.progress

    def check(self, config: Settings, *, needed_bytes: int) -> None:
        """Checks, before slow work, that the run can go on.

        Args:
            config: the settings, resolved.
            needed_bytes: what the run takes on the disk at most; what it takes already
                is a part of it.

        Raises:
            RunError: settings would change what was done already, a checkpoint is gone,
                or the disk is too full.
        """
        self._check_settings(config)
        if self.state is None:
            self._check_nothing_is_lost()
        there = self.run.num_bytes_of_weights()
        check_free_space(self.run.path, max(0, needed_bytes - there))

    def _check_settings(self, config: Settings) -> None:
        """Checks that settings do not change what was done already.

        Raises:
            RunError: it names those that do.
        """
        differing = [name for name in self._differing(config) if name not in _FREE]
        if differing:
            raise RunError(
                f"The run {self.run.path} goes on with the settings it has: others "
                f"would change the steps already made. It differs in "
                f"{', '.join(differing)}. Leave them out (train.epochs and "
                "train.max_steps may be raised), or start another run with --output."
            )

    def _differing(self, config: Settings) -> list[str]:
        """The settings that are other ones than the run's; places are none."""
        sections = dict(config)
        places = _PLACES_OF_TEXT if hasattr(sections["data"], "sources") else _PLACES
        return [
            name
            for name in differing_settings(self.run, config)
            # What is `auto` becomes what it was: the run keeps what was decided.
            if name not in places
            and getattr(sections[name.split(".")[0]], name.split(".")[1], "") != "auto"
        ]

    def check_data(self, data: str) -> None:
        """Checks that the data are those that were trained on.

        Args:
            data: their digest.

        Raises:
            RunError: they are not.
        """
        if self.state is not None and self.state.data != data:
            raise RunError(
                f"The run {self.run.path} cannot go on: its data are not as they were "
                "when it was stopped (texts, labels or the vocabulary have changed). "
                "Put them back, or start another run with --output."
            )

    def check_length(self, total_steps: int) -> None:
        """Checks that a training does not end before where it is.

        Raises:
            RunError: it would.
        """
        if total_steps < self.progress.step:
            raise RunError(
                f"The run {self.run.path} has made {self.progress.step} steps "
                f"already. Received: {total_steps}. The number of steps or epochs may "
                "be raised, not lowered."
            )

    def is_finished(self, config: Settings) -> bool:
        """Whether nothing is left to do: it has ended, and is to be no longer.

        Raises:
            RunError: it has, and other settings are asked for than it has.
        """
        if not _is_finished(self.run):
            return False
        if set(self._differing(config)) & set(LENGTHS):
            return False
        self._check_settings(config)
        return True

    def begin(self, config: Settings) -> RunFolder:
        """Puts the run's files in the state of the checkpoint.

        Args:
            config: with what may differ; `check` has passed.
        """
        if self.state is None:
            logger.info("%s has no checkpoint yet: it begins again", self.run.path)
            clear_run(self.run)
        else:
            assert self.checkpoint is not None
            self._warn_of_changes()
            # First: of a run that was finished and is killed now, work is left to do.
            self.run.write_info(self.run.read_info() | {"status": "running"})
            delete_later_checkpoints(self.checkpoint)
            self.run.write_history(self.state.listener.history)
            self.run.metrics_file.unlink(missing_ok=True)
        write_text(self.run.config_file, config_to_toml(config))
        return self.run

    def _check_nothing_is_lost(self) -> None:
        """Checks that no checkpoint has ever been there, so that none is missing."""
        folder = self.run.checkpoints_folder
        was_there = (folder / KEPT).exists() or _is_finished(self.run)
        is_old = not folder.is_dir() and self.run.model_folder.exists()
        if was_there or is_old:
            raise RunError(
                f"The run {self.run.path} has no checkpoint to go on from. Put one "
                f"back from a copy, or start another run from its model: --preset "
                f"{self.run.path}."
            )

    def restore(self, model: keras.Model) -> None:
        """Gives a compiled model its variables, and its optimizer's.

        Raises:
            RunError: the checkpoint is of another model.
        """
        if self.checkpoint is not None:
            restore(self.checkpoint, variables_of(model))
            logger.info("%s goes on after step %d", self.run.path, self.progress.step)

    def _warn_of_changes(self) -> None:
        assert self.state is not None
        then = {**self.state.versions, "backend": self.state.backend}
        now = {**versions(), "backend": keras.backend.backend()}
        changes = [
            f"{name} {then[name]} then and {now[name]} now"
            for name in then.keys() & now.keys()
            if then[name] != now[name]
        ]
        if changes:
            logger.warning(
                "%s goes on with other software, so that its figures may differ in "
                "their last digits: %s.",
                self.run.path,
                ", ".join(sorted(changes)),
            )


@contextmanager
def resuming(path: Path) -> Iterator[Resumption]:
    """Holds a run for this process and finds where it goes on.

    Args:
        path: one that `kbert.runs.find_config` has found to be a run.

    Raises:
        RunError: another process is at it, no checkpoint is whole, the best model so
            far is damaged, or a link leads out of the run.
    """
    run = RunFolder(path)
    check_no_way_out(path, RunError)
    with locked(path):
        recover_folder(run.model_folder)
        tidy(run.encoded_folder)
        try:
            found = read_latest(run.checkpoints_folder)
        except RunError:
            if not _is_finished(run):
                raise
            found = None
        if found is None:
            yield Resumption(run, None, None)
            return
        checkpoint, values = found
        try:
            state = RunState.model_validate(values)
        except ValidationError as error:
            raise RunError(
                f"{checkpoint / STATE} is not what kbert writes: "
                f"{first_problem(error)}. Delete {checkpoint}."
            ) from None
        if state.listener.best_step is not None:
            _check_best_model(run, state)
        yield Resumption(run, checkpoint, state)


class Job(Protocol):
    """What is to be trained: a fine-tuning or a pretraining."""

    @property
    def path(self) -> Path | FreshName:
        """Where the run is, or will be made."""

    @property
    def config(self) -> Settings:
        """The settings as the run keeps them."""


@contextmanager
def run_of(
    job: Job, model: keras.Model, resumption: Resumption | None
) -> Iterator[RunFolder]:
    """The run's folder for this process: a new one, or one that goes on.

    Args:
        model: compiled; it gets the values of the checkpoint.
    """
    if resumption is None:
        with new_run(job.path, job.config) as run:
            yield run
    else:
        resumption.restore(model)
        yield resumption.begin(job.config)


def go_on(command: str, run: RunFolder) -> str:
    """The command that goes on with a run."""
    return f"kbert {command} --resume {shlex.quote(str(run.path))}"


@contextmanager
def noting_a_full_disk() -> Iterator[None]:
    """Says what could not be written besides a checkpoint, and goes on."""
    try:
        yield
    except OSError as error:
        logger.warning("%s: %s", error.filename, error.strerror)


def _check_best_model(run: RunFolder, state: RunState) -> None:
    """Checks the best model so far: nothing that follows might replace it."""
    if not run.model_folder.is_dir():
        raise RunError(
            f"{run.model_folder}, the best model so far, is missing. Put it back from "
            "a copy, or start another run with --output."
        )
    check_whole(run.model_folder, RunError)
    # A pretraining keeps its latest model, also at a stop: none is the best there.
    was_chosen = state.progress.best is not None
    if was_chosen and run.model_digest() != state.listener.best_digest:
        logger.warning(
            "%s is not the model of step %d that the checkpoint tells of: the run was "
            "killed after a later one was written, or it was changed. It stays until "
            "an evaluation finds a better one.",
            run.model_folder,
            state.listener.best_step,
        )


def _is_finished(run: RunFolder) -> bool:
    has_ended = run.read_info().get("status") == "finished"
    return has_ended and run.metrics_file.is_file()
