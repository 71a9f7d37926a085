"""The Python API: the same functions that the commands call."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, TypeVar

from kbert.config import ExportConfig, FinetuneConfig, Settings, load_config
from kbert.pretrain_settings import PretrainConfig
from kbert.runs import RunFolder, open_run
from kbert.tasks import is_pretrained, task_from_dict
from kbert.workflows import evaluate as evaluation
from kbert.workflows import export as exporting
from kbert.workflows import finetune as finetuning
from kbert.workflows import pretrain as pretraining
from kbert.workflows.applying import Text, check_precision
from kbert.workflows.mask_filler import MaskFiller
from kbert.workflows.predictor import Predictor, open_predictor
from kbert.workflows.pretraining.evaluation import evaluate_pretrained

PathLike = str | os.PathLike[str]
Config = TypeVar("Config", bound=Settings)


class Run:
    """A finished training: evaluates, predicts, tells its figures.

    Attributes:
        path: the run folder.
        precision: float32, mixed_bfloat16 or mixed_float16: what it computes in.
        top_k: how many tokens a pretrained run proposes for a mask; None for 5.

    Example:
        run = kbert.load("runs/imdb_reviews-bert_base_en")
        run.predict(["A wonderful film."])[0]["label"]
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        precision: str = "float32",
        top_k: int | None = None,
    ) -> None:
        self.path = folder.path
        self.precision = precision
        self.top_k = top_k
        self._folder = folder

    def __repr__(self) -> str:
        return f"kbert.Run({str(self.path)!r})"

    @property
    def config(self) -> Settings:
        """Every setting, resolved: a `FinetuneConfig` or a `PretrainConfig`."""
        if is_pretrained(self._folder.read_task()):
            return load_config(PretrainConfig, file=self._folder.config_file)
        return self._folder.read_config()

    @property
    def metrics(self) -> dict[str, Any]:
        """The final metrics by split; empty for a run that was interrupted."""
        return self._folder.read_metrics()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in order; RunError for a run that was pretrained only."""
        task_from_dict(self._folder.read_task(), str(self._folder.task_file))
        return tuple(self._folder.read_task()["labels"])

    @cached_property
    def predictor(self) -> Predictor | MaskFiller:
        """The loaded model; loaded once, at the first use."""
        return open_predictor(self._folder, precision=self.precision, top_k=self.top_k)

    def predict(self, texts: Iterable[Text]) -> list[dict[str, Any]]:
        """Answers texts in order: `label`, `score`, `probabilities`.

        A pretrained run fills the masks of texts: see `MaskFiller.answers`.

        Args:
            texts: strings, or pairs of strings for a pair task.

        Raises:
            kbert.errors.DataError: a text without [MASK], for a pretrained run.
            kbert.errors.ConfigError: `top_k` is wrong, or the run was not pretrained.
            TypeError: a single string instead of several, or what is no text.
        """
        if isinstance(texts, str):
            raise TypeError("`texts` must be several texts: predict(['...']).")
        return list(self.predictor.answers(texts))

    def evaluate(
        self,
        data: PathLike | None = None,
        *,
        split: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The metrics on labelled texts, as `kbert evaluate` prints them.

        A pretrained run is measured on texts without labels: see
        `kbert.workflows.pretraining.evaluation`.

        Args:
            data: what to read, as `--data`; None for the run's own test data, or
                else its validation part.
            split: a split of `data`.
            settings: `{"data.text": "review"}`, over the run's own settings.
        """
        plain = {key: _plain(value) for key, value in (settings or {}).items()}
        if is_pretrained(self._folder.read_task()):
            return evaluate_pretrained(
                self._folder,
                data=_plain(data),
                split=split,
                settings=plain,
                precision=self.precision,
            )
        assert isinstance(self.predictor, Predictor), "it was fine-tuned"
        return evaluation.evaluate(
            self.predictor, data=_plain(data), split=split, settings=plain
        )

    def export(
        self,
        output: PathLike,
        *,
        version: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Path:
        """Writes `output/VERSION` for TensorFlow Serving, as `kbert export` does.

        Args:
            output: the model's folder, `saved_models/NAME`.
            version: its number; the next free one by default.
            settings: `{"export.precision": "bfloat16"}`.

        Returns:
            The version's folder.

        Raises:
            kbert.errors.ExportError: it cannot be written there.
        """
        config = load_config(
            ExportConfig, options={k: _plain(v) for k, v in (settings or {}).items()}
        )
        written = exporting.export(
            self._folder, Path(output), version=version, settings=config.export
        )
        return written.path


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

    Raises:
        kbert.errors.UserError: a mistake in any of it.
    """
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
    loaded = _load(FinetuneConfig, config, options)
    return Run(finetuning.finetune(loaded, output=_path(output), progress=progress))


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

    Raises:
        kbert.errors.UserError: a mistake in any of it.
    """
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
    loaded = _load(PretrainConfig, config, {**(settings or {}), **given})
    return Run(pretraining.pretrain(loaded, output=_path(output), progress=progress))


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
    config_class: type[Config], file: PathLike | None, options: Mapping[str, Any]
) -> Config:
    return load_config(
        config_class,
        file=_path(file),
        options={key: _plain(value) for key, value in options.items()},
    )


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _plain(value: Any) -> Any:
    """A path as the text that a setting takes."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value
