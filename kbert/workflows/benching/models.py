"""The work of `kbert finetune` and `kbert predict`, on random tokens.

Models, optimizer, batches and updates come from the functions that train and predict:
what is measured is what those commands do.
"""

import itertools
import time

import keras

from kbert.data.batching import Batching
from kbert.encoder import copy_from_keras_hub
from kbert.errors import ConfigError
from kbert.preset_files import read_architecture
from kbert.presets import Preset, load_backbone, resolve_preset
from kbert.settings import FinetuneConfig
from kbert.tasks import TextClassification
from kbert.training.labelled_data import LabelledData
from kbert.training.loop import update
from kbert.training.precision import Choice, choose
from kbert.training.prediction import predict_outputs
from kbert.training.tracing import trace_for_any_shape
from kbert.workflows.applying import check_precision
from kbert.workflows.benching.operations import forward_operations, training_operations
from kbert.workflows.benching.rows import LABELS, random_dataset
from kbert.workflows.benching.speed import Workload
from kbert.workflows.building import build_trainee
from kbert.workflows.resolving import resolve_config

DEFAULT_LENGTH = 128
# So that a step does not find the embeddings of the last one in a cache.
NUM_BATCHES = 8


def row_length(length: int | None, preset: Preset) -> int:
    """The tokens of a row: those asked for, or 128, or as many as the preset takes.

    Raises:
        ConfigError: more are asked for than the preset has positions.
    """
    limit = preset.max_sequence_length
    if length is None:
        return min(DEFAULT_LENGTH, limit)
    if length > limit:
        raise ConfigError(
            f"--length must be at most {limit}, the positions of {preset.name}. "
            f"Received: {length}."
        )
    return length


def finetuning(config: FinetuneConfig, *, num_steps: int) -> Workload:
    """Updates of a classifier of two classes, each with the laying out of its batch.

    Args:
        config: `model.preset`, `data.max_length`, `train.batch_size` and
            `train.precision` count.
        num_steps: how often the step will be done.

    Raises:
        UserError: a setting does not fit the preset, or the preset cannot be used.
    """
    keras.utils.set_random_seed(config.train.seed)
    preset = resolve_preset(config.model.preset)
    length = row_length(config.data.max_length, preset)
    choice = choose(config.train.precision, config.train.jit_compile)
    settings = resolve_config(config, preset, choice, TextClassification).train
    task = TextClassification(LABELS)
    start = time.perf_counter()
    trainee = build_trainee(
        preset, task, settings, dropout=config.model.dropout, total_steps=num_steps
    )
    build_seconds = time.perf_counter() - start
    batch_size = settings.batch_size
    dataset = random_dataset(preset.vocabulary, NUM_BATCHES * batch_size, length)
    targets = task.targets(dataset)
    data = LabelledData(
        dataset,
        targets,
        task.example_weights(targets, settings.class_weights),
        Batching(length, batch_size=batch_size),
        pad_id=0,  # No row has padding.
        seed=settings.seed,
    )
    updates, numbers = data.updates(num_steps), itertools.count(1)
    _, architecture = read_architecture(preset.folder)
    return Workload(
        kind="finetune",
        model=preset.name,
        architecture=architecture,
        batch_size=batch_size,
        length=length,
        choice=choice,
        operations=training_operations(
            forward_operations(architecture, batch_size, length, num_wanted=1)
        ),
        build_seconds=build_seconds,
        step=lambda: update(trainee.model, next(updates).batches, next(numbers)),
    )


def predicting(config: FinetuneConfig) -> Workload:
    """Forward passes of a classifier, from encoded texts to its outputs.

    Args:
        config: as of `finetuning`; `train.precision` is float32, mixed_bfloat16 or
            mixed_float16, as `kbert predict` takes it.

    Raises:
        UserError: a setting does not fit the preset, or the preset cannot be used.
    """
    keras.utils.set_random_seed(config.train.seed)
    precision = check_precision(config.train.precision)
    preset = resolve_preset(config.model.preset)
    length = row_length(config.data.max_length, preset)
    _, architecture = read_architecture(preset.folder)
    start = time.perf_counter()
    model = TextClassification(LABELS).build_model(
        architecture, head_dropout=architecture.dropout, dtype=precision
    )
    copy_from_keras_hub(load_backbone(preset), model)
    trace_for_any_shape(model)
    build_seconds = time.perf_counter() - start
    batch_size = config.train.batch_size
    dataset = random_dataset(preset.vocabulary, batch_size, length)
    batching = Batching(length, batch_size=batch_size)
    return Workload(
        kind="predict",
        model=preset.name,
        architecture=architecture,
        batch_size=batch_size,
        length=length,
        # What Keras decides by itself for a model that is not compiled.
        choice=Choice(precision, bool(model.jit_compile), "as kbert predict"),
        operations=forward_operations(architecture, batch_size, length, num_wanted=1),
        build_seconds=build_seconds,
        step=lambda: predict_outputs(model, dataset, batching, pad_id=0),
    )
