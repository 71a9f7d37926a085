"""Where a run may be written: checked before slow work, made when training starts."""

import contextlib
import itertools
import os
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbert.bounded import check_no_way_out
from kbert.config import Settings, config_to_toml, describe_settings
from kbert.errors import ConfigError, RunError
from kbert.files import recover_folder, write_text
from kbert.run_lock import LOCK, locked
from kbert.runs import RunFolder
from kbert.toml_files import read_toml

_KINDS = {
    "finished": "a finished run",
    "interrupted": "an interrupted run",
    "failed": "a failed run",
}


@dataclass(frozen=True)
class FreshName:
    """A run folder that is chosen when it is made: the first free one of its names.

    So two trainings that start together never write into one folder.
    """

    folder: Path
    name: str

    def paths(self) -> Iterator[Path]:
        """`folder/name`, then `folder/name-2` and so on."""
        yield self.folder / self.name
        for number in itertools.count(2):
            yield self.folder / f"{self.name}-{number}"

    def claim(self) -> Path:
        """Makes the first folder that is not there yet."""
        for path in self.paths():
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                return path
        raise AssertionError("numbers do not end")


def check_output(
    output: Path | FreshName, config: Settings, *, needed_bytes: int = 0
) -> None:
    """Checks, before slow work, that a run with this config can be written.

    Raises:
        RunError: the folder holds something else, another run or one that has a
            model, cannot be written, or its disk is too full.
    """
    path = output
    if isinstance(path, FreshName):
        path = next(free for free in path.paths() if not os.path.lexists(free))
    if path.exists() and not path.is_dir():
        raise RunError(f"The output {path} is a file. Choose another --output.")
    if path.is_dir() and any(not _is_left(file) for file in path.iterdir()):
        _check_same_run(RunFolder(path), config)
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise RunError(f"{parent} is a file, so {path} cannot be made in it.")
    if not os.access(parent, os.W_OK | os.X_OK) or _is_read_only(parent):
        raise RunError(
            f"{parent} cannot be written to. Choose another --output, or change its "
            "permissions."
        )
    check_free_space(parent, needed_bytes)


def check_free_space(folder: Path, needed_bytes: int) -> None:
    """Checks that a disk has room for a run.

    Raises:
        RunError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise RunError(
            f"The disk of {folder} has {free / 1e6:,.0f} MB free, and this run needs "
            f"about {needed_bytes / 1e6:,.0f} MB. Make room, choose another --output, "
            "or keep fewer checkpoints (--set train.keep_checkpoints=1)."
        )


@contextlib.contextmanager
def new_run(output: Path | FreshName, config: Settings) -> Iterator[RunFolder]:
    """Makes the run folder for this process alone and writes its config.

    Raises:
        RunError: another run has been written there since `check_output`, or another
            process is at it.
    """
    path = output.claim() if isinstance(output, FreshName) else output
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        yield create_run(path, config)


def create_run(path: Path, config: Settings) -> RunFolder:
    """Makes the run folder and writes its config.

    What a run with the same config and without a model left there is removed.

    Raises:
        RunError: another run has been written there since `check_output`.
    """
    check_output(path, config)
    path.mkdir(parents=True, exist_ok=True)
    run = RunFolder(path)
    # First, so that a kill leaves what the same command may begin again.
    write_text(run.config_file, config_to_toml(config))
    clear_run(run)
    return run


def clear_run(run: RunFolder) -> None:
    """Removes what a training left in a run, and makes room for its checkpoints."""
    for left in (run.model_folder, run.logs_folder, run.checkpoints_folder):
        shutil.rmtree(left, ignore_errors=True)
    for file in (
        run.history_file,
        run.metrics_file,
        run.task_file,
        run.info_file,
        run.vocabulary_file,
    ):
        file.unlink(missing_ok=True)
    run.checkpoints_folder.mkdir()


def _check_same_run(run: RunFolder, config: Settings) -> None:
    if not run.config_file.is_file():
        raise RunError(
            f"The output {run.path} exists and is no run (it has no config.toml). "
            "Choose another --output."
        )
    check_no_way_out(run.path, RunError)
    differing = differing_settings(run, config)
    if differing:
        raise RunError(
            f"The output {run.path} is a run with another config; it differs in "
            f"{', '.join(differing)}. Choose another --output, or delete it."
        )
    status = run.read_info().get("status", "unfinished")
    recover_folder(run.model_folder)
    has_model = run.model_folder.exists()
    has_checkpoint = any(run.checkpoints_folder.glob("step-*"))
    if has_model or has_checkpoint or status == "finished":
        kind = _KINDS.get(status, "a running or killed run")
        mend = (
            f"Evaluate it (kbert evaluate {run.path})"
            if status == "finished"
            else f"Go on with it (--resume {run.path})"
        )
        raise RunError(
            f"The output {run.path} is {kind} with this config"
            f"{', and holds its best model' if has_model else ''}. {mend}, choose "
            "another --output, or delete it."
        )


def differing_settings(run: RunFolder, config: Settings) -> list[str]:
    """The settings in which a run's config and another one differ.

    Raises:
        RunError: the run's config is damaged.
    """
    try:
        old = read_toml(run.config_file)
    except ConfigError as error:
        raise RunError(f"{run.config_file} is damaged: {error}") from None
    for name, section in old.items():
        if not isinstance(section, dict):
            raise RunError(
                f"{run.path} is no run: {run.config_file} is not kbert's ({name!r} is "
                "no section). Choose another --output."
            )
    new = tomllib.loads(config_to_toml(config))
    # A run of an earlier version lacks what has come since.
    defaults = {s.key: s.default for s in describe_settings(type(config))}
    return [
        f"{section}.{key}"
        for section in sorted(old.keys() | new.keys())
        for key in sorted(old.get(section, {}).keys() | new.get(section, {}).keys())
        if old.get(section, {}).get(key, defaults.get(f"{section}.{key}"))
        != new.get(section, {}).get(key, defaults.get(f"{section}.{key}"))
    ]


def _is_left(file: Path) -> bool:
    """Whether this is what a kill leaves of a run that was being made."""
    return file.name == LOCK or file.name.startswith(".config.toml.tmp-")


def _is_read_only(folder: Path) -> bool:
    """Whether the disk is mounted read-only, which root's permissions hide."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
