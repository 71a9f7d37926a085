"""What a pretraining reads: text or a prepared folder, with vocabulary and preset."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kbert.data.corpus import Corpus
from kbert.data.prepared import MANIFEST, Prepared, open_prepared
from kbert.errors import ConfigError
from kbert.presets import Preset, resolve_preset
from kbert.pretrain_settings import PretrainConfig, PretrainModelSettings
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import read_vocabulary
from kbert.workflows.pretraining.casing import settle_case, tokenizing_of
from kbert.workflows.pretraining.held_out import HeldOut
from kbert.workflows.pretraining.material import (
    Material,
    PreparedMaterial,
    TextMaterial,
)
from kbert.workflows.pretraining.model import Vocabulary
from kbert.workflows.pretraining.prepared import adopt_prepared
from kbert.workflows.pretraining.resolving import (
    DEFAULT_VOCABULARY_SIZE,
    check_preset,
    check_same_vocabulary,
    check_settings,
    without_settings_of_run,
)
from kbert.workflows.pretraining.text import (
    draw_held_out,
    learn_vocabulary,
    open_text,
    open_validation,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
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

    @property
    def corpora(self) -> tuple[Corpus, ...]:
        """All text that is read."""
        return tuple(filter(None, (self.corpus, self.validation)))

    @property
    def idle(self) -> dict[str, str]:
        """Setting -> why it has no effect on any of the text."""
        if self.corpus is None:
            return {"data.data_dir": "the text is prepared already"}
        validation = self.validation or self.corpus
        return {
            name: reason
            for name, reason in self.corpus.idle.items()
            # The split to train on is none to hold out.
            if name in validation.idle or name == "data.train_split"
        }


def open_reading(
    config: PretrainConfig,
) -> tuple[PretrainConfig, Reading, Preset | None]:
    """The text and the preset, checked against the settings.

    Returns:
        The settings, with what a prepared folder, a preset or a vocabulary decides of
        them; the text; the preset.

    Raises:
        UserError: a setting does not fit, or text or preset cannot be read.
    """
    prepared = _find_prepared(config)
    config = without_settings_of_run(config)
    if prepared is not None:
        config = adopt_prepared(config, prepared)
    check_settings(config)
    if prepared is not None:
        reading = Reading(prepared.folder.resolve().name, prepared)
    else:
        corpus = open_text(config.data)
        validation = open_validation(config.data)
        reading = Reading(corpus.name, None, corpus, validation)
    preset = _resolve_preset(config)  # Last: it may take a download.
    if prepared is None:  # what is prepared was tokenized one way or the other
        config = settle_case(config, preset)
    return config, reading, preset


def own_material(
    config: PretrainConfig, tokenizer: WordPieceTokenizer
) -> tuple[Material, Reading]:
    """What a run was trained on, opened again with its settings.

    Raises:
        UserError: the text is not there any more, or cannot be read.
    """
    text_alone = config.model_copy(update={"model": PretrainModelSettings()})
    _, reading, _ = open_reading(text_alone)
    held_out = hold_out_of(config, reading)
    return build_material(config, reading, tokenizer, held_out), reading


def trains_vocabulary(config: PretrainConfig, reading: Reading) -> bool:
    """Whether the vocabulary is one that is trained on the text."""
    model = config.model
    given = model.preset is not None or model.vocabulary is not None
    return not given and reading.prepared is None


def expected_vocabulary_size(config: PretrainConfig) -> int:
    """The most tokens of a vocabulary that is trained on the text."""
    return config.model.vocabulary_size or DEFAULT_VOCABULARY_SIZE


def build_vocabulary(
    config: PretrainConfig,
    preset: Preset | None,
    reading: Reading,
    progress: TextIO | None,
    *,
    learnt: Path | None = None,
) -> Vocabulary:
    """The preset's vocabulary, the one that is given, or one trained on the text.

    Args:
        learnt: the file of the one that was trained on this text before.

    Raises:
        UserError: it cannot be read or trained, or is not that of a prepared folder.
    """
    lowercase, strip_accents = tokenizing_of(config, preset)
    if preset is not None:
        tokens = preset.vocabulary
    elif config.model.vocabulary is not None:
        tokens = read_vocabulary(config.model.vocabulary)
    elif reading.prepared is not None:
        tokens = reading.prepared.vocabulary
    elif learnt is not None:
        tokens = read_vocabulary(learnt)
    else:
        assert reading.corpus is not None
        tokens = learn_vocabulary(
            reading.corpus,
            size=expected_vocabulary_size(config),
            lowercase=lowercase,
            strip_accents=strip_accents,
            progress=progress,
        )
    if reading.prepared is not None:
        if preset is None:
            mend = "Leave model.vocabulary out, or prepare the text with it"
        else:
            mend = f"Prepare the text with --preset {preset.name}"
        folder = str(reading.prepared.folder)
        check_same_vocabulary(reading.prepared.vocabulary, tokens, folder, mend)
    return Vocabulary(tokens, lowercase, strip_accents)


def build_tokenizer(vocabulary: Vocabulary) -> WordPieceTokenizer:
    """The tokenizer that uses a vocabulary."""
    return WordPieceTokenizer(
        vocabulary.tokens,
        lowercase=vocabulary.lowercase,
        strip_accents=vocabulary.strip_accents,
    )


def hold_out_of(config: PretrainConfig, reading: Reading) -> HeldOut:
    """The documents of the text to measure on; a prepared folder has its own.

    Raises:
        DataError: there are too few documents.
    """
    if reading.corpus is None:
        return HeldOut()
    return draw_held_out(
        reading.corpus,
        config.data,
        next_sentence=config.train.next_sentence_weight > 0,
        seed=config.train.seed,
    )


def build_material(
    config: PretrainConfig,
    reading: Reading,
    tokenizer: WordPieceTokenizer,
    held_out: HeldOut,
) -> Material:
    """Where the examples come from."""
    if reading.prepared is not None:
        return PreparedMaterial(reading.prepared, config.train.seed)
    return build_text_material(config, reading, tokenizer, held_out)


def build_text_material(
    config: PretrainConfig,
    reading: Reading,
    tokenizer: WordPieceTokenizer,
    held_out: HeldOut,
) -> TextMaterial:
    """Examples made of text that is no prepared folder."""
    assert reading.corpus is not None, "it is no prepared folder"
    return TextMaterial(
        corpus=reading.corpus,
        tokenizer=tokenizer,
        data=config.data,
        next_sentence=config.train.next_sentence_weight > 0,
        seed=config.train.seed,
        held_out=held_out,
        validation=reading.validation,
    )


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
    if not preset.has_weights:
        logger.warning(
            "the embedded `sample` model starts from random weights: there is nothing "
            "to go on from. Leave --preset out for a new model of any size."
        )
    if model.vocabulary is not None:
        given = read_vocabulary(model.vocabulary)
        owner = f"the preset {preset.name}"
        mend = "Leave model.vocabulary out, or --preset"
        check_same_vocabulary(preset.vocabulary, given, owner, mend)
    return preset
