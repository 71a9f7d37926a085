"""`kbert vocab`: from text to a WordPiece vocabulary."""

import logging
import os
from pathlib import Path
from typing import TextIO

from kbert.errors import ConfigError
from kbert.files import write_text
from kbert.pretrain_settings import CorpusSettings
from kbert.vocabulary_training import train_vocabulary
from kbert.workflows.pretraining.text import open_text, texts_of

logger = logging.getLogger(__name__)


def make_vocabulary(
    data: CorpusSettings,
    output: Path,
    *,
    size: int = 30_000,
    lowercase: bool = True,
    strip_accents: bool = True,
    min_frequency: int = 2,
    progress: TextIO | None = None,
) -> tuple[str, ...]:
    """Trains a vocabulary on a corpus and writes it, one token a line.

    Args:
        data: what is read.
        output: the file to write, which must not exist.
        size: the most tokens.
        lowercase: learn words in lower case.
        strip_accents: learn words without combining marks.
        min_frequency: how often a character or a piece has to occur.
        progress: where the progress line goes; None for no line.

    Returns:
        The tokens; a token's position is its id.

    Raises:
        ConfigError: the file exists, its folder does not, or `size` is too small.
        DataError: the corpus cannot be read, or has too few words.
    """
    check_output(output)
    corpus = open_text(data)
    for key, reason in corpus.idle.items():
        value = getattr(data, key.removeprefix("data."))
        logger.warning("%s = %s has no effect: %s.", key, value, reason)
    vocabulary = train_vocabulary(
        texts_of(corpus, progress, "vocabulary"),
        size=size,
        lowercase=lowercase,
        strip_accents=strip_accents,
        min_frequency=min_frequency,
    )
    logger.info("read %s", corpus.report.summary())
    if len(vocabulary) < size:
        logger.info(
            "No other piece occurs %s times: %s tokens in place of %s.",
            f"{min_frequency:,}",
            f"{len(vocabulary):,}",
            f"{size:,}",
        )
    write_text(output, "".join(f"{token}\n" for token in vocabulary))
    return vocabulary


def check_output(output: Path) -> None:
    """Raises ConfigError unless a new file can be written to `output`."""
    if os.path.lexists(output):
        raise ConfigError(
            f"The output {output} exists, and is not overwritten: a model may need it. "
            "Choose another --output, or delete it."
        )
    if not output.parent.is_dir():
        raise ConfigError(
            f"The output {output} cannot be written: there is no folder "
            f"{output.parent}. Make it, or choose another --output."
        )
