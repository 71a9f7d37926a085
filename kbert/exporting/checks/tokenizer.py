"""The WordPiece model inside the graph: points 8 and 38."""

import functools

import tensorflow as tf

from kbert.errors import ExportError
from kbert.exporting.checks.opened import EXTRA, Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some

VOCABULARY_FILE_NAME = "vocab.txt"

_OP = "FastWordpieceTokenizeWithOffsets"
# One word where the model splits nothing itself; two, whatever the vocabulary, where
# it splits at spaces.
_TWO_WORDS = "\u2603 \u2603".encode()
_NUM_SAMPLED = 100
_LONGEST_WORD = 100  # longer ones are [UNK]


def splits_words_before(export: Export) -> str:
    """Point 8. Whether a model splits texts itself is seen from what it does with a
    word that has a space in it."""
    if any(node.op == "FastBertNormalize" for node in export.nodes):
        raise FailError(
            "FastBertNormalize belongs to a tokenizer that can hang in servers before "
            "2.20. Split words in other ops, as kbert.tokenization does."
        )
    for model in _models(export):
        (ids,) = _tokenize(export, model, (_TWO_WORDS,))
        if len(ids) > 1:
            raise FailError(
                "the tokenizer's model splits texts into words itself, which can hang "
                "in servers before 2.20. Build it with no_pretokenization=True."
            )
    return f"{len(_models(export))} tokenizer models"


def reproduces_the_vocabulary(export: Export) -> str:
    """Point 38: 100 tokens of `assets.extra/vocab.txt`, evenly spread, have the ids of
    their lines. Left out are pieces that continue a word, which are no words of their
    own, and what no word contains."""
    models = _models(export)
    file = export.extra(VOCABULARY_FILE_NAME)
    if not file.is_file():
        _tokenize_any(export, models)
        raise SkipError(
            f"there is no {EXTRA}/{VOCABULARY_FILE_NAME} to compare with; the model "
            "itself can be read"
        )
    # Not splitlines(), which ends lines at more than a newline.
    tokens = file.read_bytes().removesuffix(b"\n").split(b"\n")
    usual = [(n, token) for n, token in enumerate(tokens) if _is_usual(token)]
    step = max(1, len(usual) // _NUM_SAMPLED)
    sample = usual[::step][:_NUM_SAMPLED]
    words = tuple(token for _, token in sample)
    for model in models:
        given = _tokenize(export, model, words)
        wrong = [
            f"{token.decode('utf-8', 'replace')} is {ids} in place of [{n}]"
            for (n, token), ids in zip(sample, given, strict=True)
            if ids != [n]
        ]
        if wrong:
            raise FailError(
                f"the tokenizer does not have {EXTRA}/{VOCABULARY_FILE_NAME}: "
                f"{some(wrong)}. Export again with the run's own tokenizer."
            )
    return f"{len(sample)} tokens"


CHECKS = (
    Check(8, "the tokenizer is given words, not texts", splits_words_before),
    Check(38, "the tokenizer has the vocabulary", reproduces_the_vocabulary),
)


@functools.lru_cache(maxsize=1)
def _models(export: Export) -> tuple[bytes, ...]:
    """The models of the graph's FastWordpieceTokenizers: its constants of bytes."""
    if not any(node.op == _OP for node in export.nodes):
        raise SkipError(f"the graph has no {_OP}")
    found = {
        tf.make_ndarray(node.attr["value"].tensor).tobytes()
        for node in export.nodes
        if node.op == "Const"
        and node.attr["value"].tensor.dtype == tf.uint8.as_datatype_enum
        and len(node.attr["value"].tensor.tensor_shape.dim) == 1
    }
    if not found:
        raise FailError(
            "the tokenizer's model is no constant of the graph. Build it outside of "
            "the functions that are exported."
        )
    return tuple(sorted(found))


def _tokenize(
    export: Export, model: bytes, words: tuple[bytes, ...]
) -> list[list[int]]:
    try:
        return export.session.wordpiece(model, words)
    except ExportError as error:
        raise FailError(
            f"a tokenizer's model of {len(model)} bytes cannot be used: {error}. "
            "Export again."
        ) from None


def _tokenize_any(export: Export, models: tuple[bytes, ...]) -> None:
    for model in models:
        _tokenize(export, model, (b"word",))


def _is_usual(token: bytes) -> bool:
    """Whether a token can be a word."""
    text = token.decode("utf-8", "replace")
    is_word = text.isprintable() and " " not in text and not text.startswith("##")
    return is_word and 0 < len(text) <= _LONGEST_WORD
