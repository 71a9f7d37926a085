"""Evaluation: the metrics of a run on labelled texts."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kbert.config import DataSettings, FinetuneConfig
from kbert.data.encoded import EncodedDataset
from kbert.data.sources import source_splits
from kbert.workflows.datasets import (
    columns_like,
    encode_split,
    hold_out,
    open_sources,
    open_split,
)
from kbert.workflows.predictor import Predictor

logger = logging.getLogger(__name__)


def evaluate(
    predictor: Predictor,
    *,
    data: str | None = None,
    split: str | None = None,
    assignments: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a run.

    Args:
        predictor: the loaded run.
        data: what to read; None for the run's own: its test data where it names
            any, else its validation part.
        split: a split of `data`; None for the first of test, validation, train.
        assignments: `data.NAME=VALUE`, over the settings the run was trained with.
        settings: the same as a mapping.

    Returns:
        The task's metrics by name.

    Raises:
        UserError: the data cannot be read, or have a label that training never saw.
    """
    config = predictor.run.read_config(
        data=data, assignments=assignments, settings=settings
    )
    if data is None and split is None:
        dataset = _own_dataset(predictor, config)
    else:
        chosen = split or _first_split(config.data)
        columns = columns_like(predictor.columns, config.data)
        source = open_split(config.data, chosen, columns=columns)
        dataset = encode_split(source, predictor.encoder)
    logger.info("evaluating on %s: %s examples", dataset.name, f"{len(dataset):,}")
    return predictor.evaluate(dataset)


def _own_dataset(predictor: Predictor, config: FinetuneConfig) -> EncodedDataset:
    """The run's test data, or else exactly what it was validated on."""
    sources = open_sources(config.data)
    if chosen := sources.test or sources.validation:
        return encode_split(chosen, predictor.encoder)
    train = encode_split(sources.train, predictor.encoder)
    return hold_out(train, config.data.validation_share, config.train.seed)[1]


def _first_split(data: DataSettings) -> str | None:
    own = source_splits(data.source, data.data_dir)
    return next((name for name in ("test", "validation", "train") if name in own), None)
