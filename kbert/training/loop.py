"""The training loop: steps, evaluations, the best weights, when to stop."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, Self

import keras
import numpy as np

from kbert.errors import Interrupted, TrainingError
from kbert.training.feeding import Fed, TrainingData
from kbert.training.signals import StopSignal

logger = logging.getLogger(__name__)

# So many updates in a row that are no numbers are no accident.
MOST_SKIPPED = 10


@dataclass(frozen=True)
class Step:
    """What one optimizer update did."""

    number: int
    loss: float
    num_examples: int
    num_tokens: int


@dataclass(frozen=True)
class Progress:
    """How far a training is: all that the loop needs to go on. It is JSON.

    Attributes:
        step: updates made, those that were skipped included.
        position: where the data go on.
        evaluated_step: the update after which the last evaluation was.
        best: the best value of the metric so far, larger is better.
        disappointments: evaluations since the best one.
        num_losses: updates with a loss since the last evaluation.
        loss_sum: of their losses.
        num_skipped: updates that were skipped, in all.
        num_skipped_in_a_row: the last ones of them, with none between.
    """

    step: int = 0
    position: Mapping[str, Any] | None = None
    evaluated_step: int = 0
    best: float | None = None
    disappointments: int = 0
    num_losses: int = 0
    loss_sum: float = 0.0
    num_skipped: int = 0
    num_skipped_in_a_row: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**values)


class Listener(Protocol):
    """Who is told how training goes: the run's files, TensorBoard, the person."""

    def on_step(self, step: Step) -> None:
        """After every update that was made."""

    def on_evaluation(
        self,
        step: int,
        train_loss: float | None,
        metrics: dict[str, Any],
        *,
        is_best: bool,
    ) -> None:
        """After every evaluation; `is_best` asks to keep the weights."""


class Keeper(Protocol):
    """Who keeps checkpoints."""

    def on_step(self, progress: Progress) -> None:
        """After every update; keeps one where it is time to."""

    def keep(self, progress: Progress) -> None:
        """Keeps a checkpoint, if this one is not kept yet."""


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
        on_nonfinite: what to do where a loss or a gradient is no finite number: stop
            the training, or skip the update.
    """

    total_steps: int
    eval_steps: int
    metric: str | None
    patience: int | None = None
    on_nonfinite: Literal["stop", "skip"] = "stop"

    def value(self, metrics: dict[str, Any]) -> float | None:
        """How good a model with these metrics is; larger is better."""
        if self.metric is None:
            return None
        return -metrics["loss"] if self.metric == "loss" else metrics[self.metric]

    def is_evaluation_due(self, progress: Progress) -> bool:
        """Whether the weights as they are now are to be evaluated."""
        step = progress.step
        if step == progress.evaluated_step:
            return False
        return step % self.eval_steps == 0 or step >= self.total_steps

    def has_lost_patience(self, progress: Progress) -> bool:
        """Whether it ends early."""
        return self.patience is not None and progress.disappointments >= self.patience

    def is_over(self, progress: Progress) -> bool:
        """Whether all is done, evaluations included."""
        if self.has_lost_patience(progress):
            return True
        return progress.evaluated_step >= self.total_steps


def train(
    model: keras.Model,
    data: TrainingData,
    plan: Plan,
    *,
    evaluate: Callable[[int], dict[str, Any]],
    listener: Listener,
    keeper: Keeper | None = None,
    progress: Progress | None = None,
) -> Progress:
    """Trains a compiled model.

    Args:
        evaluate: gives the metrics after a step, whose number it is told.
        keeper: keeps checkpoints; None: there are none.
        progress: where an earlier training was stopped, to go on there; None: from
            the beginning.

    Returns:
        How it ended: with fewer updates than planned where patience ran out.

    Raises:
        TrainingError: a loss or a gradient is no finite number, or too many are. The
            weights are as they were before.
        Interrupted: SIGINT, SIGTERM or SIGALRM came. A step in progress was finished
            and a checkpoint kept.
    """
    progress = progress or Progress()
    where = f"after step {progress.step}" if progress.step else "before the first step"
    with StopSignal(f"stopped {where}") as stop:
        try:
            updates = data.updates(plan.total_steps, progress.position)
            while True:
                if plan.is_evaluation_due(progress):
                    metrics = evaluate(progress.step)
                    with stop.deferred():
                        progress = _judge(progress, metrics, plan, listener)
                        if keeper is not None:
                            keeper.keep(progress)
                if plan.is_over(progress):
                    break
                given = next(updates)
                with stop.deferred():
                    progress = _step(
                        model, given.batches, given.position, progress, plan, listener
                    )
                    stop.message = f"stopped after step {progress.step}"
                    if keeper is not None:
                        keeper.on_step(progress)
        except Interrupted:
            if keeper is not None and progress.step:
                keeper.keep(progress)
            raise
    return progress


def _step(
    model: keras.Model,
    batches: list[Fed],
    position: Mapping[str, Any],
    before: Progress,
    plan: Plan,
    listener: Listener,
) -> Progress:
    """One update, or one that is skipped."""
    now = replace(before, step=before.step + 1, position=position)
    try:
        step = update(model, batches, now.step)
    except NonFiniteError as error:
        examples = ", ".join(str(i) for batch in batches for i in batch.example_ids)
        logger.warning(
            "%s. Examples of the update, counted from 0: %s (the data went on to %s)",
            error.what,
            examples,
            position,
        )
        if plan.on_nonfinite == "stop":
            raise
        skipped = before.num_skipped_in_a_row + 1
        if skipped >= MOST_SKIPPED:
            what = f"{skipped} updates in a row were skipped: {error.what}"
            raise diverged(what) from None
        return replace(
            now, num_skipped=before.num_skipped + 1, num_skipped_in_a_row=skipped
        )
    listener.on_step(step)
    return replace(
        now,
        num_losses=before.num_losses + 1,
        loss_sum=before.loss_sum + step.loss,
        num_skipped_in_a_row=0,
    )


def _judge(
    progress: Progress, metrics: dict[str, Any], plan: Plan, listener: Listener
) -> Progress:
    """What an evaluation means for the training."""
    value = plan.value(metrics)
    is_best = progress.best is None or value is None or value > progress.best
    num_losses = progress.num_losses
    train_loss = progress.loss_sum / num_losses if num_losses else None
    listener.on_evaluation(progress.step, train_loss, metrics, is_best=is_best)
    return replace(
        progress,
        evaluated_step=progress.step,
        best=value if is_best else progress.best,
        disappointments=0 if is_best else progress.disappointments + 1,
        num_losses=0,
        loss_sum=0.0,
    )


class NonFiniteError(TrainingError):
    """A loss or a gradient that is no finite number.

    Attributes:
        what: what it is, in a few words.
    """

    def __init__(self, what: str) -> None:
        super().__init__(_diverged(what))
        self.what = what


def update(model: keras.Model, batches: list[Fed], number: int) -> Step:
    """One optimizer update, over one batch or several accumulated ones.

    Raises:
        NonFiniteError: the loss or the gradient is no finite number. With kbert's
            optimizers the weights are as they were before.
    """
    num_skipped = _num_skipped(model)
    losses = []
    for batch in batches:
        logs = model.train_on_batch(
            batch.features, batch.targets, sample_weight=batch.weights, return_dict=True
        )
        losses.append(float(logs["loss"]))
    loss = float(np.mean(losses))
    if not math.isfinite(loss):
        raise NonFiniteError(f"the loss at step {number} is {loss}")
    if _num_skipped(model) > num_skipped:
        raise NonFiniteError(f"the gradient at step {number} is no finite number")
    return Step(
        number=number,
        loss=loss,
        num_examples=sum(batch.num_examples for batch in batches),
        num_tokens=sum(batch.num_tokens for batch in batches),
    )


def _num_skipped(model: keras.Model) -> int:
    """The updates that the optimizer left out so far; 0 for one that never does.

    One with a loss scale leaves out updates to find its scale, and halves it each time.
    Below 1 it is no longer the scale that makes a gradient infinite: so many halvings
    count.
    """
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scale = float(keras.ops.convert_to_numpy(optimizer.dynamic_scale))
        return max(0, -math.frexp(scale)[1] + 1)
    counter = getattr(optimizer, "num_skipped", None)
    return 0 if counter is None else int(keras.ops.convert_to_numpy(counter))


def diverged(what: str) -> TrainingError:
    """The error of a training that went astray, with what to try."""
    return TrainingError(_diverged(what))


def _diverged(what: str) -> str:
    return (
        f"training has diverged: {what}. Try a smaller learning rate "
        "(--learning-rate), a longer warm-up (--set train.warmup_ratio=0.2), or "
        "--precision float32 where half precision was in use."
    )
