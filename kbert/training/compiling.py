"""From a model and settings to one that Keras will train."""

from typing import Any

import keras

from kbert.errors import ConfigError
from kbert.training.optimizer import WarmupSchedule
from kbert.training.tracing import trace_for_any_shape, trace_for_each_shape


def build_schedule(
    learning_rate: float,
    *,
    warmup_ratio: float,
    warmup_steps: int | None,
    total_steps: int,
    shape: str,
) -> WarmupSchedule:
    """The learning rate over the steps.

    Args:
        learning_rate: the peak.
        warmup_ratio: share of the steps until the peak.
        warmup_steps: their number, which goes before the share; None: not set.
        total_steps: updates of the training.
        shape: of the fall; see `WarmupSchedule`.
    """
    if warmup_steps is None:
        warmup_steps = round(warmup_ratio * total_steps)
    return WarmupSchedule(
        learning_rate, warmup_steps=warmup_steps, total_steps=total_steps, shape=shape
    )


def compile_to_train(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    loss: Any,
    loss_weights: dict[str, float] | None = None,
    precision: str,
    jit_compile: bool,
    varying_shapes: bool = False,
) -> None:
    """Compiles a model for `kbert.training.loop`.

    Args:
        loss: as Keras takes it; by output where there are several.
        precision: a Keras dtype policy: the model's.
        jit_compile: whether XLA compiles the step.
        varying_shapes: whether batches have several shapes; without XLA, TensorFlow
            then traces one step for all of them.

    Raises:
        ConfigError: XLA was asked for and Keras would not use it.
    """
    if precision == "mixed_float16":
        # Keras would do so by itself for a model whose own policy it is.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer=optimizer,
        loss=loss,
        loss_weights=loss_weights,
        jit_compile=jit_compile,
    )
    if jit_compile and not model.jit_compile:
        raise ConfigError(
            "train.jit_compile is true, and Keras cannot compile this model with XLA "
            "on this machine. Set train.jit_compile=false."
        )
    # Within the step, TensorFlow would trace it twice for the variables that it makes.
    model.optimizer.build(model.trainable_variables)
    if varying_shapes:
        trace_for_any_shape(model)
    else:
        trace_for_each_shape(model)
