"""The run folder: what is in it, how it is written and read.

Every file is written beside and renamed, so that a run is whole at any moment:
its `model/` is the best model so far, its `metrics.json` is of that model.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.bounded import read_json, resolve_inside, shown
from kbert.checksums import digest_of_sums, write_sums
from kbert.config import FinetuneConfig, Settings, load_config
from kbert.errors import ConfigError, RunError
from kbert.files import (
    append_line,
    recover_folder,
    replace_folder,
    temporary_beside,
    write_json,
    write_text,
)
from kbert.toml_files import read_toml

# The settings that say how data are read; all others shaped the run's model.
READING = tuple(
    f"data.{name}"
    for name in ("data_dir", "text", "text_pair", "label", "encoding_errors", "limit")
)


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
    def vocabulary_file(self) -> Path:
        """A pretraining's vocabulary, also before there is a model."""
        return self.path / "vocab.txt"

    @property
    def metrics_file(self) -> Path:
        """The final metrics by split."""
        return self.path / "metrics.json"

    @property
    def validation_file(self) -> Path:
        """What training measured of the best model, with which it is written."""
        return self.model_folder / "validation.json"

    @property
    def history_file(self) -> Path:
        """A line an evaluation."""
        return self.path / "history.jsonl"

    @property
    def logs_folder(self) -> Path:
        """What TensorBoard reads."""
        return self.path / "logs"

    @property
    def checkpoints_folder(self) -> Path:
        """Where a training goes on after it was stopped."""
        return self.path / "checkpoints"

    @property
    def encoded_folder(self) -> Path:
        """The data of a training that has not ended, as token ids."""
        return self.path / "encoded"

    @property
    def info_file(self) -> Path:
        """Status, versions, machine, data fingerprints, times."""
        return self.path / "kbert.json"

    def num_bytes_of_weights(self) -> int:
        """What the model and the checkpoints take on the disk now."""
        return sum(
            path.stat().st_size
            for folder in (self.model_folder, self.checkpoints_folder)
            for path in folder.rglob("*")
            if path.is_file()
        )

    def write_task(self, values: Mapping[str, Any]) -> None:
        """Writes `task.json`."""
        write_json(self.task_file, dict(values))

    def write_metrics(self, metrics_by_split: Mapping[str, Any]) -> None:
        """Writes `metrics.json`."""
        write_json(self.metrics_file, dict(metrics_by_split))

    def write_info(self, values: Mapping[str, Any]) -> None:
        """Writes `kbert.json`."""
        write_json(self.info_file, dict(values))

    def write_history(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Writes `history.jsonl` anew, with these lines alone."""
        write_text(self.history_file, "".join(_line(values) + "\n" for values in lines))

    def append_history(self, values: Mapping[str, Any]) -> None:
        """Adds a line to `history.jsonl`."""
        append_line(self.history_file, _line(values))

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
            write_sums(folder)
            replace_folder(folder, self.model_folder)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, reason, str(self.model_folder)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def model_digest(self) -> str | None:
        """Tells one model of the run from another; None where it has no sums."""
        return digest_of_sums(self.model_folder)

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
        return read_json(self.task_file, RunError)

    def read_metrics(self) -> dict[str, Any]:
        """The final metrics by split; empty where training did not finish.

        Raises:
            RunError: the file is damaged.
        """
        return (
            read_json(self.metrics_file, RunError) if self.metrics_file.exists() else {}
        )

    def read_validation(self) -> dict[str, Any] | None:
        """What training measured of the model; None where it did not.

        Raises:
            RunError: the file is damaged.
        """
        if not self.validation_file.exists():
            return None
        return read_json(self.validation_file, RunError)

    def read_info(self) -> dict[str, Any]:
        """What `kbert.json` holds; empty where a run has not got that far.

        Raises:
            RunError: the file is damaged.
        """
        if not self.info_file.exists():
            return {}
        info = read_json(self.info_file, RunError)
        _check_info(info, self.info_file)
        return info


def open_run(path: str | os.PathLike[str]) -> RunFolder:
    """A run to evaluate or to predict with.

    Raises:
        RunError: `path` is no run, or a run without a model.
    """
    run = RunFolder(Path(path))
    if not run.path.is_dir():
        raise RunError(f"No run at {path}: there is no such folder.")
    for file in (
        run.config_file,
        run.task_file,
        run.metrics_file,
        run.info_file,
        run.model_folder,
    ):
        resolve_inside(run.path, file.name, RunError)
    recover_folder(run.model_folder)
    if not run.config_file.is_file():
        raise RunError(
            f"{path} is no run: it has no config.toml. Give the folder that "
            "`kbert finetune` or `kbert pretrain` printed."
        )
    for needed in (run.task_file, run.model_folder):
        if not needed.exists():
            raise RunError(
                f"The run {path} has no {needed.name}: it was stopped before its "
                f"first evaluation. Go on with it: --resume {path}"
            )
    return run


def find_config(path: Path, config_class: type[Settings]) -> Path:
    """The config of a run that is to go on.

    Args:
        config_class: that of the command which goes on with it.

    Raises:
        RunError: `path` is no run, or one of another command.
        ConfigError: its config cannot be read.
    """
    file = RunFolder(path).config_file
    if not file.is_file():
        raise RunError(
            f"No run to go on with at {path}: there is no {file.name}. Name the folder "
            "that `kbert finetune` or `kbert pretrain` made."
        )
    data = read_toml(resolve_inside(path, file.name, RunError)).get("data")
    is_pretraining = isinstance(data, dict) and "sources" in data
    if is_pretraining == issubclass(config_class, FinetuneConfig):
        command = "pretrain" if is_pretraining else "finetune"
        raise RunError(
            f"{path} is a run of `kbert {command}`: kbert {command} --resume {path}"
        )
    return file


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _check_info(info: Mapping[str, Any], file: Path) -> None:
    """Checks the parts of `kbert.json` that other commands use."""
    data = info.get("data", {})
    parts = data.values() if isinstance(data, dict) else [None]
    files = data.get("files", []) if isinstance(data, dict) else []
    if (
        not isinstance(data, dict)
        or not isinstance(files, list)
        or not all(
            isinstance(entry, dict) and "fingerprint" in entry for entry in files
        )
        or not all(
            isinstance(part.get("name", ""), str)
            for part in parts
            if isinstance(part, dict)
        )
    ):
        raise RunError(
            f'{file} is damaged: "data" must say what was read. Received: '
            f"{shown(data)}."
        )
    if not isinstance(info.get("status", ""), str):
        raise RunError(
            f'{file} is damaged: "status" must be a text. Received: '
            f"{shown(info['status'])}."
        )
