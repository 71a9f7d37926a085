"""Where the examples of a pretraining come from: text, or a prepared folder."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from kbert.data.corpus import Corpus
from kbert.data.prepared import Prepared, PreparedExamples
from kbert.data.pretraining import (
    ExampleSource,
    Purpose,
    TextExamples,
    random_generator,
)
from kbert.data.pretraining_examples import ExampleRecipe, Examples, build_examples
from kbert.data.windows import Window, WindowTokenizer
from kbert.errors import DataError
from kbert.pretrain_settings import PretrainDataSettings
from kbert.tokenization import WordPieceTokenizer
from kbert.workflows.pretraining.held_out import HeldOut

MAX_VALIDATION_EXAMPLES = 1024


class Material(Protocol):
    """Examples to train on, and others to measure on."""

    def source(self, max_length: int) -> ExampleSource:
        """The examples to train on, of a length.

        Raises:
            DataError: there are none of this length.
        """

    def validation_examples(self, max_length: int) -> Examples:
        """The examples to measure on: a thousand or so, always the same.

        Raises:
            DataError: there are none.
        """

    def describe(self) -> dict[str, Any]:
        """What was read, for `kbert.json`."""

    def fingerprints(self) -> list[str]:
        """Of all that decides the examples, and changes when they do."""


@dataclass(frozen=True)
class TextMaterial:
    """Examples made of text while they are used.

    Attributes:
        corpus: what is trained on.
        held_out: documents of it that are not.
        validation: text to measure on in their place.
    """

    corpus: Corpus
    tokenizer: WordPieceTokenizer
    data: PretrainDataSettings
    next_sentence: bool
    seed: int
    held_out: HeldOut
    validation: Corpus | None

    @cached_property
    def _tokenize(self) -> WindowTokenizer:
        return WindowTokenizer(self.tokenizer)

    def recipe(self, max_length: int) -> ExampleRecipe:
        """How documents become examples of a length."""
        return ExampleRecipe(
            max_length=max_length,
            next_sentence=self.next_sentence,
            short_rate=self.data.short_sequence_rate,
            cls_id=self.tokenizer.cls_id,
            sep_id=self.tokenizer.sep_id,
        )

    def describe(self) -> dict[str, Any]:
        """What was read: the files, and how many documents are held out."""
        return {
            "name": self.corpus.name,
            "files": [
                {"name": f.name, "num_bytes": f.num_bytes, "fingerprint": f.fingerprint}
                for f in self.corpus.files
            ],
            "held_out_documents": len(self.held_out.texts),
            "broken_places": self.corpus.report.num_broken,
        }

    def fingerprints(self) -> list[str]:
        """See `Material.fingerprints`: of the text, and of what is measured on."""
        corpora = [self.corpus]
        if self.validation is not None:
            corpora.append(self.validation)
        return [file.fingerprint for corpus in corpora for file in corpus.files]

    def source(self, max_length: int) -> ExampleSource:
        """The examples to train on."""
        return TextExamples(
            self.corpus,
            self.tokenizer,
            self.recipe(max_length),
            seed=self.seed,
            keep=self.held_out.keep,
        )

    def validation_examples(self, max_length: int) -> Examples:
        """The examples to measure on: a thousand at most.

        Raises:
            DataError: the held-out text gives none.
        """
        recipe = self.recipe(max_length)
        if self.validation is not None:
            return validation_of(self.validation, self.tokenizer, recipe, self.seed)
        window = Window(0, self.held_out.texts)
        rng = random_generator(Purpose.BUILDING, self.seed)
        examples = build_examples(self._tokenize(window), recipe, rng)
        if not len(examples):
            raise DataError(
                f"{self.corpus.name}: the held-out documents give no example; they are "
                "too short. Give held-out text of its own (--set data.validation=FILE)."
            )
        return examples.select(rng.permutation(len(examples))[:MAX_VALIDATION_EXAMPLES])


def validation_of(
    corpus: Corpus, tokenizer: WordPieceTokenizer, recipe: ExampleRecipe, seed: int
) -> Examples:
    """The first examples, a thousand at most, of a corpus that is all held out."""
    source = TextExamples(
        corpus, tokenizer, recipe, seed=seed, keep=lambda *document: True
    )
    blocks, num_examples = [], 0
    for block in source.blocks(0):
        blocks.append(block)
        num_examples += len(block)
        if num_examples >= MAX_VALIDATION_EXAMPLES:
            break
    examples = Examples.concatenate(blocks)
    return examples.select(np.arange(min(len(examples), MAX_VALIDATION_EXAMPLES)))


@dataclass(frozen=True)
class PreparedMaterial:
    """Examples that `kbert pretrain --prepare-only` wrote."""

    prepared: Prepared
    seed: int

    def source(self, max_length: int) -> ExampleSource:
        """See `Material.source`."""
        return PreparedExamples(self.prepared, max_length, seed=self.seed)

    def validation_examples(self, max_length: int) -> Examples:
        """See `Material.validation_examples`."""
        return self.prepared.validation_examples(max_length)

    def describe(self) -> dict[str, Any]:
        """See `Material.describe`."""
        return {
            "name": str(self.prepared.folder),
            "files": self.prepared.settings["files"],
            "lengths": self.prepared.settings["lengths"],
        }

    def fingerprints(self) -> list[str]:
        """See `Material.fingerprints`: of the settings, and of the text they had."""
        settings = self.prepared.settings
        files = [file["fingerprint"] for file in settings["files"]]
        others = {name: value for name, value in settings.items() if name != "files"}
        return [json.dumps(others, sort_keys=True), *files]
