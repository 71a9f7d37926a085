"""The optimizer: AdamW as BERT uses it, and the learning rate over the steps."""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from kbert.training.fused_adam import apply_adam, has_fused_adam, sum_of_squares

# Biases and LayerNorm's two vectors are not decayed (Devlin et al. 2019, as
# published in the original optimizer).
_NOT_DECAYED = ("bias", "gamma", "beta")


@keras.saving.register_keras_serializable(package="kbert")
class WarmupSchedule(LearningRateSchedule):
    """Rises linearly to the peak, then falls to zero at `total_steps`.

    Args:
        peak: the highest learning rate.
        warmup_steps: updates until the peak.
        total_steps: updates of the whole training.
        shape: `linear`, `cosine`, or `constant` for no fall.
    """

    def __init__(
        self, peak: float, *, warmup_steps: int, total_steps: int, shape: str
    ) -> None:
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.shape = shape

    def __call__(self, step):  # type: ignore[no-untyped-def]
        """The rate of update `step`, counted from 0."""
        step = ops.cast(step, "float32")
        # The first update already moves: a rate of zero would waste it.
        rise = (step + 1.0) / float(max(1, self.warmup_steps))
        falling = float(max(1, self.total_steps - self.warmup_steps))
        progress = ops.clip((step - self.warmup_steps) / falling, 0.0, 1.0)
        if self.shape == "linear":
            fall = 1.0 - progress
        elif self.shape == "cosine":
            fall = 0.5 * (1.0 + ops.cos(math.pi * progress))
        else:
            fall = ops.ones_like(progress)
        return self.peak * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "shape": self.shape,
        }


@keras.saving.register_keras_serializable(package="kbert")
class AdamW(keras.optimizers.Adam):
    """Adam with decoupled weight decay and a learning rate per variable.

    Weight decay (Loshchilov & Hutter 2019) leaves out biases and LayerNorm, and
    follows the variable's own learning rate. A schedule counts updates, also where
    gradients of several batches are accumulated for one. Where a gradient is no finite
    number nothing is updated, and `num_skipped` counts it.

    Args:
        learning_rate: a rate or a schedule.
        decay: the weight decay rate.
        rates: factors on the learning rate by variable path; 1 where absent.
        epsilon: what is added to the root of the mean square.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        *,
        decay: float = 0.01,
        rates: Mapping[str, float] | None = None,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)
        self.schedule = (
            learning_rate if isinstance(learning_rate, LearningRateSchedule) else None
        )
        self.decay = decay
        self.rates = dict(rates or {})

    def build(self, var_list):  # type: ignore[no-untyped-def]
        # By index: a backend may hand `update_step` its own variable, unnamed.
        self._rate_of = [self.rates.get(v.path, 1.0) for v in var_list]
        self._decay_of = [
            0.0 if v.name in _NOT_DECAYED else self.decay for v in var_list
        ]
        super().build(var_list)
        self.num_skipped = self.add_variable(
            shape=(), initializer="zeros", dtype="int32", name="num_skipped"
        )

    def update_step(self, gradient, variable, learning_rate):  # type: ignore[no-untyped-def]
        index = self._get_variable_index(variable)
        if self.schedule is not None:
            # Keras has asked it by batch: with accumulation it would be over after
            # a fraction of the training.
            learning_rate = self.schedule(self.iterations)
        rate = learning_rate * self._rate_of[index]
        if self._decay_of[index]:
            kept = ops.cast(1.0 - rate * self._decay_of[index], variable.dtype)
            self.assign(variable, ops.multiply(variable, kept))
        if self.amsgrad or not has_fused_adam():
            super().update_step(gradient, variable, rate)
            return
        apply_adam(
            variable,
            self._momentums[index],
            self._velocities[index],
            gradient,
            step=self.iterations + 1,
            learning_rate=rate,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    def _clip_gradients(self, grads):  # type: ignore[no-untyped-def]
        # A table's rows are made a whole table once, and not by every use of them.
        dense = [None if g is None else ops.convert_to_tensor(g) for g in grads]
        norm = ops.sqrt(sum(sum_of_squares(g) for g in dense if g is not None))
        self._is_finite = ops.isfinite(norm)
        self.num_skipped.assign_add(1 - ops.cast(self._is_finite, "int32"))
        if not self.global_clipnorm:
            return super()._clip_gradients(dense)
        factor = self.global_clipnorm / ops.maximum(norm, self.global_clipnorm)
        return [None if g is None else g * ops.cast(factor, g.dtype) for g in dense]

    def _backend_update_step(self, grads, trainable_variables, learning_rate):  # type: ignore[no-untyped-def]
        def update():  # type: ignore[no-untyped-def]
            super(AdamW, self)._backend_update_step(
                grads, trainable_variables, learning_rate
            )

        if keras.backend.backend() == "tensorflow":
            ops.cond(self._is_finite, update, lambda: None)
        else:
            update()

    # On other backends a branch must not assign: each assignment chooses instead.

    def assign(self, variable, value):  # type: ignore[no-untyped-def]
        super().assign(variable, self._if_finite(value, variable))

    def assign_add(self, variable, value):  # type: ignore[no-untyped-def]
        super().assign_add(variable, self._if_finite(value, 0.0))

    def assign_sub(self, variable, value):  # type: ignore[no-untyped-def]
        super().assign_sub(variable, self._if_finite(value, 0.0))

    def _if_finite(self, value, otherwise):  # type: ignore[no-untyped-def]
        if keras.backend.backend() == "tensorflow":
            return value
        otherwise = ops.convert_to_tensor(otherwise, value.dtype)
        return ops.where(self._is_finite, value, otherwise)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"decay": self.decay, "rates": self.rates}


def choose_learning_rate(hidden_dim: int, *, pretrained: bool) -> float:
    """The peak rate where none is set: small encoders bear larger steps.

    For 768 and wider the rates that Devlin et al. (2019, appendix A.3) recommend;
    for narrower encoders the range that google-research/bert names for its small
    models, 3e-5 to 3e-4.
    """
    if not pretrained:
        return 1e-3
    if hidden_dim >= 1024:
        return 2e-5
    if hidden_dim >= 768:
        return 3e-5
    if hidden_dim >= 256:
        return 1e-4
    return 3e-4
