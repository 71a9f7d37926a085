"""The text of a pretraining: opened, its vocabulary learned, a part held out."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from kbert.data.corpus import Corpus, CorpusOptions, open_corpus
from kbert.data.corpus_paths import find_files, is_named
from kbert.data.sources import source_splits
from kbert.errors import ConfigError, UserError
from kbert.pretrain_settings import CorpusSettings, PretrainDataSettings
from kbert.progress import ProgressLine
from kbert.vocabulary_training import count_words, learn_pieces
from kbert.workflows.pretraining.held_out import HeldOut, check_documents, hold_out

logger = logging.getLogger(__name__)

_MIN_FREQUENCY = 2  # of a character or a piece, as `kbert vocab` has it by default

# Of a data set that is held out, the first of these that it has.
_HELD_OUT = ("validation", "test", "train")


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
        ConfigError: a source is a run.
        DataError: it does not exist, cannot be read, or is empty.
    """
    for source in data.sources:
        _check_is_no_run(source)
    corpus = open_corpus(data.sources, corpus_options(data))
    for note in corpus.notes:
        logger.info("%s", note)
    return corpus


def _check_is_no_run(source: str) -> None:
    folder = Path(os.path.expanduser(source))
    if all(os.path.isfile(folder / name) for name in ("config.toml", "task.json")):
        raise ConfigError(
            f"{source} is a run, and no text. To go on from it, give it with --preset: "
            f"kbert pretrain TEXT --preset {source}"
        )


def open_validation(data: PretrainDataSettings) -> Corpus | None:
    """The corpus of `data.validation`; None where it is not set.

    Raises:
        DataError: it does not exist, cannot be read, or is empty.
        ConfigError: it is trained on too.
    """
    if data.validation is None:
        return None
    source, split = _validation_source(data, data.validation)
    if split is None:
        _check_files_apart(data.sources, source)
    else:
        _check_splits_apart(data, source, split)
        logger.info("held out: %s %s", source, split)
    corpus = open_corpus([source], corpus_options(data, split))
    for note in corpus.notes:
        logger.info("data.validation: %s", note)
    return corpus


def _validation_source(data: PretrainDataSettings, name: str) -> tuple[str, str | None]:
    """What `data.validation` names: a source, and of a data set the split."""
    if is_named(name):
        return name, first_split(name, _HELD_OUT, data.data_dir)
    source = split_owner(data, name)
    return (name, None) if source is None else (source, name)


def split_owner(data: PretrainDataSettings, name: str) -> str | None:
    """The first data set among the sources that has a split of this name, if any.

    As in fine-tuning, a split's name goes before a file's. `train[:10%]+test` counts
    by its first split.
    """
    first = re.split(r"[\[+]", name)[0]
    if {"/", "*"} & set(first):
        return None
    for source in filter(is_named, data.sources):
        split = name if source == "sample" else first  # The sample has no slices.
        if split in source_splits(source, data.data_dir):
            return source
    return None


def first_split(spec: str, preferred: Sequence[str], data_dir: str | None) -> str:
    """The first of the preferred splits that a data set has, else its own first."""
    own = source_splits(spec, data_dir)
    return next((split for split in preferred if split in own), own[0])


def _check_files_apart(sources: Sequence[str], validation: str) -> None:
    """Checks that no file is both trained on and held out."""
    trained, held_out = (
        {
            os.path.realpath(path)
            for path in find_files([spec for spec in specs if not is_named(spec)])[0]
        }
        for specs in (sources, [validation])
    )
    if shared := sorted(trained & held_out):
        raise _trained_on(
            f"{shared[0]}, which is among the sources too", "Leave it out there"
        )


def _check_splits_apart(data: PretrainDataSettings, source: str, split: str) -> None:
    """Checks that no example of a data set is both trained on and held out."""
    mend = "Choose another split"
    if source != "sample":
        mend += ", or parts: data.train_split=train[10%:], data.validation=train[:10%]"
    for trained in filter(is_named, data.sources):
        if (trained, data.train_split) == (source, split):
            raise _trained_on(f"{split} of {source}, the split to train on", mend)
        if "sample" in (trained, source):
            continue
        # Only here: this imports TensorFlow, which a text file may do without.
        from kbert.data.tfds import num_shared

        shared = num_shared(trained, data.train_split, source, split, data.data_dir)
        if shared:
            raise _trained_on(
                f"{split} of {source}, of which {shared:,} examples are in "
                f"{data.train_split}, the split to train on, too",
                mend,
            )


def _trained_on(received: str, mend: str) -> ConfigError:
    return ConfigError(
        f"data.validation is text that is not trained on. Received: {received}. "
        f"{mend}, or leave data.validation out: a share of the documents is held out "
        "then."
    )


def warn_of_broken_text(*corpora: Corpus) -> None:
    """Says where bytes were no UTF-8, of what has been read."""
    for corpus in corpora:
        if corpus.report.num_broken:
            logger.warning("%s: %s", corpus.name, corpus.report.summary())


def texts_of(corpus: Corpus, progress: TextIO | None, label: str) -> Iterator[str]:
    """All texts of a corpus, with a line that shows how far it is."""
    with contextlib.ExitStack() as stack:
        line = None
        if progress is not None:
            line = ProgressLine(None, progress, label=label, unit="documents")
            stack.enter_context(line)
        num_before = 0
        for file in corpus.files:
            num_documents = num_before
            for piece in file.pieces():
                yield piece.text
                num_documents = num_before + piece.document + 1
                if line is not None:
                    line.update(num_documents, 0)
            num_before = num_documents


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
