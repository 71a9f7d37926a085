"""The text of a pretraining: opened, its vocabulary learned, a part held out."""

import logging
import os
from collections.abc import Iterator
from typing import TextIO

from kbert.data.corpus import Corpus, CorpusOptions, open_corpus
from kbert.data.corpus_paths import find_files, is_named
from kbert.errors import ConfigError, UserError
from kbert.pretrain_settings import CorpusSettings, PretrainDataSettings
from kbert.progress import ProgressLine
from kbert.vocabulary_training import count_words, learn_pieces
from kbert.workflows.pretraining.held_out import HeldOut, check_documents, hold_out

logger = logging.getLogger(__name__)

_MIN_FREQUENCY = 2  # of a character or a piece, as `kbert vocab` has it by default


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
        ConfigError: it is trained on too.
    """
    if data.validation is None:
        return None
    of_tfds = next((s for s in data.sources if s.startswith("tfds:")), None)
    is_split = of_tfds is not None and not os.path.exists(data.validation)
    _check_apart(data, is_split)
    if is_split:
        assert of_tfds is not None
        return open_corpus([of_tfds], corpus_options(data, data.validation))
    return open_corpus([data.validation], corpus_options(data))


def _check_apart(data: PretrainDataSettings, is_split: bool) -> None:
    """Checks that what is held out is not trained on."""
    assert data.validation is not None
    if is_split:
        shared = [data.validation] if data.validation == data.train_split else []
    else:
        trained, held_out = (
            {
                os.path.realpath(path)
                for path in find_files([s for s in specs if not is_named(s)])[0]
            }
            for specs in (data.sources, [data.validation])
        )
        named = set(data.sources) & {data.validation}
        shared = sorted(trained & held_out) or sorted(named)
    if shared:
        raise ConfigError(
            f"data.validation is text that is not trained on. Received: {shared[0]}, "
            "which is among the sources too. Leave it out there, or leave "
            "data.validation out: a share of the documents is held out then."
        )


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
    """A vocabulary trained on a corpus, on the documents held out of it too.

    Raises:
        UserError: see `learn_pieces`.
    """
    texts = texts_of(corpus, progress, "vocabulary")
    counts = count_words(texts, lowercase=lowercase, strip_accents=strip_accents)
    try:
        vocabulary = learn_pieces(counts, size=size, min_frequency=_MIN_FREQUENCY)
    except UserError as error:
        raise type(error)(
            f"{corpus.name}: {error} The size is model.vocabulary_size; `kbert vocab` "
            "takes a minimum frequency, and model.vocabulary the file that it writes."
        ) from None
    logger.info("vocabulary: %s tokens, trained on the text", f"{len(vocabulary):,}")
    return vocabulary


def draw_held_out(
    corpus: Corpus, data: PretrainDataSettings, *, next_sentence: bool, seed: int
) -> HeldOut:
    """The documents of a corpus to measure on; none where other text is given.

    Raises:
        DataError: there are too few documents.
    """
    least = 2 if next_sentence else 1
    if data.validation is not None:
        check_documents(corpus, least)
        return HeldOut()
    share = data.validation_share
    held_out = hold_out(corpus, share=share, seed=seed, least=least)
    logger.info("held out: %s documents", f"{len(held_out.texts):,}")
    return held_out
