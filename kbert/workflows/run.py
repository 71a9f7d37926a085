"""A finished run, as the Python API gives it."""

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from kbert.config import ExportConfig, Settings, load_config
from kbert.pretrain_settings import PretrainConfig
from kbert.runs import RunFolder
from kbert.tasks import is_pretrained, task_from_dict
from kbert.workflows.applying import Text
from kbert.workflows.evaluate import evaluate_run
from kbert.workflows.export import export
from kbert.workflows.mask_filler import MaskFiller
from kbert.workflows.predictor import Predictor, open_predictor

PathLike = str | os.PathLike[str]


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
        evaluation = evaluate_run(
            self._folder,
            precision=self.precision,
            load=lambda: self.predictor,
            data=plain(data),
            split=split,
            settings=plain_values(settings),
        )
        return evaluation.metrics

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
        config = load_config(ExportConfig, options=plain_values(settings))
        written = export(
            self._folder, Path(output), version=version, settings=config.export
        )
        return written.path


def plain_values(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings with paths as the text that a setting takes."""
    return {key: plain(value) for key, value in (settings or {}).items()}


def plain(value: Any) -> Any:
    """A path as the text that a setting takes; anything else as it is."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value
