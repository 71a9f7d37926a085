"""Labelled examples, as they are fed to a training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kbert.data.batching import Batch, Batching
from kbert.data.encoded import EncodedDataset
from kbert.training.feeding import Fed, Update


@dataclass(frozen=True)
class LabelledData:
    """A data set in batches by length; (seed, epoch) alone decide their order.

    Attributes:
        dataset: the encoded examples.
        targets: `[examples]`, what the loss compares with.
        weights: `[examples]` float32, the weight of each example in the loss.
    """

    dataset: EncodedDataset
    targets: np.ndarray
    weights: np.ndarray
    batching: Batching
    pad_id: int
    seed: int

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer updates of one epoch; the same for every epoch."""
        return self.batching.num_shuffled_groups(self.dataset.lengths)

    def updates(
        self, num_steps: int, start: Mapping[str, Any] | None = None
    ) -> Iterator[Update]:
        """See `TrainingData`; a position is the step."""
        step = 0 if start is None else start["step"]
        while step < num_steps:
            epoch, number = divmod(step, self.steps_per_epoch)
            groups = self.batching.groups(
                self.dataset.lengths, seed=self.seed, epoch=epoch
            )
            for index in range(number, min(len(groups), number + num_steps - step)):
                group = groups[index]
                batches = self.batching.batches(self.dataset, group, self.pad_id)
                step += 1
                yield Update([self.fill(batch) for batch in batches], {"step": step})

    def fill(self, batch: Batch) -> Fed:
        """The batch with its targets and loss weights, zeros in its padding rows."""
        targets = np.zeros((len(batch.weights), *self.targets.shape[1:]))
        targets = targets.astype(self.targets.dtype)
        targets[: len(batch.rows)] = self.targets[batch.rows]
        weights = batch.weights.copy()
        weights[: len(batch.rows)] *= self.weights[batch.rows]
        return Fed(
            batch.features,
            targets,
            weights,
            len(batch.rows),
            batch.num_tokens,
            self.dataset.read_numbers(batch.rows),
        )
