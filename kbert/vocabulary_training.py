"""Training a WordPiece vocabulary: the same texts always give the same tokens.

The merges are learned by the `tokenizers` library (pairs by frequency, as in BPE). The
words it learns from are counted here, split as `WordPieceTokenizer` splits them, so
that what is learned is what will be looked up.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, repeat

import tensorflow as tf
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import CharDelimiterSplit
from tokenizers.trainers import WordPieceTrainer

from kbert.errors import ConfigError, DataError
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS, UNK

_BATCH_BYTES = 2_000_000
_CHUNK_WORDS = 10_000
_CONTINUATION = "##"
_MAX_TOKEN_BYTES = 256  # more are refused by WordPieceTokenizer
_MAX_COUNT = 2**30  # of a pair; the library counts pairs in 32 bits, with a sign


def train_vocabulary(
    texts: Iterable[str],
    *,
    size: int,
    lowercase: bool,
    strip_accents: bool,
    min_frequency: int = 2,
) -> tuple[str, ...]:
    """Learns the tokens of a WordPiece vocabulary.

    First come [PAD], [UNK], [CLS], [SEP] and [MASK], then every character, then the
    characters inside of words (`##x`), then the pieces, the most frequent first. An
    ideograph is a word of its own, hence a token. The memory needed grows with the
    number of distinct words.

    Args:
        texts: read once.
        size: the most tokens of the vocabulary; there are fewer where the texts are
            short.
        lowercase: as for `WordPieceTokenizer`.
        strip_accents: as for `WordPieceTokenizer`.
        min_frequency: how often a character or a piece has to occur. A word with a
            rarer character will be [UNK].

    Raises:
        DataError: the texts hold no word, or none without a rare character.
        ConfigError: the characters alone are more than `size`.
    """
    counts = count_words(texts, lowercase=lowercase, strip_accents=strip_accents)
    return learn_pieces(counts, size=size, min_frequency=min_frequency)


def count_words(
    texts: Iterable[str], *, lowercase: bool, strip_accents: bool
) -> Counter[str]:
    """How often each word occurs, words being what the tokenizer looks up.

    What the tokenizer will take for [UNK] for its length is left out.
    """
    tokenizer = WordPieceTokenizer(
        SPECIAL_TOKENS, lowercase=lowercase, strip_accents=strip_accents
    )
    counts: Counter[bytes] = Counter()
    for batch in _batches(texts):
        with tf.device("CPU:0"):  # strings live there
            words = tokenizer.split_words(tf.constant(batch)).values
            distinct, _, numbers = tf.unique_with_counts(words, out_idx=tf.int64)
        for word, number in zip(
            distinct.numpy().tolist(), numbers.numpy().tolist(), strict=True
        ):
            counts[word] += number
    # No text can spell this one, as its brackets would be words of their own.
    del counts[UNK.encode()]
    return Counter({word.decode(): number for word, number in counts.items()})


def learn_pieces(
    counts: Mapping[str, int], *, size: int, min_frequency: int
) -> tuple[str, ...]:
    """Learns a vocabulary from how often each word occurs; see `train_vocabulary`."""
    if not counts:
        raise DataError(
            "A vocabulary is learned from words, and the texts hold none: they are "
            "empty or blank. Name files with text."
        )
    characters = _count_characters(counts)
    words = _words_without_rare_characters(counts, characters, min_frequency)
    fixed = [*SPECIAL_TOKENS, *_alphabet(words)]
    if size < len(fixed):
        raise ConfigError(
            f"A vocabulary holds its {len(SPECIAL_TOKENS)} special tokens and every "
            f"character, at the start of words and inside of them: here at least "
            f"{len(fixed):,} tokens, received a size of {size:,}. Raise the size, or "
            f"raise the minimum frequency (now {min_frequency:,}), below which "
            "characters are left out."
        )
    # No pair is more frequent than its characters. Where counts are divided, what is
    # lost are words that are rare in a corpus of many gigabytes.
    divisor = math.ceil(max(characters.values()) / _MAX_COUNT)
    # The library numbers characters in an order that differs between processes, and
    # decides between equally frequent pairs by number. It keeps the order of special
    # tokens, so that with the characters among these every number is certain.
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=math.ceil(min_frequency / divisor),
        special_tokens=fixed,
        show_progress=False,
    )
    tokenizer = Tokenizer(WordPiece(unk_token=UNK))
    tokenizer.pre_tokenizer = CharDelimiterSplit(" ")
    tokenizer.train_from_iterator(_spell_out(words, divisor), trainer)
    token_ids = tokenizer.get_vocab()
    return tuple(sorted(token_ids, key=token_ids.__getitem__))


def _batches(texts: Iterable[str]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    num_bytes = 0
    for text in texts:
        batch.append(text.encode("utf-8", "ignore"))  # JSON may bring lone surrogates
        num_bytes += len(batch[-1])
        if num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _count_characters(counts: Mapping[str, int]) -> Counter[str]:
    characters: Counter[str] = Counter()
    for word, number in counts.items():
        for character in word:
            characters[character] += number
    return characters


def _words_without_rare_characters(
    counts: Mapping[str, int], characters: Mapping[str, int], min_frequency: int
) -> dict[str, int]:
    rare = {
        character for character, number in characters.items() if number < min_frequency
    }
    words = {word: counts[word] for word in sorted(counts) if rare.isdisjoint(word)}
    if not words:
        raise DataError(
            f"Characters that occur fewer than {min_frequency:,} times are left out of "
            f"a vocabulary, and each of the {len(counts):,} words has such a one. Give "
            "more text, or a minimum frequency of 1."
        )
    return words


def _alphabet(words: Iterable[str]) -> list[str]:
    """Every character, and with ## in front every one that continues a word."""
    characters: set[str] = set()
    continuing: set[str] = set()
    for word in words:
        characters.update(word)
        continuing.update(word[1:])
    return [*sorted(characters), *(_CONTINUATION + c for c in sorted(continuing))]


def _spell_out(words: Mapping[str, int], divisor: int) -> Iterator[str]:
    """The words as text, each as often as it occurs: the library counts for itself."""
    occurrences = chain.from_iterable(
        repeat(word, number // divisor)
        for word, number in words.items()
        # A longer one might become a token as a whole.
        if len(word.encode()) <= _MAX_TOKEN_BYTES
    )
    while chunk := list(islice(occurrences, _CHUNK_WORDS)):
        yield " ".join(chunk)
