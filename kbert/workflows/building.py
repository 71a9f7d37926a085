"""From a config and a preset to a model that is ready to train."""

from dataclasses import dataclass

import keras
import keras_hub

from kbert.config import TrainSettings
from kbert.encoder import freeze, layer_rates
from kbert.presets import Preset, load_backbone
from kbert.runs import RunFolder
from kbert.tasks import Task
from kbert.training.compiling import build_schedule, compile_to_train
from kbert.training.optimizer import AdamW, WarmupSchedule

_BYTES_PER_WEIGHT = 4  # float32


@dataclass(frozen=True)
class Trainee:
    """The model in training.

    Attributes:
        model: a compiled plain Keras model: features to outputs.
        task_model: the keras-hub model that shares its layers.
        schedule: the learning rate of an update, by its number counted from 0.
        dropout: the dropout rate of the encoder and the head; None: the preset's.
    """

    model: keras.Model
    task_model: keras.Model
    task: Task
    schedule: WarmupSchedule
    dropout: float | None

    def save(self, run: RunFolder, preset: Preset, max_length: int) -> None:
        """Makes the weights as they are now the run's model, in float32.

        A preset keeps the precision it was saved in, and the one a half-precision
        training ends with would stay with every later user of the run.
        """
        backbone = self.task_model.backbone
        config = {**backbone.get_config(), "dtype": "float32"}
        twin = self.task.build_model(
            keras_hub.models.BertBackbone(**config), dropout=self.dropout
        )
        twin.set_weights(self.task_model.get_weights())
        tokenizer = keras_hub.models.BertTokenizer(
            list(preset.vocabulary),
            lowercase=preset.lowercase,
            strip_accents=preset.strip_accents,
        )
        with run.writing_model(_BYTES_PER_WEIGHT * twin.count_params()) as folder:
            self.task.save_model(
                twin, str(folder), tokenizer=tokenizer, max_length=max_length
            )


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
        total_steps: optimizer updates of the training.

    Raises:
        PresetError: the weights cannot be loaded.
        ConfigError: XLA was asked for and Keras would not use it.
    """
    backbone = load_backbone(preset, dtype=settings.precision, dropout=dropout)
    freeze(
        backbone,
        embeddings=settings.freeze_embeddings,
        num_layers=settings.freeze_layers,
    )
    task_model = task.build_model(backbone, dropout=dropout)
    model = keras.Model(task_model.input, task_model.output)
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
        rates=layer_rates(task_model, layer_decay=settings.layer_decay),
        global_clipnorm=settings.clip_norm or None,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    compile_to_train(
        model,
        optimizer,
        loss=task.loss(label_smoothing=settings.label_smoothing),
        precision=settings.precision,
        jit_compile=bool(settings.jit_compile),
    )
    return Trainee(model, task_model, task, schedule, dropout)
