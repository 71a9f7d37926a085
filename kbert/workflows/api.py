"""The Python API: the same functions that the commands call."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from kbert.config import FinetuneConfig, Settings, load_config
from kbert.errors import ConfigError
from kbert.pretrain_settings import PretrainConfig
from kbert.runs import find_config, open_run
from kbert.workflows import finetune as finetuning
from kbert.workflows import pretrain as pretraining
from kbert.workflows.applying import check_precision
from kbert.workflows.run import PathLike, Run, plain_values

Config = TypeVar("Config", bound=Settings)

__all__ = ["Run", "finetune", "load", "pretrain"]


def finetune(
    preset: PathLike | None = None,
    data: PathLike | None = None,
    *,
    output: PathLike | None = None,
    config: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: TextIO | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    max_length: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    resume: PathLike | None = None,
) -> Run:
    """Fine-tunes a preset, as `kbert finetune` does.

    Args:
        preset: keras-hub name, folder, run or `hf://...`; `sample` by default.
        data: `tfds:NAME`, a file or a folder; `sample` by default.
        output: the run folder; a free one under `runs/` by default.
        config: a TOML file.
        settings: any other setting, `{"train.schedule": "cosine"}`.
        progress: where to show the progress line, such as `sys.stderr`; nowhere by
            default. Notes and warnings go to the logger "kbert".
        epochs: passes over the training data.
        batch_size: examples a batch.
        learning_rate: the peak rate.
        max_length: tokens kept of a text.
        precision: a Keras dtype policy, or `auto`.
        seed: of everything random.
        resume: a run to go on with, in its folder and with its settings.

    Raises:
        kbert.errors.UserError: a mistake in any of it.
    """
    _check_resume(resume, output)
    short = {
        "model.preset": preset,
        "data.source": data,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.learning_rate": learning_rate,
        "data.max_length": max_length,
        "train.precision": precision,
        "train.seed": seed,
    }
    given = {key: value for key, value in short.items() if value is not None}
    options = {**(settings or {}), **given}
    loaded = _load(FinetuneConfig, config, options, resume)
    return Run(
        finetuning.finetune(
            loaded, output=_path(output), progress=progress, resume=_path(resume)
        )
    )


def pretrain(
    sources: PathLike | Sequence[PathLike] | None = None,
    *,
    preset: PathLike | None = None,
    output: PathLike | None = None,
    config: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: TextIO | None = None,
    size: str | None = None,
    vocabulary: PathLike | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    max_length: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    resume: PathLike | None = None,
) -> Run:
    """Trains or adapts a BERT on text without labels, as `kbert pretrain` does.

    Args:
        sources: files, globs, folders, `tfds:NAME` or a prepared folder, one or
            several; `sample` by default.
        preset: weights to go on from; a new model by default.
        output: the run folder; a free one under `runs/` by default.
        config: a TOML file.
        settings: any other setting, `{"data.document": "line"}`.
        progress: where to show the progress line; nowhere by default.
        size: of a new model: tiny, mini, small, medium, base or large.
        vocabulary: a file with a token a line; one trained on the text by default.
        max_steps: optimizer steps.
        batch_size: examples a batch.
        learning_rate: the peak rate.
        max_length: tokens of an example.
        precision: a Keras dtype policy, or `auto`.
        seed: of everything random.
        resume: a run to go on with, in its folder and with its settings.

    Raises:
        kbert.errors.UserError: a mistake in any of it.
    """
    _check_resume(resume, output)
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    short = {
        "data.sources": None if sources is None else [os.fspath(s) for s in sources],
        "model.preset": preset,
        "model.size": size,
        "model.vocabulary": vocabulary,
        "train.max_steps": max_steps,
        "train.batch_size": batch_size,
        "train.learning_rate": learning_rate,
        "data.max_length": max_length,
        "train.precision": precision,
        "train.seed": seed,
    }
    given = {key: value for key, value in short.items() if value is not None}
    loaded = _load(PretrainConfig, config, {**(settings or {}), **given}, resume)
    return Run(
        pretraining.pretrain(
            loaded, output=_path(output), progress=progress, resume=_path(resume)
        )
    )


def load(
    path: PathLike, *, precision: str = "float32", top_k: int | None = None
) -> Run:
    """A run by its folder.

    Args:
        path: the folder that `kbert finetune` or `kbert pretrain` printed.
        precision: float32, mixed_bfloat16 or mixed_float16.
        top_k: how many tokens a pretrained run proposes for a mask; None for 5.

    Raises:
        kbert.errors.RunError: there is no run with a model at `path`.
        kbert.errors.ConfigError: there is no such precision.
    """
    return Run(open_run(path), precision=check_precision(precision), top_k=top_k)


def _load(
    config_class: type[Config],
    file: PathLike | None,
    options: Mapping[str, Any],
    resume: PathLike | None,
) -> Config:
    base = None if resume is None else find_config(Path(resume), config_class)
    return load_config(
        config_class, base=base, file=_path(file), options=plain_values(options)
    )


def _check_resume(resume: PathLike | None, output: PathLike | None) -> None:
    if resume is not None and output is not None:
        raise ConfigError(
            f"resume={resume} goes on in its own folder. Leave output={output} out."
        )


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)
