"""What precedes a pretraining: all checks, the cheap ones first, then the text."""

import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import keras

from kbert.data.corpus import Corpus
from kbert.data.pretraining_examples import Examples
from kbert.layers import MaskedLMMask
from kbert.preset_files import Architecture, read_architecture
from kbert.presets import Preset, resolve_preset
from kbert.pretrain_settings import PretrainConfig
from kbert.new_runs import FreshName, check_output
from kbert.tasks.masked_lm import MaskedLM
from kbert.tokenization import WordPieceTokenizer
from kbert.training.masked_data import Mask, MaskedData, Phase, compile_mask
from kbert.training.precision import Choice, choose
from kbert.vocabulary import read_vocabulary
from kbert.workflows.masking import build_mask
from kbert.workflows.pretraining_model import (
    Pretrainee,
    Vocabulary,
    build_model,
    compile_pretraining,
    load_weights_of,
)
from kbert.workflows.pretraining_resolving import (
    DEFAULT_VOCABULARY_SIZE,
    check_preset,
    check_same_vocabulary,
    check_settings,
    idle_settings,
    resolve_pretraining,
)
from kbert.workflows.pretraining_text import (
    TextMaterial,
    draw_held_out,
    learn_vocabulary,
    open_text,
    open_validation,
)
from kbert.workflows.sizes import new_architecture

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainJob:
    """A pretraining whose checks have passed and whose text is at hand.

    Attributes:
        path: where the run will be made.
        config: the settings as the run keeps them: resolved.
        preset: what it goes on from; None for a new model.
    """

    path: Path | FreshName
    config: PretrainConfig
    preset: Preset | None
    choice: Choice
    architecture: Architecture
    vocabulary: Vocabulary
    tokenizer: WordPieceTokenizer
    material: TextMaterial

    @property
    def next_sentence(self) -> bool:
        """Whether the model learns to tell the next sentence."""
        return self.config.train.next_sentence_weight > 0

    @cached_property
    def data(self) -> MaskedData:
        """What is fed, phase by phase."""
        settings = self.config.data
        steps = self.config.train.max_steps
        lengths = [(settings.max_length, steps)]
        if settings.short_length is not None:
            short = round(steps * (self.config.train.short_share or 0))
            lengths = [
                (settings.short_length, short),
                (settings.max_length, steps - short),
            ]
        return MaskedData(
            [self._phase(length, number) for length, number in lengths],
            pad_id=self.tokenizer.pad_id,
            next_sentence=self.next_sentence,
            accumulation=self.config.train.gradient_accumulation_steps,
        )

    def phase_at(self, step: int) -> Phase:
        """The phase that a step, counted from 1, belongs to."""
        for phase in self.data.phases:
            if step <= phase.num_steps:
                return phase
            step -= phase.num_steps
        return self.data.phases[-1]

    def validation(self, max_length: int) -> Examples:
        """The examples to measure on; always the same."""
        return self.material.validation_examples(max_length)

    def mask(self, max_length: int) -> MaskedLMMask:
        """The masking of examples of a length."""
        return build_mask(
            self.tokenizer,
            self.config.data,
            max_length=max_length,
            seed=self.config.train.seed,
        )

    def compiled_mask(self, max_length: int) -> Mask:
        """The same, compiled."""
        return compile_mask(self.mask(max_length))

    def describe_task(self) -> dict[str, Any]:
        """What `task.json` says."""
        return MaskedLM(
            max_length=self.config.data.max_length,
            lowercase=self.vocabulary.lowercase,
            strip_accents=self.vocabulary.strip_accents,
            next_sentence=self.next_sentence,
            mask_selection_rate=self.config.data.mask_selection_rate,
            whole_word=self.config.data.whole_word,
            text_column=self.config.data.text,
        ).to_dict()

    def describe_data(self) -> dict[str, Any]:
        """What was read, for `kbert.json`."""
        return self.material.describe()

    def build(self) -> Pretrainee:
        """The model, compiled to train.

        Raises:
            PresetError: the preset's weights cannot be loaded.
            ConfigError: XLA was asked for and Keras would not use it.
        """
        settings = self.config
        precision = self.choice.precision
        position_embedding = settings.model.position_embedding
        model = build_model(
            self.architecture,
            next_sentence=self.next_sentence,
            dtype=precision,
            position_embedding=position_embedding,
        )
        if self.preset is not None:
            missing = load_weights_of(self.preset, model)
            if missing:
                logger.info(
                    "%s has no %s: new ones are trained",
                    self.preset.name,
                    " and no ".join(missing),
                )
        schedule = compile_pretraining(model, settings.train)
        mask = self.mask(settings.data.max_length)
        return Pretrainee(
            model,
            self.architecture,
            self.vocabulary,
            schedule,
            mask_selection_rate=settings.data.mask_selection_rate,
            mask_selection_length=mask.mask_selection_length,
            max_length=settings.data.max_length,
        )

    def _phase(self, max_length: int, num_steps: int) -> Phase:
        settings = self.config.train
        num_rows = settings.batch_size
        if settings.tokens_per_batch is not None:
            num_rows = max(1, settings.tokens_per_batch // max_length)
        return Phase(
            self.material.source(max_length),
            self.compiled_mask(max_length),
            max_length,
            num_rows,
            num_steps,
        )


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
    check_settings(config)
    for sentence in idle_settings(config):
        logger.warning("%s", sentence)
    preset = _resolve_preset(config)
    choice = choose(config.train.precision, config.train.jit_compile)
    corpus, validation = open_text(config.data), open_validation(config.data)
    architecture = _architecture(config, preset, _expected_size(config))
    path = output or FreshName(Path("runs"), _default_name(config, corpus))
    lowercase, strip_accents = _tokenizing(config, preset)
    config = resolve_pretraining(
        config,
        architecture,
        choice,
        lowercase=lowercase,
        strip_accents=strip_accents,
    )
    kept = with_absolute_paths(config)
    check_output(path, kept, needed_bytes=2 * 4 * architecture.num_parameters)
    logger.info("precision: %s", choice)
    next_sentence = config.train.next_sentence_weight > 0
    held_out = draw_held_out(
        corpus, config.data, next_sentence=next_sentence, seed=config.train.seed
    )
    tokens = _vocabulary(config, preset, corpus, progress)
    vocabulary = Vocabulary(tokens, lowercase, strip_accents)
    tokenizer = WordPieceTokenizer(
        tokens, lowercase=lowercase, strip_accents=strip_accents
    )
    architecture = _architecture(config, preset, len(tokens))
    logger.info("model: %s", _summary(architecture))
    if (report := corpus.report).num_broken:
        logger.warning("%s", report.summary())
    material = TextMaterial(
        corpus=corpus,
        tokenizer=tokenizer,
        data=config.data,
        next_sentence=next_sentence,
        seed=config.train.seed,
        held_out=held_out,
        validation=validation,
    )
    return PretrainJob(
        path, kept, preset, choice, architecture, vocabulary, tokenizer, material
    )


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
        check_same_vocabulary(preset.vocabulary, given, preset, model.vocabulary)
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
    corpus: Corpus,
    progress: TextIO | None,
) -> tuple[str, ...]:
    if preset is not None:
        return preset.vocabulary
    if config.model.vocabulary is not None:
        return read_vocabulary(config.model.vocabulary)
    lowercase, strip_accents = _tokenizing(config, preset)
    return learn_vocabulary(
        corpus,
        size=_expected_size(config),
        lowercase=lowercase,
        strip_accents=strip_accents,
        progress=progress,
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


def _default_name(config: PretrainConfig, corpus: Corpus) -> str:
    """`imdb_reviews-mini`, `imdb_reviews-bert_base_en`."""
    preset = config.model.preset
    if preset is not None:
        return f"{corpus.name}-{Path(preset.removeprefix('hf://')).name}"
    return f"{corpus.name}-{config.model.size or 'bert'}"


def _summary(a: Architecture) -> str:
    return (
        f"{a.num_layers} layers x {a.hidden_dim}, {a.num_heads} heads, "
        f"{a.vocabulary_size:,} tokens, {a.num_parameters / 1e6:.1f} M weights"
    )
