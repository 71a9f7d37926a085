"""Evaluation: the metrics of a run, on labelled texts, or on text without labels."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np

from kbert.config import DataSettings, FinetuneConfig, load_config
from kbert.data.encoded import EncodedDataset
from kbert.data.sources import source_splits
from kbert.errors import ConfigError, DataError
from kbert.runs import RunFolder
from kbert.tasks import is_pretrained
from kbert.workflows.datasets import (
    columns_like,
    encode_split,
    hold_out,
    open_sources,
    open_split,
    validation_name,
)
from kbert.workflows.mask_filler import MaskFiller
from kbert.workflows.predictor import Predictor
from kbert.workflows.pretraining.evaluation import (
    evaluate_pretrained,
    format_pretraining_metrics,
)

logger = logging.getLogger(__name__)

# What may be set for the run's own data: where they lie, and how much is enough.
_FOR_OWN_DATA = {"data_dir", "limit"}


class Evaluation(NamedTuple):
    """What an evaluation found: by name, and as text for people."""

    metrics: dict[str, Any]
    text: str


def evaluate_run(
    run: RunFolder,
    *,
    precision: str = "float32",
    load: Callable[[], Predictor | MaskFiller] | None = None,
    **reading: Any,
) -> Evaluation:
    """Evaluates a run of any task.

    Args:
        precision: float32, mixed_bfloat16 or mixed_float16.
        load: gives the run's predictor, where there may be one already.
        reading: what is read, and `progress`: as `evaluate` takes it, and
            `evaluate_pretrained`.

    Raises:
        UserError: as these two.
    """
    if is_pretrained(run.read_task()):
        metrics = evaluate_pretrained(run, precision=precision, **reading)
        return Evaluation(metrics, format_pretraining_metrics(metrics))
    predictor = load() if load is not None else Predictor(run, precision=precision)
    assert isinstance(predictor, Predictor), "it was fine-tuned"
    metrics = evaluate(predictor, **reading)
    return Evaluation(metrics, predictor.task.format_metrics(metrics))


def evaluate(
    predictor: Predictor,
    *,
    data: str | None = None,
    split: str | None = None,
    assignments: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    progress: TextIO | None = None,
) -> dict[str, Any]:
    """Evaluates a run that answers with labels.

    Args:
        predictor: the loaded run.
        data: what to read; None for the run's own: its test data where it names
            any, else its validation part.
        split: a split of `data`; None for the first of test, validation, train.
        assignments: `data.NAME=VALUE`, over the settings the run was trained with;
            for the run's own data only `data.data_dir` and `data.limit`.
        settings: the same as a mapping.
        progress: where to show how far it is; None for nowhere.

    Returns:
        The task's metrics by name.

    Raises:
        UserError: the data cannot be read, have a label that training never saw, or
            are no longer those that the run's held-out share was taken from.
    """
    config = predictor.run.read_config(
        data=data, assignments=assignments, settings=settings
    )
    asked = load_config(FinetuneConfig, assignments=assignments, options=settings).data
    if data is None and split is None:
        dataset = _own_dataset(predictor, asked)
    else:
        chosen = split or _first_split(config.data)
        columns = columns_like(asked, config.data, predictor.columns)
        source = open_split(config.data, chosen, columns=columns)
        dataset = encode_split(source, predictor.encoder, progress)
    logger.info("evaluating on %s: %s examples", dataset.name, f"{len(dataset):,}")
    return predictor.evaluate(dataset, progress=progress)


def _own_dataset(predictor: Predictor, asked: DataSettings) -> EncodedDataset:
    """The run's test data, or else exactly what it was validated on.

    Args:
        asked: of its settings, `data_dir` and `limit` have an effect.
    """
    config = predictor.run.read_config()
    for name in sorted(asked.model_fields_set - _FOR_OWN_DATA):
        raise ConfigError(
            f"data.{name} has no effect here: without --data a run is evaluated on its "
            "own data, read as it was in training. To read them otherwise give --data "
            f"(the training data are {config.data.source})."
        )
    given = asked.model_dump(include={"data_dir"}, exclude_none=True)
    own = config.data.model_copy(update=given)
    if own.test or validation_name(own):
        limit = asked.limit or own.limit
        sources = open_sources(own.model_copy(update={"limit": limit}))
        chosen = sources.test or sources.validation
        assert chosen is not None, "one of them is named"
        return encode_split(chosen, predictor.encoder)
    train = encode_split(open_sources(own).train, predictor.encoder)
    _check_unchanged(train, predictor.run)
    held_out = hold_out(train, own.validation_share, config.train.seed)[1]
    # After the split: the first examples of the file are mostly training examples.
    first = np.arange(min(len(held_out), asked.limit or len(held_out)))
    return held_out.select(first, held_out.name)


def _check_unchanged(dataset: EncodedDataset, run: RunFolder) -> None:
    """Checks that the training data are as they were, where the run tells."""
    try:
        before = run.read_info()["data"]["train"]["source"]["fingerprint"]
    except (KeyError, TypeError):
        return
    if dataset.report.fingerprint != before:
        raise DataError(
            f"{dataset.name} is not as it was when {run.path} was trained, so that the "
            "part held out for validation is not the same: training examples would be "
            "among it. Give other data with --data."
        )


def _first_split(data: DataSettings) -> str | None:
    own = source_splits(data.source, data.data_dir)
    return next((name for name in ("test", "validation", "train") if name in own), None)
