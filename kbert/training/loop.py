"""The training loop: steps, evaluations, the best weights, when to stop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import keras
import numpy as np

from kbert.data.batching import Batch, Batching
from kbert.data.encoded import EncodedDataset
from kbert.errors import TrainingError
from kbert.training.signals import StopSignal


@dataclass(frozen=True)
class TrainingData:
    """What is fed to the model, in an order that (seed, epoch) alone decide.

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
        return len(self.batching.groups(self.dataset.lengths, seed=self.seed))

    def updates(self, num_steps: int) -> Iterator[list[Batch]]:
        """The batches of each update, `num_steps` of them, over the epochs."""
        step = epoch = 0
        while step < num_steps:
            groups = self.batching.groups(
                self.dataset.lengths, seed=self.seed, epoch=epoch
            )
            for group in groups[: num_steps - step]:
                yield list(self.batching.batches(self.dataset, group, self.pad_id))
                step += 1
            epoch += 1

    def fill(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Targets and loss weights of a batch, zeros in its padding rows."""
        targets = np.zeros((len(batch.weights), *self.targets.shape[1:]))
        targets = targets.astype(self.targets.dtype)
        targets[: len(batch.rows)] = self.targets[batch.rows]
        weights = batch.weights.copy()
        weights[: len(batch.rows)] *= self.weights[batch.rows]
        return targets, weights


@dataclass(frozen=True)
class Step:
    """What one optimizer update did."""

    number: int
    loss: float
    num_examples: int
    num_tokens: int


class Listener(Protocol):
    """Who is told how training goes: the run's files, TensorBoard, the person."""

    def on_step(self, step: Step) -> None:
        """After every update."""

    def on_evaluation(
        self, step: int, train_loss: float, metrics: dict[str, Any], *, is_best: bool
    ) -> None:
        """After every evaluation; `is_best` asks to keep the weights."""


@dataclass(frozen=True)
class Plan:
    """How long to train and when to look.

    Attributes:
        total_steps: optimizer updates.
        eval_steps: updates between two evaluations; the last update is always
            followed by one.
        metric: the metric that chooses the best weights; `loss` is better when
            smaller, every other when larger.
        patience: evaluations without improvement until training stops; None: never.
    """

    total_steps: int
    eval_steps: int
    metric: str
    patience: int | None = None


def train(
    model: keras.Model,
    data: TrainingData,
    plan: Plan,
    *,
    evaluate: Callable[[int], dict[str, Any]],
    listener: Listener,
) -> int:
    """Trains a compiled model.

    Args:
        evaluate: gives the metrics after a step, whose number it is told.

    Returns:
        The updates made: fewer than planned where patience ran out.

    Raises:
        TrainingError: the loss is no longer a finite number.
        Interrupted: SIGINT or SIGTERM came; a step in progress was finished.
    """
    best: float | None = None
    disappointments = 0
    losses: list[float] = []
    number = 0
    with StopSignal("stopped before the first step") as stop:
        for number, batches in enumerate(data.updates(plan.total_steps), start=1):
            with stop.deferred():
                step = update(model, data, batches, number)
                stop.message = f"stopped after step {number}"
                losses.append(step.loss)
                listener.on_step(step)
            if number % plan.eval_steps and number != plan.total_steps:
                continue
            metrics = evaluate(number)
            value = -metrics["loss"] if plan.metric == "loss" else metrics[plan.metric]
            is_best = best is None or value > best
            best = value if best is None else max(best, value)
            disappointments = 0 if is_best else disappointments + 1
            train_loss = float(np.mean(losses))
            losses.clear()
            with stop.deferred():
                listener.on_evaluation(number, train_loss, metrics, is_best=is_best)
            if plan.patience is not None and disappointments >= plan.patience:
                break
    return number


def update(
    model: keras.Model, data: TrainingData, batches: list[Batch], number: int
) -> Step:
    """One optimizer update, over one batch or several accumulated ones."""
    losses = []
    for batch in batches:
        targets, weights = data.fill(batch)
        logs = model.train_on_batch(
            batch.features, targets, sample_weight=weights, return_dict=True
        )
        losses.append(float(logs["loss"]))
    loss = float(np.mean(losses))
    if not math.isfinite(loss):
        raise diverged(f"the loss at step {number} is {loss}")
    return Step(
        number=number,
        loss=loss,
        num_examples=sum(len(batch.rows) for batch in batches),
        num_tokens=sum(batch.num_tokens for batch in batches),
    )


def diverged(what: str) -> TrainingError:
    """The error of a training that went astray, with what to try."""
    return TrainingError(
        f"training has diverged: {what}. Try a smaller learning rate "
        "(--learning-rate), a longer warm-up (--set train.warmup_ratio=0.2), or "
        "--precision float32 where half precision was in use."
    )
