"""The training loop: steps, evaluations, the best weights, when to stop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from kbert.errors import TrainingError
from kbert.training.signals import StopSignal


@dataclass(frozen=True)
class Fed:
    """One batch as Keras takes it.

    Attributes:
        features: the model's inputs.
        targets: what the loss compares with; a dict where there are several outputs.
        weights: the weight of each target in the loss, arranged as the targets.
        num_examples: rows that are no padding.
        num_tokens: tokens that are no padding.
    """

    features: dict[str, np.ndarray]
    targets: np.ndarray | dict[str, np.ndarray]
    weights: np.ndarray | dict[str, np.ndarray]
    num_examples: int
    num_tokens: int


class TrainingData(Protocol):
    """What is fed to the model, in an order that its seed alone decides."""

    def updates(self, num_steps: int) -> Iterator[list[Fed]]:
        """The batches of each update, `num_steps` of them."""


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
            smaller, every other when larger. None: the latest are the best.
        patience: evaluations without improvement until training stops; None: never.
    """

    total_steps: int
    eval_steps: int
    metric: str | None
    patience: int | None = None

    def value(self, metrics: dict[str, Any]) -> float | None:
        """How good a model with these metrics is; larger is better."""
        if self.metric is None:
            return None
        return -metrics["loss"] if self.metric == "loss" else metrics[self.metric]


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
                step = update(model, batches, number)
                stop.message = f"stopped after step {number}"
                losses.append(step.loss)
                listener.on_step(step)
            if number % plan.eval_steps and number != plan.total_steps:
                continue
            metrics = evaluate(number)
            value = plan.value(metrics)
            is_best = best is None or value is None or value > best
            best = value if is_best else best
            disappointments = 0 if is_best else disappointments + 1
            train_loss = float(np.mean(losses))
            losses.clear()
            with stop.deferred():
                listener.on_evaluation(number, train_loss, metrics, is_best=is_best)
            if plan.patience is not None and disappointments >= plan.patience:
                break
    return number


def update(model: keras.Model, batches: list[Fed], number: int) -> Step:
    """One optimizer update, over one batch or several accumulated ones.

    Raises:
        TrainingError: the loss is no finite number.
    """
    losses = []
    for batch in batches:
        logs = model.train_on_batch(
            batch.features, batch.targets, sample_weight=batch.weights, return_dict=True
        )
        losses.append(float(logs["loss"]))
    loss = float(np.mean(losses))
    if not math.isfinite(loss):
        raise diverged(f"the loss at step {number} is {loss}")
    return Step(
        number=number,
        loss=loss,
        num_examples=sum(batch.num_examples for batch in batches),
        num_tokens=sum(batch.num_tokens for batch in batches),
    )


def diverged(what: str) -> TrainingError:
    """The error of a training that went astray, with what to try."""
    return TrainingError(
        f"training has diverged: {what}. Try a smaller learning rate "
        "(--learning-rate), a longer warm-up (--set train.warmup_ratio=0.2), or "
        "--precision float32 where half precision was in use."
    )
