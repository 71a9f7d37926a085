"""Two steps of a training, to say what the whole would take."""

import time
from dataclasses import dataclass

import keras

from kbert.progress import format_duration
from kbert.training.feeding import Fed
from kbert.training.loop import update
from kbert.workflows.machine import peak_memory

# A forward pass is about a third of a step: the backward pass costs two.
_FORWARD_SHARE = 1 / 3
# The model to be saved, its weights on their way there, the model loaded again.
_MODEL_COPIES = 3


@dataclass(frozen=True)
class Estimate:
    """What a whole training would take.

    Attributes:
        total_steps: optimizer updates.
        tokens_per_second: padding included, as timed on the second step.
        seconds: the training and its evaluations; an estimate.
        memory_bytes: main memory: the peak so far, with the widest batch, and what
            saving and evaluating the model adds.
    """

    total_steps: int
    tokens_per_second: float
    seconds: float
    memory_bytes: int

    def summary(self) -> str:
        """The estimate in one line."""
        return (
            f"dry run: {self.total_steps:,} steps at {self.tokens_per_second:,.0f} "
            f"tokens/s would take about {format_duration(self.seconds)} and "
            f"{self.memory_bytes / 1e9:.1f} GB of memory; nothing was written"
        )


def rehearse(
    model: keras.Model,
    batches: list[Fed],
    *,
    total_steps: int,
    train_tokens: int,
    evaluated_tokens: int,
) -> Estimate:
    """Runs two updates; the first traces, the second is timed.

    Args:
        batches: the widest update of the training.
        train_tokens: tokens of all updates together, padding included.
        evaluated_tokens: tokens of all evaluations together.
    """
    update(model, batches, 1)
    start = time.monotonic()
    update(model, batches, 2)
    seconds = time.monotonic() - start
    speed = sum(batch.features["token_ids"].size for batch in batches) / seconds
    copies = _MODEL_COPIES * sum(weight.size for weight in model.get_weights()) * 4
    return Estimate(
        total_steps=total_steps,
        tokens_per_second=speed,
        seconds=(train_tokens + evaluated_tokens * _FORWARD_SHARE) / speed,
        memory_bytes=peak_memory() + copies,
    )
