"""LAMB, for batches of thousands of examples."""

from typing import Any

import keras
from keras import ops

from kbert.training.optimizer import AdamW

# Biases and LayerNorm's two vectors. A list of its own, beside that of what is not
# decayed, as in google-research/albert: without any decay the ratio still counts.
_NOT_ADAPTED = ("bias", "gamma", "beta")


@keras.saving.register_keras_serializable(package="kbert")
class Lamb(AdamW):
    """AdamW with steps in proportion to the weights.

    You et al. 2020, arXiv 1904.00962, algorithm 2. With r, Adam's direction plus the
    decay of the weights w, a step is the rate x |w| / |r| x r; the ratio is 1 where
    either norm is 0. It is left out, as the decay is, for biases and LayerNorm.

    Arguments as `AdamW`.
    """

    def build(self, var_list):  # type: ignore[no-untyped-def]
        self._is_adapted = [v.name not in _NOT_ADAPTED for v in var_list]
        super().build(var_list)

    def update_step(self, gradient, variable, learning_rate):  # type: ignore[no-untyped-def]
        index = self._get_variable_index(variable)
        if self.schedule is not None:
            # By update, as in AdamW.
            learning_rate = self.schedule(self.iterations)
        rate = ops.cast(learning_rate * self._rate_of[index], variable.dtype)
        step = self._adam_direction(ops.cast(gradient, variable.dtype), index)
        if self._decay_of[index]:
            step = step + self._decay_of[index] * variable
        if self._is_adapted[index]:
            step = _trust_ratio(variable, step) * step
        self.assign_sub(variable, rate * step)

    def _adam_direction(self, gradient: Any, index: int) -> Any:
        """The mean of the gradients over the root of their mean square, unbiased."""
        mean, square = self._momentums[index], self._velocities[index]
        self.assign_add(mean, (1.0 - self.beta_1) * (gradient - mean))
        self.assign_add(square, (1.0 - self.beta_2) * (ops.square(gradient) - square))
        count = ops.cast(self.iterations + 1, gradient.dtype)
        mean_bias = 1.0 - ops.power(ops.cast(self.beta_1, gradient.dtype), count)
        square_bias = 1.0 - ops.power(ops.cast(self.beta_2, gradient.dtype), count)
        return mean / mean_bias / (ops.sqrt(square / square_bias) + self.epsilon)


def _trust_ratio(weights: Any, step: Any) -> Any:
    """|weights| / |step|, a scalar; 1 where one of them is 0."""
    weights_norm = ops.sqrt(ops.sum(ops.square(weights)))
    step_norm = ops.sqrt(ops.sum(ops.square(step)))
    is_defined = ops.logical_and(weights_norm > 0.0, step_norm > 0.0)
    # The division must be defined where its result is not used, too.
    divisor = ops.where(is_defined, step_norm, 1.0)
    return ops.where(is_defined, weights_norm / divisor, 1.0)
