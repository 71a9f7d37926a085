"""What precedes a pretraining: all checks, the cheap ones first, then the text."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import keras

from kbert.config import load_config
from kbert.data.corpus import Corpus
from kbert.data.corpus_paths import is_named
from kbert.data.prepared import Prepared
from kbert.data.preparing import Plan, check_folder
from kbert.data.preparing import prepare as write_prepared
from kbert.errors import ConfigError, RunError
from kbert.new_runs import FreshName, check_output
from kbert.preset_files import Architecture, read_architecture
from kbert.presets import Preset
from kbert.pretrain_settings import PretrainConfig, PretrainDataSettings
from kbert.progress import ProgressLine
from kbert.settings import SharedTrainSettings
from kbert.training.determinism import make_deterministic
from kbert.training.precision import choose
from kbert.workflows.checkpointing import checkpoint_bytes
from kbert.workflows.pretraining.casing import tokenizing_of
from kbert.workflows.pretraining.idle import (
    idle_settings,
    idle_when_preparing,
    is_given,
)
from kbert.workflows.pretraining.job import PretrainJob
from kbert.workflows.pretraining.prepared import preparation_choices
from kbert.workflows.pretraining.reading import (
    Reading,
    build_material,
    build_text_material,
    build_tokenizer,
    build_vocabulary,
    expected_vocabulary_size,
    hold_out_of,
    open_reading,
    trains_vocabulary,
)
from kbert.workflows.pretraining.resolving import NUMBERS, resolve_pretraining
from kbert.workflows.pretraining.sizes import DEFAULT_SIZE, new_architecture
from kbert.workflows.pretraining.text import split_owner, warn_of_broken_text
from kbert.workflows.resuming import Resumption

logger = logging.getLogger(__name__)


def prepare(
    config: PretrainConfig,
    output: Path | None,
    progress: TextIO | None = None,
    resumption: Resumption | None = None,
) -> PretrainJob:
    """Checks the settings, the preset, the output and the text; reads the text once.

    Args:
        output: the run folder; a free `runs/TEXT-MODEL` where none is given.
        progress: where to show how far the reading is; None for nowhere.
        resumption: the run to go on with, in place of `output`.

    Raises:
        UserError: a mistake in any of them; nothing is written.
    """
    if config.train.deterministic:
        make_deterministic()
    keras.utils.set_random_seed(config.train.seed)
    config, reading, preset = open_reading(config)
    _warn_of_idle_settings(config, reading)
    choice = choose(config.train.precision, config.train.jit_compile)
    lowercase, strip_accents = tokenizing_of(config, preset)
    architecture = _architecture(config, preset, expected_vocabulary_size(config))
    name = _default_name(config, reading)
    config = resolve_pretraining(
        config,
        architecture,
        choice,
        lowercase=lowercase,
        strip_accents=strip_accents,
        trains_vocabulary=trains_vocabulary(config, reading),
        has_weights=preset is not None and preset.has_weights,
    )
    kept = with_absolute_paths(config)
    needed_bytes = _run_bytes(architecture, kept.train)
    path: Path | FreshName
    learnt: Path | None = None
    if resumption is not None:
        path = resumption.run.path
        _check_resumption(resumption, kept, needed_bytes)
        if resumption.state is not None:
            learnt = resumption.run.vocabulary_file
    else:
        path = output or FreshName(Path("runs"), name)
        check_output(path, kept, needed_bytes=needed_bytes)
    logger.info("precision: %s", choice)
    held_out = hold_out_of(config, reading)
    vocabulary = build_vocabulary(config, preset, reading, progress, learnt=learnt)
    tokenizer = build_tokenizer(vocabulary)
    architecture = _architecture(config, preset, len(vocabulary.tokens))
    logger.info("model: %s", _summary(architecture))
    material = build_material(config, reading, tokenizer, held_out)
    job = PretrainJob(
        path, kept, preset, choice, architecture, vocabulary, tokenizer, material
    )
    if resumption is not None:
        resumption.check_data(job.data_digest)
    for phase in job.data.phases:
        job.validation(phase.max_length)  # What is wrong with them comes to light now.
    if reading.validation is not None:
        warn_of_broken_text(reading.validation)
    return job


def _run_bytes(architecture: Architecture, settings: SharedTrainSettings) -> int:
    """What a run takes on disk at most: the model, the next beside it, checkpoints."""
    num_parameters = architecture.num_parameters
    return 2 * 4 * num_parameters + checkpoint_bytes(num_parameters, settings)


def _check_resumption(
    resumption: Resumption, config: PretrainConfig, needed_bytes: int
) -> None:
    """Checks the settings of a run that goes on.

    Raises:
        RunError: they would change the steps already made.
    """
    resumption.check(config, needed_bytes=needed_bytes)
    steps = config.train.max_steps
    resumption.check_length(steps)
    was = load_config(PretrainConfig, file=resumption.run.config_file).train.max_steps
    if config.data.short_length is not None and steps != was:
        raise RunError(
            f"The run {resumption.run.path} has phases, whose lengths are shares of "
            f"train.max_steps = {was}: it cannot be changed. Received: {steps}. Start "
            "another run from this one: --preset RUN."
        )


def prepare_only(
    config: PretrainConfig, output: Path | None, progress: TextIO | None = None
) -> Prepared:
    """Makes the examples of a text once, in a folder that `kbert pretrain` takes.

    The same call goes on where an earlier one stopped.

    Args:
        output: the folder; `prepared/TEXT` where none is given.
        progress: where to show how far it is; None for nowhere.

    Raises:
        UserError: a mistake in the settings, the text, the preset or the folder.
        OSError: the disk is full; what is done stays valid.
    """
    config, reading, preset = open_reading(config)
    if reading.prepared is not None:
        given = reading.prepared.folder
        raise ConfigError(
            f"{given} is prepared already. Train on it: kbert pretrain {given}"
        )
    _warn_of_idle_settings(config, reading)
    for sentence in idle_when_preparing(config):
        logger.warning("%s", sentence)
    assert reading.corpus is not None, "it is no prepared folder"
    folder = output or Path("prepared") / reading.name
    check_folder(folder)
    held_out = hold_out_of(config, reading)
    vocabulary = build_vocabulary(config, preset, reading, progress)
    tokenizer = build_tokenizer(vocabulary)
    material = build_text_material(config, reading, tokenizer, held_out)
    data = config.data
    lengths = sorted({data.short_length or data.max_length, data.max_length})
    plan = Plan(
        recipes=[material.recipe(length) for length in lengths],
        seed=config.train.seed,
        keep=material.held_out.keep,
        validation=lambda recipe: material.validation_examples(recipe.max_length),
        choices=preparation_choices(data),
    )
    with _showing_megabytes(reading.corpus, progress) as on_window:
        prepared = write_prepared(
            reading.corpus, material.tokenizer, folder, plan, on_window=on_window
        )
    warn_of_broken_text(*reading.corpora)
    return prepared


def _warn_of_idle_settings(config: PretrainConfig, reading: Reading) -> None:
    for sentence in idle_settings(config, reading.idle):
        logger.warning("%s", sentence)


@contextlib.contextmanager
def _showing_megabytes(
    corpus: Corpus, progress: TextIO | None
) -> Iterator[Callable[[int], None] | None]:
    """What to tell the bytes of each window to."""
    if progress is None:
        yield None
        return
    total = None if corpus.num_bytes is None else corpus.num_bytes // 1_000_000
    done = 0
    with ProgressLine(total, progress, label="preparing", unit="MB") as line:

        def show(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            line.update(done // 1_000_000, 0)

        yield show


def _architecture(
    config: PretrainConfig, preset: Preset | None, vocabulary_size: int
) -> Architecture:
    if preset is None:
        return new_architecture(
            config.model,
            vocabulary_size=vocabulary_size,
            max_length=config.data.max_length,
        )
    _, architecture = read_architecture(preset.folder)
    dropout = config.model.dropout
    if dropout is None:
        return architecture
    return replace(architecture, dropout=dropout)


def with_absolute_paths(config: PretrainConfig) -> PretrainConfig:
    """The config for the run's folder: it shall work from anywhere."""
    data, model = config.data, config.model
    return config.model_copy(
        update={
            "data": data.model_copy(
                update={
                    "sources": [_absolute(source) for source in data.sources],
                    "validation": _absolute_validation(data),
                    "data_dir": data.data_dir and _absolute(data.data_dir),
                }
            ),
            "model": model.model_copy(
                update={
                    "preset": _absolute_if_there(model.preset),
                    "vocabulary": model.vocabulary and _absolute(model.vocabulary),
                }
            ),
        }
    )


def _absolute(source: str) -> str:
    if is_named(source):
        return source
    return os.path.abspath(os.path.expanduser(source))


def _absolute_validation(data: PretrainDataSettings) -> str | None:
    name = data.validation
    if name is None or split_owner(data, name) is not None:
        return name
    return _absolute_if_there(name)


def _absolute_if_there(name: str | None) -> str | None:
    if name is None or name == "sample" or not os.path.exists(os.path.expanduser(name)):
        return name
    return _absolute(name)


def _default_name(config: PretrainConfig, reading: Reading) -> str:
    """`imdb_reviews-mini`, `imdb_reviews-bert_base_en`."""
    preset = config.model.preset
    if preset is not None:
        return f"{reading.name}-{Path(preset.removeprefix('hf://')).name}"
    size = config.model.size or DEFAULT_SIZE
    if config.model.size is None and any(is_given(config.model, n) for n in NUMBERS):
        size = "bert"
    return f"{reading.name}-{size}"


def _summary(a: Architecture) -> str:
    return (
        f"{a.num_layers} layers x {a.hidden_dim}, {a.num_heads} heads, "
        f"{a.vocabulary_size:,} tokens, {a.num_parameters / 1e6:.1f} M weights"
    )
