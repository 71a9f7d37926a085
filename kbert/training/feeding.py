"""What a training is fed: batches, updates, and where the data go on after each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Fed:
    """One batch as Keras takes it.

    Attributes:
        features: the model's inputs.
        targets: what the loss compares with; a dict where there are several outputs.
        weights: the weight of each target in the loss, arranged as the targets.
        num_examples: rows that are no padding.
        num_tokens: tokens that are no padding.
        example_ids: `[num_examples]`, which examples these are, for messages: their
            numbers, counted from 0, in the data set as it was read; of a pretraining,
            in all that was fed.
    """

    features: dict[str, np.ndarray]
    targets: np.ndarray | dict[str, np.ndarray]
    weights: np.ndarray | dict[str, np.ndarray]
    num_examples: int
    num_tokens: int
    example_ids: np.ndarray


@dataclass(frozen=True)
class Update:
    """What one optimizer update is fed.

    Attributes:
        batches: one, or several that are accumulated.
        position: where the data go on after this update: for `TrainingData.updates`.
            It is JSON.
    """

    batches: list[Fed]
    position: dict[str, Any]


class TrainingData(Protocol):
    """What is fed to the model, in an order that its seed alone decides."""

    def updates(
        self, num_steps: int, start: Mapping[str, Any] | None = None
    ) -> Iterator[Update]:
        """Each update up to the one of number `num_steps`.

        Args:
            num_steps: the updates of the whole training, counted from its beginning.
            start: the position after an earlier update, to go on there in the same
                order; None: the beginning.
        """
