"""A pretraining that is ready to run: what is trained on what, and how."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kbert.data.pretraining_examples import Examples
from kbert.layers import MaskedLMMask
from kbert.new_runs import FreshName
from kbert.preset_files import Architecture
from kbert.presets import Preset
from kbert.pretrain_settings import PretrainConfig
from kbert.tasks.masked_lm import MaskedLM
from kbert.tokenization import WordPieceTokenizer
from kbert.training.checkpoints import digest_of
from kbert.training.masked_data import Mask, MaskedData, Phase, compile_mask
from kbert.training.precision import Choice
from kbert.workflows.pretraining.masking import build_mask
from kbert.workflows.pretraining.material import Material
from kbert.workflows.pretraining.model import (
    Pretrainee,
    Vocabulary,
    build_model,
    compile_pretraining,
    load_weights_of,
)
from kbert.workflows.pretraining.resolving import short_steps

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
    material: Material
    _masks: dict[int, Mask] = field(default_factory=dict, repr=False)
    _held_out: dict[int, Examples] = field(default_factory=dict, repr=False)

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
            short = short_steps(self.config)
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
        if max_length not in self._held_out:
            self._held_out[max_length] = self.material.validation_examples(max_length)
        return self._held_out[max_length]

    def mask(self, max_length: int) -> MaskedLMMask:
        """The masking of examples of a length."""
        return build_mask(
            self.tokenizer,
            self.config.data,
            max_length=max_length,
            seed=self.config.train.seed,
        )

    def compiled_mask(self, max_length: int) -> Mask:
        """The same, compiled once."""
        if max_length not in self._masks:
            self._masks[max_length] = compile_mask(self.mask(max_length))
        return self._masks[max_length]

    @cached_property
    def data_digest(self) -> str:
        """Tells whether the text and the vocabulary are what they were."""
        return digest_of(*self.material.fingerprints(), *self.vocabulary.tokens)

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
