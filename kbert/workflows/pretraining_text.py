"""The text of a pretraining: the corpus, its vocabulary, what is held out of it."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from kbert.data.corpus import Corpus, CorpusOptions, open_corpus
from kbert.data.pretraining import (
    ExampleSource,
    Purpose,
    TextExamples,
    random_generator,
)
from kbert.data.pretraining_examples import ExampleRecipe, Examples, build_examples
from kbert.data.windows import Window, WindowTokenizer
from kbert.errors import DataError
from kbert.pretrain_settings import CorpusSettings, PretrainDataSettings
from kbert.progress import ProgressLine
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary_training import train_vocabulary
from kbert.workflows.held_out import HeldOut, hold_out

logger = logging.getLogger(__name__)

MAX_VALIDATION_EXAMPLES = 1024


def corpus_options(data: CorpusSettings, split: str | None = None) -> CorpusOptions:
    """How a corpus is read, of the settings.

    Args:
        split: another TFDS split than that to train on.
    """
    return CorpusOptions(
        document=data.document,
        text=data.text,
        split=split or data.train_split,
        data_dir=data.data_dir,
        encoding_errors=data.encoding_errors,
        limit=data.limit,
    )


def open_text(data: CorpusSettings) -> Corpus:
    """The corpus that the settings name; what was guessed is said.

    Raises:
        DataError: it does not exist, cannot be read, or is empty.
    """
    corpus = open_corpus(data.sources, corpus_options(data))
    for note in corpus.notes:
        logger.info("%s", note)
    return corpus


def open_validation(data: PretrainDataSettings) -> Corpus | None:
    """The corpus of `data.validation`; None where it is not set.

    Raises:
        DataError: it does not exist, cannot be read, or is empty.
    """
    if data.validation is None:
        return None
    of_tfds = next((s for s in data.sources if s.startswith("tfds:")), None)
    if of_tfds is not None and not os.path.exists(data.validation):
        return open_corpus([of_tfds], corpus_options(data, data.validation))
    return open_corpus([data.validation], corpus_options(data))


def texts_of(corpus: Corpus, progress: TextIO | None, label: str) -> Iterator[str]:
    """All texts of a corpus, with a line that shows how far it is."""
    pieces = (piece for file in corpus.files for piece in file.pieces())
    if progress is None:
        yield from (piece.text for piece in pieces)
        return
    with ProgressLine(None, progress, label=label, unit="documents") as line:
        for number, piece in enumerate(pieces, start=1):
            yield piece.text
            line.update(number, 1)


def learn_vocabulary(
    corpus: Corpus,
    *,
    size: int,
    lowercase: bool,
    strip_accents: bool,
    progress: TextIO | None,
) -> tuple[str, ...]:
    """A vocabulary trained on a corpus.

    Raises:
        UserError: see `train_vocabulary`.
    """
    vocabulary = train_vocabulary(
        texts_of(corpus, progress, "vocabulary"),
        size=size,
        lowercase=lowercase,
        strip_accents=strip_accents,
    )
    logger.info("vocabulary: %s tokens, trained on the text", f"{len(vocabulary):,}")
    return vocabulary


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
        examples = build_examples(WindowTokenizer(self.tokenizer)(window), recipe, rng)
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


def draw_held_out(
    corpus: Corpus, data: PretrainDataSettings, *, next_sentence: bool, seed: int
) -> HeldOut:
    """The documents of a corpus to measure on; none where other text is given.

    Raises:
        DataError: there are too few documents.
    """
    if data.validation is not None:
        return HeldOut()
    held_out = hold_out(
        corpus,
        share=data.validation_share,
        seed=seed,
        least=2 if next_sentence else 1,
    )
    logger.info("held out: %s documents", f"{len(held_out.texts):,}")
    return held_out
