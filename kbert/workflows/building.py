"""From a config and a preset to a model that is ready to train."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras_hub

from kbert.config import TrainSettings
from kbert.encoder import copy_from_keras_hub, freeze, layer_rates
from kbert.files import write_json
from kbert.models import BertEncoder
from kbert.preset_files import read_architecture
from kbert.presets import Preset, load_backbone
from kbert.runs import RunFolder
from kbert.tasks import Task
from kbert.training.compiling import build_schedule, compile_to_train
from kbert.training.optimizer import AdamW, WarmupSchedule

_BYTES_PER_WEIGHT = 4  # float32
_HEAD_DROPOUT = 0.1


@dataclass(frozen=True)
class Trainee:
    """The model in training.

    Attributes:
        model: compiled: features to outputs.
        schedule: the learning rate of an update, by its number counted from 0.
    """

    model: BertEncoder
    task: Task
    schedule: WarmupSchedule

    def save(
        self,
        run: RunFolder,
        preset: Preset,
        max_length: int,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Makes the weights as they are now the run's model, in float32.

        Args:
            metrics: theirs, of the validation part; None where it was not measured.
        """
        tokenizer = keras_hub.models.BertTokenizer(
            list(preset.vocabulary),
            lowercase=preset.lowercase,
            strip_accents=preset.strip_accents,
            name="tokenizer",
        )
        num_bytes = _BYTES_PER_WEIGHT * self.model.count_params()
        with run.writing_model(num_bytes) as folder:
            self.task.save_model(
                self.model, str(folder), tokenizer=tokenizer, max_length=max_length
            )
            if metrics is not None:
                write_json(folder / run.validation_file.name, dict(metrics))


def build_trainee(
    preset: Preset,
    task: Task,
    settings: TrainSettings,
    *,
    dropout: float | None,
    total_steps: int,
) -> Trainee:
    """Loads the preset, puts the task's head on it and compiles it to train.

    Args:
        settings: as resolved, without `auto`.
        dropout: rate of the encoder and the head; None: the preset's.
        total_steps: optimizer updates of the training.

    Raises:
        PresetError: the weights cannot be loaded.
        ConfigError: XLA was asked for and Keras would not use it.
    """
    _, architecture = read_architecture(preset.folder)
    if dropout is not None:
        architecture = replace(architecture, dropout=dropout)
    model = task.build_model(
        architecture,
        head_dropout=_HEAD_DROPOUT if dropout is None else dropout,
        dtype=settings.precision,
    )
    copy_from_keras_hub(load_backbone(preset), model)
    freeze(
        model,
        embeddings=settings.freeze_embeddings,
        num_layers=settings.freeze_layers,
    )
    assert not isinstance(settings.learning_rate, str), "settings are resolved"
    schedule = build_schedule(
        settings.learning_rate,
        warmup_ratio=settings.warmup_ratio,
        warmup_steps=settings.warmup_steps,
        total_steps=total_steps,
        shape=settings.schedule,
    )
    accumulation = settings.gradient_accumulation_steps
    optimizer = AdamW(
        learning_rate=schedule,
        decay=settings.weight_decay,
        rates=layer_rates(model, layer_decay=settings.layer_decay),
        global_clipnorm=settings.clip_norm or None,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    compile_to_train(
        model,
        optimizer,
        loss=task.loss(label_smoothing=settings.label_smoothing),
        precision=settings.precision,
        jit_compile=bool(settings.jit_compile),
        varying_shapes=True,
    )
    return Trainee(model, task, schedule)
