"""Documents, texts and tokenizers that the tests of pretraining's examples share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from kbert.data.pieces import Piece, Place
from kbert.data.pretraining_examples import ExampleRecipe, Examples
from kbert.data.tokenized_documents import TokenizedDocuments
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS

CLS_ID, SEP_ID = 2, 3
WORDS = [f"word{number}" for number in range(200)]
FIRST_TOKEN = 1000


def tiny_tokenizer(
    *, extra: Sequence[str] = (), lowercase: bool = True
) -> WordPieceTokenizer:
    """Each word a token; the full stop too."""
    return WordPieceTokenizer(
        [*SPECIAL_TOKENS, ".", *WORDS, *extra], lowercase=lowercase, strip_accents=True
    )


def recipe(
    max_length: int, *, next_sentence: bool = True, short_rate: float = 0.0
) -> ExampleRecipe:
    """A recipe with the ids of the special tokens above."""
    return ExampleRecipe(
        max_length=max_length,
        next_sentence=next_sentence,
        short_rate=short_rate,
        cls_id=CLS_ID,
        sep_id=SEP_ID,
    )


def numbered_documents(
    sentence_lengths: Sequence[Sequence[int]],
) -> tuple[list[list[list[int]]], TokenizedDocuments]:
    """Documents in which every token is another one, so that it tells its place.

    Returns:
        The documents as lists of sentences of tokens, and the same flat.
    """
    token = count(FIRST_TOKEN)
    documents = [
        [[next(token) for _ in range(length)] for length in lengths]
        for lengths in sentence_lengths
    ]
    flat = TokenizedDocuments.from_lengths(
        np.array([t for d in documents for s in d for t in s], np.int32),
        np.array([len(s) for d in documents for s in d], np.int64),
        np.array([len(d) for d in documents], np.int64),
    )
    return documents, flat


def rows_of(examples: Examples) -> list[tuple[list[int], int, int]]:
    """Each example's tokens, length of the first segment and label, as plain Python."""
    return [
        (
            examples.token_ids[start : start + length].tolist(),
            int(first_length),
            int(label),
        )
        for start, length, first_length, label in zip(
            examples.starts,
            examples.lengths,
            examples.first_lengths,
            examples.next_sentence_labels,
            strict=True,
        )
    ]


@dataclass
class FakeFile:
    """What the examples need of a `CorpusFile`."""

    name: str
    documents: list[list[str]]
    fingerprint: str = "as it was"
    num_bytes: int | None = None
    num_read: int = field(default=0)

    def pieces(self, start: Place | None = None) -> Iterator[Piece]:
        number = 0
        for document, texts in enumerate(self.documents):
            for text in texts:
                if start is None or number >= start.number:
                    self.num_read += 1
                    yield Piece(text, document, document + 1)
                number += 1


@dataclass
class FakeCorpus:
    """What the examples need of a `Corpus`."""

    files: tuple[FakeFile, ...]
    name: str = "reviews"


def random_text(rng: np.random.Generator, num_sentences: int) -> str:
    """Sentences of one to twelve words."""
    return " ".join(
        " ".join(rng.choice(WORDS, rng.integers(1, 13))) + "."
        for _ in range(num_sentences)
    )


def random_corpus(num_files: int = 3, num_documents: int = 30) -> FakeCorpus:
    """Documents of one to fifteen sentences."""
    rng = np.random.default_rng(0)
    return FakeCorpus(
        tuple(
            FakeFile(
                f"{name}.txt",
                [[random_text(rng, rng.integers(1, 16))] for _ in range(num_documents)],
            )
            for name in range(num_files)
        )
    )
