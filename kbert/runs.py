"""The run folder: what is in it, how it is written and read.

Every file is written beside and renamed, so that a run is whole at any moment:
its `model/` is the best model so far, its `metrics.json` is of that model.
"""

import contextlib
import errno
import itertools
import json
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.config import FinetuneConfig, config_to_toml, load_config
from kbert.errors import ConfigError, RunError
from kbert.files import (
    append_line,
    recover_folder,
    replace_folder,
    temporary_beside,
    write_json,
    write_text,
)

# The settings that say how data are read; all others shaped the run's model.
READING = tuple(
    f"data.{name}"
    for name in ("data_dir", "text", "text_pair", "label", "encoding_errors", "limit")
)

_KINDS = {
    "finished": "a finished run",
    "interrupted": "an interrupted run",
    "failed": "a failed run",
}


@dataclass(frozen=True)
class RunFolder:
    """A run on disk."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Every setting, resolved."""
        return self.path / "config.toml"

    @property
    def model_folder(self) -> Path:
        """The best model, a keras-hub preset."""
        return self.path / "model"

    @property
    def task_file(self) -> Path:
        """The task, its labels, and how texts are encoded."""
        return self.path / "task.json"

    @property
    def metrics_file(self) -> Path:
        """The final metrics by split."""
        return self.path / "metrics.json"

    @property
    def history_file(self) -> Path:
        """A line an evaluation."""
        return self.path / "history.jsonl"

    @property
    def logs_folder(self) -> Path:
        """What TensorBoard reads."""
        return self.path / "logs"

    @property
    def info_file(self) -> Path:
        """Status, versions, machine, data fingerprints, times."""
        return self.path / "kbert.json"

    def write_task(self, values: Mapping[str, Any]) -> None:
        """Writes `task.json`."""
        write_json(self.task_file, dict(values))

    def write_metrics(self, metrics_by_split: Mapping[str, Any]) -> None:
        """Writes `metrics.json`."""
        write_json(self.metrics_file, dict(metrics_by_split))

    def write_info(self, values: Mapping[str, Any]) -> None:
        """Writes `kbert.json`."""
        write_json(self.info_file, dict(values))

    def append_history(self, values: Mapping[str, Any]) -> None:
        """Adds a line to `history.jsonl`."""
        append_line(
            self.history_file, json.dumps(values, ensure_ascii=False, allow_nan=False)
        )

    @contextlib.contextmanager
    def writing_model(self, num_bytes: int) -> Iterator[Path]:
        """Gives a hidden folder to save a model in; at the end it is the run's model.

        Args:
            num_bytes: what the model will take on the disk.

        Raises:
            OSError: the disk is full or fails. It names the model's folder, which
                is as it was before.
        """
        folder = temporary_beside(self.model_folder)
        try:
            # HDF5 cannot close a file on a full disk without a noise of its own.
            if shutil.disk_usage(self.path).free < num_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder
            replace_folder(folder, self.model_folder)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, reason, str(self.model_folder)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def read_config(
        self,
        *,
        data: str | None = None,
        assignments: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        allowed: Sequence[str] = READING,
    ) -> FinetuneConfig:
        """The run's settings, with others for how data are read.

        Args:
            data: another data.source, to which the run's own data.limit does not
                apply.
            assignments: `data.KEY=VALUE` for columns, data_dir, limit and the like.
            settings: the same as a mapping.
            allowed: the settings that have an effect on what is to be done.

        Raises:
            ConfigError: a setting is wrong, or would have no effect on a run that
                is trained already.
        """
        keys = [item.partition("=")[0].strip() for item in assignments]
        keys += settings or {}
        for key in keys:
            if key not in allowed:
                raise ConfigError(
                    f"{key} has no effect here, on a run that is trained already. "
                    f"What may be set: {', '.join(allowed)}."
                )
        config = load_config(
            FinetuneConfig,
            file=self.config_file,
            assignments=assignments,
            options={**(settings or {}), "data.source": data},
            option_names={"data.source": "--data"},
        )
        if data is None or "data.limit" in keys:
            return config
        whole = config.data.model_copy(update={"limit": None})
        return config.model_copy(update={"data": whole})

    def read_task(self) -> dict[str, Any]:
        """What `task.json` holds.

        Raises:
            RunError: the file is damaged.
        """
        return _read_json(self.task_file)

    def read_metrics(self) -> dict[str, Any]:
        """The final metrics by split; empty where training did not finish."""
        return _read_json(self.metrics_file) if self.metrics_file.is_file() else {}

    def read_info(self) -> dict[str, Any]:
        """What `kbert.json` holds; empty where a run has not got that far."""
        return _read_json(self.info_file) if self.info_file.is_file() else {}


def open_run(path: str | os.PathLike[str]) -> RunFolder:
    """A run to evaluate or to predict with.

    Raises:
        RunError: `path` is no run, or a run without a model.
    """
    run = RunFolder(Path(path))
    if not run.path.is_dir():
        raise RunError(f"No run at {path}: there is no such folder.")
    recover_folder(run.model_folder)
    if not run.config_file.is_file():
        raise RunError(
            f"{path} is no run: it has no config.toml. Give the folder that "
            "`kbert finetune` printed."
        )
    for needed in (run.task_file, run.model_folder):
        if not needed.exists():
            raise RunError(
                f"The run {path} has no {needed.name}: it was stopped before its "
                "first evaluation. Train it again."
            )
    return run


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
    output: Path | FreshName, config: FinetuneConfig, *, needed_bytes: int = 0
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
    if path.is_dir() and any(path.iterdir()):
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
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        raise RunError(
            f"The disk of {parent} has {free / 1e6:,.0f} MB free, and this run needs "
            f"about {needed_bytes / 1e6:,.0f} MB. Make room, or choose another "
            "--output."
        )


def create_run(output: Path | FreshName, config: FinetuneConfig) -> RunFolder:
    """Makes the run folder and writes its config.

    What a run with the same config and without a model left there is removed.

    Raises:
        RunError: another run has been written there since `check_output`.
    """
    if isinstance(output, FreshName):
        run = RunFolder(output.claim())
    else:
        check_output(output, config)
        output.mkdir(parents=True, exist_ok=True)
        run = RunFolder(output)
    for left in (run.model_folder, run.logs_folder):
        shutil.rmtree(left, ignore_errors=True)
    for left in (run.history_file, run.metrics_file, run.task_file, run.info_file):
        left.unlink(missing_ok=True)
    write_text(run.config_file, config_to_toml(config))
    return run


def _check_same_run(run: RunFolder, config: FinetuneConfig) -> None:
    if not run.config_file.is_file():
        raise RunError(
            f"The output {run.path} exists and is no run (it has no config.toml). "
            "Choose another --output."
        )
    differing = _differing_settings(run, config)
    if differing:
        raise RunError(
            f"The output {run.path} is a run with another config; it differs in "
            f"{', '.join(differing)}. Choose another --output, or delete it."
        )
    status = run.read_info().get("status", "unfinished")
    recover_folder(run.model_folder)
    if run.model_folder.exists() or status == "finished":
        kind = _KINDS.get(status, "a running or killed run")
        raise RunError(
            f"The output {run.path} is {kind} with this config, and holds its best "
            f"model. Evaluate it (kbert evaluate {run.path}), choose another --output, "
            "or delete it."
        )


def _differing_settings(run: RunFolder, config: FinetuneConfig) -> list[str]:
    try:
        old = tomllib.loads(run.config_file.read_text("utf-8"))
    except ValueError as error:
        raise RunError(f"{run.config_file} is damaged: {error}") from None
    new = tomllib.loads(config_to_toml(config))
    return [
        f"{section}.{key}"
        for section in sorted(old.keys() | new.keys())
        for key in sorted(old.get(section, {}).keys() | new.get(section, {}).keys())
        if old.get(section, {}).get(key) != new.get(section, {}).get(key)
    ]


def _is_read_only(folder: Path) -> bool:
    """Whether the disk is mounted read-only, which root's permissions hide."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise RunError(f"{file} is damaged: it holds no JSON object.")
    return values
