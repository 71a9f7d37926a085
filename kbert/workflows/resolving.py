"""Settings that depend on the preset or the machine, made definite.

A run keeps the settings as resolved here, so that its `config.toml` says what
was done and not what was left open.
"""

import difflib
import logging

from kbert.config import FinetuneConfig
from kbert.errors import ConfigError
from kbert.presets import Preset
from kbert.tasks import Task
from kbert.training.optimizer import choose_learning_rate
from kbert.training.precision import Choice

logger = logging.getLogger(__name__)

DEFAULT_MAX_LENGTH = 256
# A random encoder has everything to learn from the user's examples.
EPOCHS_PRETRAINED, EPOCHS_RANDOM = 3, 12


def resolve_config(
    config: FinetuneConfig, preset: Preset, choice: Choice, task_class: type[Task]
) -> FinetuneConfig:
    """The same settings with every `auto` and every open default decided.

    Raises:
        ConfigError: a setting does not fit the preset or the task.
    """
    data = config.data.model_copy(update={"max_length": _max_length(config, preset)})
    train = config.train.model_copy(
        update={
            "epochs": _epochs(config, preset),
            "learning_rate": _learning_rate(config, preset),
            "precision": choice.precision,
            "jit_compile": choice.jit_compile,
            "best_metric": _best_metric(config, task_class),
        }
    )
    if config.train.freeze_layers > preset.num_layers:
        raise ConfigError(
            f"train.freeze_layers must be at most {preset.num_layers}, the layers of "
            f"{preset.name}. Received: {config.train.freeze_layers}."
        )
    check_accumulation(choice, train.gradient_accumulation_steps)
    if preset.name == "sample" and config.data.source != "sample":
        logger.warning(
            "the embedded `sample` model starts from random weights and a small "
            "vocabulary: good for a try, not for use. Give a pretrained one, such as "
            "--preset bert_base_en; `kbert presets` lists them."
        )
    return config.model_copy(update={"data": data, "train": train})


def check_accumulation(choice: Choice, num_batches: int) -> None:
    """Checks that gradients may be accumulated in a precision.

    Raises:
        ConfigError: they may not in float16.
    """
    if choice.precision == "mixed_float16" and num_batches > 1:
        raise ConfigError(
            "train.gradient_accumulation_steps must be 1 with mixed_float16: a batch "
            "whose gradients overflow is left out, and would shift the batches of all "
            f"later updates. Received: {num_batches}. Set --precision float32."
        )


def _max_length(config: FinetuneConfig, preset: Preset) -> int:
    limit = preset.max_sequence_length
    if config.data.max_length is None:
        return min(DEFAULT_MAX_LENGTH, limit)
    if config.data.max_length > limit:
        raise ConfigError(
            f"data.max_length must be at most {limit}, the positions of "
            f"{preset.name}. Received: {config.data.max_length}. Lower --max-length; "
            "data.truncation chooses which part of a longer text is kept."
        )
    return config.data.max_length


def _epochs(config: FinetuneConfig, preset: Preset) -> int:
    if config.train.epochs != "auto":
        return config.train.epochs
    return EPOCHS_PRETRAINED if preset.has_weights else EPOCHS_RANDOM


def _learning_rate(config: FinetuneConfig, preset: Preset) -> float:
    if config.train.learning_rate != "auto":
        return config.train.learning_rate
    return choose_learning_rate(preset.hidden_dim, pretrained=preset.has_weights)


def _best_metric(config: FinetuneConfig, task_class: type[Task]) -> str:
    name = config.train.best_metric
    if name == "auto":
        return task_class.default_metric
    names = task_class.metric_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"train.best_metric must be one of {', '.join(names)}. "
            f"Received: {name}.{hint}"
        )
    return name
