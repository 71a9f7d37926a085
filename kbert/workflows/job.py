"""What precedes the model: all checks, the cheap ones first, then the data."""

import logging
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import keras

from kbert.config import FinetuneConfig, TrainSettings
from kbert.data.batching import Batching, choose_widths, padding_share
from kbert.data.encoded import Encoder
from kbert.new_runs import FreshName, check_output
from kbert.preset_files import read_architecture
from kbert.presets import Preset, resolve_preset
from kbert.runs import RunFolder
from kbert.tasks import Task, TextClassification
from kbert.training.checkpoints import digest_of
from kbert.training.determinism import make_deterministic
from kbert.training.labelled_data import LabelledData
from kbert.training.loop import Plan
from kbert.training.precision import Choice, choose
from kbert.workflows.building import Trainee, build_trainee
from kbert.workflows.checkpointing import checkpoint_bytes
from kbert.workflows.datasets import (
    Datasets,
    Sources,
    encode_datasets,
    keep_datasets,
    open_sources,
    with_absolute_paths,
)
from kbert.workflows.idle import idle_settings, idle_steps
from kbert.workflows.predictor import build_encoder
from kbert.workflows.resolving import resolve_config
from kbert.workflows.resuming import Resumption

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A fine-tuning whose checks have passed and whose data are read.

    Attributes:
        path: where the run will be made.
        config: the settings as the run keeps them: resolved, and with local files and
            folders named from the root.
    """

    path: Path | FreshName
    config: FinetuneConfig
    preset: Preset
    choice: Choice
    sources: Sources
    encoder: Encoder
    datasets: Datasets
    task: Task
    data: LabelledData

    @cached_property
    def plan(self) -> Plan:
        """How long to train and when to evaluate."""
        settings = self.config.train
        assert not isinstance(settings.epochs, str), "settings are resolved"
        steps = settings.epochs * self.data.steps_per_epoch
        return Plan(
            total_steps=min(steps, settings.max_steps or steps),
            eval_steps=settings.eval_steps or self.data.steps_per_epoch,
            metric=settings.best_metric,
            patience=settings.patience,
            on_nonfinite=settings.on_nonfinite,
        )

    @cached_property
    def data_digest(self) -> str:
        """Tells whether what is trained and measured on is what it was."""
        fingerprints = [
            f"{split} {dataset.report.fingerprint}"
            for split, dataset in self.datasets.by_split().items()
        ]
        return digest_of(*fingerprints, *self.preset.vocabulary)

    def describe_task(self) -> dict[str, Any]:
        """What `task.json` says: all that a later command needs beside the model."""
        columns = self.sources.train.columns
        tokenizer = self.encoder.tokenizer
        return {
            **self.task.to_dict(),
            "columns": {
                "text": columns.text,
                "text_pair": columns.text_pair,
                "label": columns.label,
            },
            "is_paired": columns.text_pair is not None,
            "max_length": self.encoder.max_length,
            "truncation": self.encoder.truncation,
            "lowercase": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
        }

    def describe_data(self) -> dict[str, Any]:
        """Size and fingerprint of each split that was read."""
        return {
            split: {"name": dataset.name, "num_examples": len(dataset)}
            | {"source": asdict(dataset.report)}
            for split, dataset in self.datasets.by_split().items()
        }

    def keep_data(self, run: RunFolder) -> None:
        """Keeps in a run what was read of the data, so that `--resume` need not."""
        needed_bytes = _run_bytes(self.preset, self.config.train)
        keep_datasets(
            self.datasets,
            run.encoded_folder,
            needed_bytes=max(0, needed_bytes - run.num_bytes_of_weights()),
        )

    def build(self) -> Trainee:
        """The model, compiled to train."""
        return build_trainee(
            self.preset,
            self.task,
            self.config.train,
            dropout=self.config.model.dropout,
            total_steps=self.plan.total_steps,
        )


def prepare(
    config: FinetuneConfig,
    output: Path | None,
    progress: TextIO | None = None,
    resumption: Resumption | None = None,
) -> Job:
    """Checks the settings, the preset, the output and the data, and reads them.

    Args:
        output: the run folder; a free `runs/DATA-PRESET` where none is given.
        progress: where to show how far the reading is; None for nowhere.
        resumption: the run to go on with, in place of `output`.

    Raises:
        UserError: a mistake in any of them; nothing is written.
    """
    task_class = TextClassification
    if config.train.deterministic:
        make_deterministic()
    keras.utils.set_random_seed(config.train.seed)
    preset = resolve_preset(
        config.model.preset,
        lowercase=config.model.lowercase,
        strip_accents=config.model.strip_accents,
    )
    choice = choose(config.train.precision, config.train.jit_compile)
    config = resolve_config(config, preset, choice, task_class)
    kept = _with_absolute_paths(config, preset)
    needed_bytes = _run_bytes(preset, kept.train)
    path: Path | FreshName
    if resumption is not None:
        path = resumption.run.path
        resumption.check(kept, needed_bytes=needed_bytes)
    else:
        path = output or FreshName(Path("runs"), _default_name(kept))
        check_output(path, kept, needed_bytes=needed_bytes)
    # Read under the names that were given: messages repeat them.
    sources = open_sources(config.data)
    for sentence in idle_settings(config, sources):
        logger.warning("%s", sentence)
    logger.info("preset: %s", _summary(preset))
    logger.info("precision: %s", choice)
    assert config.data.max_length is not None, "settings are resolved"
    encoder = build_encoder(
        preset, max_length=config.data.max_length, truncation=config.data.truncation
    )
    datasets = encode_datasets(
        sources,
        encoder,
        config.data,
        seed=config.train.seed,
        encoded_folder=None if resumption is None else resumption.run.encoded_folder,
        progress=progress,
    )
    task = task_class.learn(datasets.train, sources.train.label_names)
    task.check_metric(config.train.best_metric, task.targets(datasets.validation))
    for dataset in datasets.by_split().values():
        task.targets(dataset)  # A label that training never saw ends it here.
    data = _training_data(config, datasets, task, encoder)
    job = Job(path, kept, preset, choice, sources, encoder, datasets, task, data)
    if resumption is not None:
        resumption.check_data(job.data_digest)
        resumption.check_length(job.plan.total_steps)
    for sentence in idle_steps(config.train, job.plan, data.steps_per_epoch):
        logger.warning("%s", sentence)
    return job


def _with_absolute_paths(config: FinetuneConfig, preset: Preset) -> FinetuneConfig:
    """The config for the run's folder: it shall work from anywhere."""
    folder = os.path.abspath(os.path.expanduser(preset.name))
    # A run's preset is the folder `model` in it.
    is_local = os.path.abspath(preset.folder) in (folder, os.path.join(folder, "model"))
    model = config.model.model_copy(update={"preset": folder} if is_local else {})
    return config.model_copy(
        update={"model": model, "data": with_absolute_paths(config.data)}
    )


def _training_data(
    config: FinetuneConfig, datasets: Datasets, task: Task, encoder: Encoder
) -> LabelledData:
    settings = config.train
    batching = Batching(
        encoder.max_length,
        batch_size=settings.batch_size,
        tokens_per_batch=settings.tokens_per_batch,
        accumulation=settings.gradient_accumulation_steps,
        chosen_widths=choose_widths(datasets.train.lengths, encoder.max_length),
    )
    targets = task.targets(datasets.train)
    data = LabelledData(
        dataset=datasets.train,
        targets=targets,
        weights=task.example_weights(targets, settings.class_weights),
        batching=batching,
        pad_id=encoder.tokenizer.pad_id,
        seed=settings.seed,
    )
    lengths = datasets.train.lengths
    logger.info(
        "%s steps an epoch, %.1f%% padding",
        f"{data.steps_per_epoch:,}",
        100 * padding_share(lengths, batching.groups(lengths, seed=settings.seed)),
    )
    return data


def _default_name(config: FinetuneConfig) -> str:
    """`imdb_reviews-bert_base_en`; `sample` where both are the embedded ones."""
    source = config.data.source.removeprefix("tfds:").partition("/")[0]
    if not config.data.source.startswith("tfds:"):
        source = Path(config.data.source).name.partition(".")[0]
    preset = Path(config.model.preset.removeprefix("hf://")).name
    return source if source == preset else f"{source}-{preset}"


def _run_bytes(preset: Preset, settings: TrainSettings) -> int:
    """What a run takes on disk at most: the best model, the next beside it, and the
    checkpoints.
    """
    # In float32, whatever the preset's own weights are stored in.
    num_parameters = read_architecture(preset.folder)[1].num_parameters
    return 2 * 4 * num_parameters + checkpoint_bytes(num_parameters, settings)


def _summary(preset: Preset) -> str:
    case = "uncased" if preset.lowercase else "cased"
    weights = "" if preset.has_weights else ", random weights"
    return (
        f"{preset.name}, {preset.num_layers} layers x {preset.hidden_dim}, {case}, "
        f"{len(preset.vocabulary):,} tokens{weights}"
    )
