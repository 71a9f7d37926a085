"""What precedes a pretraining: all checks, the cheap ones first, then the text."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import keras

from kbert.data.corpus import Corpus
from kbert.data.prepared import MANIFEST, Prepared, open_prepared
from kbert.data.preparing import Plan
from kbert.data.preparing import prepare as write_prepared
from kbert.errors import ConfigError
from kbert.new_runs import FreshName, check_output
from kbert.preset_files import Architecture, read_architecture
from kbert.presets import Preset, resolve_preset
from kbert.pretrain_settings import PretrainConfig, PretrainModelSettings
from kbert.progress import ProgressLine
from kbert.tokenization import WordPieceTokenizer
from kbert.training.precision import choose
from kbert.vocabulary import read_vocabulary
from kbert.workflows.pretraining_job import PretrainJob
from kbert.workflows.pretraining_material import (
    Material,
    PreparedMaterial,
    TextMaterial,
)
from kbert.workflows.pretraining_model import Vocabulary
from kbert.workflows.pretraining_resolving import (
    DEFAULT_VOCABULARY_SIZE,
    adopt_prepared,
    check_preset,
    check_same_vocabulary,
    check_settings,
    idle_settings,
    resolve_pretraining,
)
from kbert.workflows.pretraining_text import (
    draw_held_out,
    learn_vocabulary,
    open_text,
    open_validation,
)
from kbert.workflows.sizes import new_architecture

logger = logging.getLogger(__name__)

_BYTES_OF_A_RUN = 2 * 4  # the model and the next beside it, in float32


@dataclass(frozen=True)
class _Reading:
    """The text that is trained on, opened.

    Attributes:
        name: short, for the name of a run.
        prepared: the folder, where it is a prepared one.
        corpus: the text, where it is not.
        validation: held-out text of its own.
    """

    name: str
    prepared: Prepared | None = None
    corpus: Corpus | None = None
    validation: Corpus | None = None


def prepare(
    config: PretrainConfig, output: Path | None, progress: TextIO | None = None
) -> PretrainJob:
    """Checks the settings, the preset, the output and the text; reads the text once.

    Args:
        output: the run folder; a free `runs/TEXT-MODEL` where none is given.
        progress: where to show how far the reading is; None for nowhere.

    Raises:
        UserError: a mistake in any of them; nothing is written.
    """
    keras.utils.set_random_seed(config.train.seed)
    config, reading, preset = _open(config)
    choice = choose(config.train.precision, config.train.jit_compile)
    lowercase, strip_accents = _tokenizing(config, preset)
    architecture = _architecture(config, preset, _expected_size(config))
    config = resolve_pretraining(
        config,
        architecture,
        choice,
        lowercase=lowercase,
        strip_accents=strip_accents,
    )
    path = output or FreshName(Path("runs"), _default_name(config, reading))
    kept = with_absolute_paths(config)
    check_output(path, kept, needed_bytes=_BYTES_OF_A_RUN * architecture.num_parameters)
    logger.info("precision: %s", choice)
    vocabulary = _vocabulary(
        config, preset, reading, lowercase, strip_accents, progress
    )
    tokenizer = _tokenizer(vocabulary)
    architecture = _architecture(config, preset, len(vocabulary.tokens))
    logger.info("model: %s", _summary(architecture))
    material = _material(config, reading, tokenizer)
    return PretrainJob(
        path, kept, preset, choice, architecture, vocabulary, tokenizer, material
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
    config, reading, preset = _open(config)
    if reading.corpus is None:
        raise ConfigError(
            f"{reading.name} is prepared already. Train on it: kbert pretrain "
            f"{reading.name}"
        )
    folder = output or Path("prepared") / reading.name
    lowercase, strip_accents = _tokenizing(config, preset)
    vocabulary = _vocabulary(
        config, preset, reading, lowercase, strip_accents, progress
    )
    material = _text_material(config, reading.corpus, reading, _tokenizer(vocabulary))
    data = config.data
    lengths = sorted({data.short_length or data.max_length, data.max_length})
    plan = Plan(
        recipes=[material.recipe(length) for length in lengths],
        seed=config.train.seed,
        keep=material.held_out.keep,
        validation=lambda recipe: material.validation_examples(recipe.max_length),
        choices={
            "document": data.document,
            "text": data.text,
            "train_split": data.train_split,
            "encoding_errors": data.encoding_errors,
            "limit": data.limit,
            "validation": data.validation,
            "validation_share": data.validation_share,
        },
    )
    with _showing_megabytes(reading.corpus, progress) as on_window:
        return write_prepared(
            reading.corpus, material.tokenizer, folder, plan, on_window=on_window
        )


def own_material(config: PretrainConfig, tokenizer: WordPieceTokenizer) -> Material:
    """What a run was trained on, opened again with its settings.

    Raises:
        UserError: the text is not there any more, or has changed too much.
    """
    _, reading, _ = _open(config.model_copy(update={"model": PretrainModelSettings()}))
    return _material(config, reading, tokenizer)


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


def _open(config: PretrainConfig) -> tuple[PretrainConfig, _Reading, Preset | None]:
    """The text and the preset, checked against the settings."""
    prepared = _find_prepared(config)
    if prepared is not None:
        config = adopt_prepared(config, prepared)
    check_settings(config)
    for sentence in idle_settings(config):
        logger.warning("%s", sentence)
    preset = _resolve_preset(config)
    if prepared is not None:
        return config, _Reading(prepared.folder.name, prepared), preset
    corpus = open_text(config.data)
    validation = open_validation(config.data)
    return config, _Reading(corpus.name, None, corpus, validation), preset


def _find_prepared(config: PretrainConfig) -> Prepared | None:
    """The prepared folder that is trained on; None where it is text.

    Raises:
        ConfigError: a prepared folder among other sources.
        DataError: it is damaged, or not complete.
    """
    sources = config.data.sources
    folders = [
        folder
        for folder in map(os.path.expanduser, sources)
        if os.path.isfile(os.path.join(folder, MANIFEST))
    ]
    if not folders:
        return None
    if len(sources) > 1:
        raise ConfigError(
            f"{folders[0]} is a prepared folder, which is trained on alone. Received "
            f"{len(sources)} sources. Prepare all the text together."
        )
    return open_prepared(folders[0])


def _resolve_preset(config: PretrainConfig) -> Preset | None:
    model = config.model
    if model.preset is None:
        return None
    preset = resolve_preset(
        model.preset, lowercase=model.lowercase, strip_accents=model.strip_accents
    )
    check_preset(config, preset)
    if model.vocabulary is not None:
        given = read_vocabulary(model.vocabulary)
        check_same_vocabulary(preset.vocabulary, given, f"the preset {preset.name}")
    return preset


def _tokenizing(config: PretrainConfig, preset: Preset | None) -> tuple[bool, bool]:
    """Whether text is lower-cased, and whether accents are stripped."""
    if preset is not None:
        return preset.lowercase, preset.strip_accents
    model = config.model
    lowercase = True if model.lowercase is None else model.lowercase
    return lowercase, lowercase if model.strip_accents is None else model.strip_accents


def _expected_size(config: PretrainConfig) -> int:
    return config.model.vocabulary_size or DEFAULT_VOCABULARY_SIZE


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


def _vocabulary(
    config: PretrainConfig,
    preset: Preset | None,
    reading: _Reading,
    lowercase: bool,
    strip_accents: bool,
    progress: TextIO | None,
) -> Vocabulary:
    if preset is not None:
        tokens = preset.vocabulary
    elif config.model.vocabulary is not None:
        tokens = read_vocabulary(config.model.vocabulary)
    elif reading.prepared is not None:
        tokens = reading.prepared.vocabulary
    else:
        assert reading.corpus is not None
        tokens = learn_vocabulary(
            reading.corpus,
            size=_expected_size(config),
            lowercase=lowercase,
            strip_accents=strip_accents,
            progress=progress,
        )
    if reading.prepared is not None:
        check_same_vocabulary(
            reading.prepared.vocabulary, tokens, str(reading.prepared.folder)
        )
    return Vocabulary(tokens, lowercase, strip_accents)


def _tokenizer(vocabulary: Vocabulary) -> WordPieceTokenizer:
    return WordPieceTokenizer(
        vocabulary.tokens,
        lowercase=vocabulary.lowercase,
        strip_accents=vocabulary.strip_accents,
    )


def _material(
    config: PretrainConfig, reading: _Reading, tokenizer: WordPieceTokenizer
) -> Material:
    if reading.prepared is not None:
        return PreparedMaterial(reading.prepared, config.train.seed)
    assert reading.corpus is not None
    return _text_material(config, reading.corpus, reading, tokenizer)


def _text_material(
    config: PretrainConfig,
    corpus: Corpus,
    reading: _Reading,
    tokenizer: WordPieceTokenizer,
) -> TextMaterial:
    next_sentence = config.train.next_sentence_weight > 0
    seed = config.train.seed
    held_out = draw_held_out(
        corpus, config.data, next_sentence=next_sentence, seed=seed
    )
    if (report := corpus.report).num_broken:
        logger.warning("%s", report.summary())
    return TextMaterial(
        corpus,
        tokenizer,
        config.data,
        next_sentence,
        seed,
        held_out,
        reading.validation,
    )


def with_absolute_paths(config: PretrainConfig) -> PretrainConfig:
    """The config for the run's folder: it shall work from anywhere."""
    data, model = config.data, config.model
    return config.model_copy(
        update={
            "data": data.model_copy(
                update={
                    "sources": [_absolute(source) for source in data.sources],
                    "validation": _absolute_if_there(data.validation),
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
    if source == "sample" or source.startswith("tfds:"):
        return source
    return os.path.abspath(os.path.expanduser(source))


def _absolute_if_there(name: str | None) -> str | None:
    if name is None or not os.path.exists(os.path.expanduser(name)):
        return name
    return _absolute(name)


def _default_name(config: PretrainConfig, reading: _Reading) -> str:
    """`imdb_reviews-mini`, `imdb_reviews-bert_base_en`."""
    preset = config.model.preset
    if preset is not None:
        return f"{reading.name}-{Path(preset.removeprefix('hf://')).name}"
    return f"{reading.name}-{config.model.size or 'bert'}"


def _summary(a: Architecture) -> str:
    return (
        f"{a.num_layers} layers x {a.hidden_dim}, {a.num_heads} heads, "
        f"{a.vocabulary_size:,} tokens, {a.num_parameters / 1e6:.1f} M weights"
    )
