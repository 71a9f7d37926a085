"""BERT's tokenizer as a graph of portable TensorFlow ops, and packing for the model.

`WordPieceTokenizer` gives what the original BERT gives (a basic tokenizer, then
WordPiece; Devlin et al. 2019, https://arxiv.org/abs/1810.04805). The same graph runs
in training and in the exported model, hence its ops are those that every TensorFlow
Serving since 2.12 has: core ops and, from tensorflow-text, NormalizeUTF8 in form NFD
and FastWordpieceTokenizeWithOffsets. No lookup table, no Python.

What differs from the original: the few characters that are newer than the Unicode
tables of TensorFlow (13 for lower-casing); words over 100 characters become [UNK], as
in Hugging Face's tokenizers, where its code allowed 200; without `strip_accents`, a
process with a Turkish or Lithuanian locale lower-cases some dotted letters its own way.
Hugging Face's tokenizers, besides, drop private-use characters and know no final sigma.

Shapes: B batch, T tokens, W words of a batch.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import tensorflow as tf
import tensorflow_text as tf_text

from kbert.errors import PresetError
from kbert.vocabulary import CLS, MASK, PAD, SEP, UNK, check_vocabulary

Truncation = Literal["head", "tail", "head_tail"]

# Regular expressions of RE2, https://github.com/google/re2/wiki/Syntax.
_PLAIN_TEXT = r"[\t\n\r -~]*"
_DROPPED = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\p{Cf}\x{FFFD}]"
_UNICODE_SPACE = r"\p{Z}"
_ACCENT = r"\p{Mn}"
_PUNCTUATION = r"!-/:-@\[-`{-~\p{P}"
_IDEOGRAPH = (
    r"\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}"
    r"\x{2B740}-\x{2B81F}\x{2B820}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}"
)
_WORD_OF_ITS_OWN = f"[{_PUNCTUATION}{_IDEOGRAPH}]"
_MAX_WORD_CHARACTERS = 100
_OVERLONG_WORD = rf"[^\t\n\r ]{{{_MAX_WORD_CHARACTERS + 1},}}"

_MAX_CHARACTER_BYTES = 4
_MAX_PIECE_BYTES = 256  # tensorflow-text keeps a piece's length in eight bits
_NEVER_IN_A_WORD = re.compile(r"[\s\x00-\x1F\x7F-\x9F]")

_HEAD_TOKENS = 128  # of head_tail; Sun et al. 2019, https://arxiv.org/abs/1905.05583


class WordPieceTokenizer:
    """Turns texts into WordPiece ids, as the original BERT does.

    Special tokens are not added, and not recognised where a text spells them.

    Args:
        vocabulary: The tokens in the order of their ids.
        lowercase: Lower-case the text; what an uncased vocabulary needs.
        strip_accents: Remove combining marks; what an uncased vocabulary needs.

    Raises:
        PresetError: A special token is missing, a token is there twice or has more
            than 256 bytes.
    """

    def __init__(
        self, vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool
    ) -> None:
        check_vocabulary(vocabulary, "the vocabulary")
        self.vocabulary = tuple(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.pad_id = self.vocabulary.index(PAD)
        self.unk_id = self.vocabulary.index(UNK)
        self.cls_id = self.vocabulary.index(CLS)
        self.sep_id = self.vocabulary.index(SEP)
        self.mask_id = self.vocabulary.index(MASK)
        self._wordpiece = tf_text.FastWordpieceTokenizer(
            _matchable(self.vocabulary),
            # The limit is one of characters (_OVERLONG_WORD); this one never decides.
            max_bytes_per_word=_MAX_WORD_CHARACTERS * _MAX_CHARACTER_BYTES,
            token_out_type=tf.int32,
            no_pretokenization=True,
        )

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Tokenizes a batch of texts; works eagerly, in `tf.function` and `tf.data`.

        Args:
            texts: [B] strings in UTF-8; bytes that are not UTF-8 are ignored.

        Returns:
            [B, (T)] int32 token ids.
        """
        # Strings live on the CPU: where there is a GPU, keep the indices there too.
        with tf.device("CPU:0"):
            words = self.split_words(texts)
            pieces = self._wordpiece.tokenize(words.values)  # [W, (pieces)]
            row_splits = tf.gather(pieces.row_splits, words.row_splits)
            return tf.RaggedTensor.from_row_splits(
                pieces.values, row_splits, validate=False
            )

    def split_words(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """The basic tokenizer: [B] texts -> [B, (words)], overlong ones as [UNK]."""
        texts = tf.convert_to_tensor(texts, tf.string)
        # Plain ASCII, which most texts are, needs no more than lower-casing. The others
        # get it too: where the locale is Turkish, only this form makes "I" an "i".
        is_plain = tf.strings.regex_full_match(texts, _PLAIN_TEXT)
        if self.lowercase:
            texts = tf.strings.lower(texts)
        others = tf.where(~is_plain)
        texts = tf.tensor_scatter_nd_update(
            texts, others, self._normalize(tf.gather_nd(texts, others))
        )
        texts = tf.strings.regex_replace(texts, _WORD_OF_ITS_OWN, r" \0 ")
        texts = tf.strings.regex_replace(texts, _OVERLONG_WORD, UNK)
        return tf.strings.split(texts)

    def _normalize(self, texts: tf.Tensor) -> tf.Tensor:
        """Cleans, lower-cases and strips accents: [B] any bytes -> [B] valid UTF-8."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        # Before lower-casing: its op ends at a NUL, and a final sigma looks around.
        texts = tf.strings.regex_replace(texts, _DROPPED, "")
        texts = tf.strings.regex_replace(texts, _UNICODE_SPACE, " ")
        if self.lowercase:
            texts = tf.strings.lower(texts, encoding="utf-8")
        if self.strip_accents:
            texts = tf_text.normalize_utf8(texts, "NFD")
            texts = tf.strings.regex_replace(texts, _ACCENT, "")
        return texts


def _matchable(vocabulary: tuple[str, ...]) -> list[str]:
    """The vocabulary, with a stand-in for every token that no word can contain.

    A stand-in holds a space, which no word does, and keeps the ids in place.
    """
    tokens = []
    for token_id, token in enumerate(vocabulary):
        piece = token.removeprefix("##")
        if len(piece) > _MAX_WORD_CHARACTERS or _NEVER_IN_A_WORD.search(piece):
            piece = ""
        if len(piece.encode()) > _MAX_PIECE_BYTES:
            raise PresetError(
                f"A token has at most {_MAX_PIECE_BYTES} bytes in UTF-8; line "
                f"{token_id + 1} of the vocabulary has {len(piece.encode())}: "
                f"{token!r}. Replace it by an unused token such as "
                f"[unused{token_id}], so that the other ids stay as they are."
            )
        tokens.append(token if piece else f" {token_id}")
    return tokens


class Packed(NamedTuple):
    """Tokens with [CLS] and [SEP], cut to a length, as BERT takes them."""

    token_ids: tf.RaggedTensor  # [B, (T)] int32
    segment_ids: tf.RaggedTensor  # [B, (T)] int32; 1 for the second text, else 0
    num_tokens: tf.Tensor  # [B] int32 before cutting, special tokens included


def pack(
    tokens: tf.RaggedTensor,
    pair_tokens: tf.RaggedTensor | None,
    *,
    max_length: int,
    truncation: Truncation,
    cls_id: int,
    sep_id: int,
) -> Packed:
    """Cuts the tokens to a length and adds [CLS] and [SEP].

    One text becomes `[CLS] a [SEP]`, two become `[CLS] a [SEP] b [SEP]`. Of two texts
    the longer is cut first: each may have half of the room, the first the odd token,
    and what one does not need goes to the other.

    Args:
        tokens: [B, (T)] int32 ids of the texts.
        pair_tokens: [B, (T)] int32 ids of the second texts, or None.
        max_length: Most tokens of a row, special tokens included.
        truncation: What a long text keeps: its "head", its "tail", or "head_tail",
            128 tokens of the head (two thirds of the room where that is less) and
            the rest of the tail.
        cls_id: The id of [CLS].
        sep_id: The id of [SEP].

    Raises:
        ValueError: `max_length` leaves no room for text, or `truncation` is unknown.
    """
    num_special = 2 if pair_tokens is None else 3
    room = max_length - num_special
    if room < 1:
        raise ValueError(
            f"max_length counts [CLS] and every [SEP] too: it must be at least "
            f"{num_special + 1}, received {max_length}."
        )
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    if pair_tokens is None:
        pair_lengths = tf.zeros_like(lengths)
    else:
        pair_lengths = tf.cast(pair_tokens.row_lengths(), tf.int32)
    budgets = tf.minimum(lengths, tf.maximum(room - pair_lengths, room - room // 2))
    cls_column = tf.fill([tokens.nrows(), 1], cls_id)
    sep_column = tf.fill([tokens.nrows(), 1], sep_id)

    kept = _truncate(tokens, budgets, truncation)
    token_ids = tf.concat([cls_column, kept, sep_column], axis=1)
    segment_ids = tf.zeros_like(token_ids)
    if pair_tokens is not None:
        pair_budgets = tf.minimum(pair_lengths, room - budgets)
        pair_kept = _truncate(pair_tokens, pair_budgets, truncation)
        pair_ids = tf.concat([pair_kept, sep_column], axis=1)
        token_ids = tf.concat([token_ids, pair_ids], axis=1)
        segment_ids = tf.concat([segment_ids, tf.ones_like(pair_ids)], axis=1)
    return Packed(token_ids, segment_ids, lengths + pair_lengths + num_special)


def pad(
    packed: Packed, *, pad_id: int, max_length: int, multiple_of: int
) -> dict[str, tf.Tensor]:
    """Pads packed rows to the longest of them, rounded up, in graph ops.

    Args:
        packed: what `pack` returned.
        pad_id: the id of [PAD].
        max_length: the most tokens of a row, as given to `pack`; the length is not
            rounded up beyond it.
        multiple_of: what the length is rounded up to a multiple of.

    Returns:
        `token_ids`, `segment_ids` and `padding_mask` (1 where there is a token), each
        [B, T] int32.
    """
    lengths = tf.cast(packed.token_ids.row_lengths(), tf.int32)
    longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))  # a batch may be empty
    length = tf.minimum(-(-longest // multiple_of) * multiple_of, max_length)
    shape = tf.stack([tf.size(lengths), length])
    return {
        "token_ids": packed.token_ids.to_tensor(default_value=pad_id, shape=shape),
        "segment_ids": packed.segment_ids.to_tensor(shape=shape),
        "padding_mask": tf.sequence_mask(lengths, length, dtype=tf.int32),
    }


def _truncate(
    tokens: tf.RaggedTensor, budgets: tf.Tensor, truncation: Truncation
) -> tf.RaggedTensor:
    """Keeps `budgets` [B] tokens, at most the row's length, of each row of [B, (T)]."""
    if truncation == "head":
        heads = budgets
    elif truncation == "tail":
        heads = tf.zeros_like(budgets)
    elif truncation == "head_tail":
        heads = tf.minimum(_HEAD_TOKENS, budgets * 2 // 3)
    else:
        raise ValueError(
            f'truncation is "head", "tail" or "head_tail", received {truncation!r}.'
        )
    starts = tokens.row_starts()
    limits = tokens.row_limits()
    heads = tf.cast(heads, starts.dtype)
    tails = tf.cast(budgets, starts.dtype) - heads
    positions = tf.concat(
        [
            tf.ragged.range(starts, starts + heads),
            tf.ragged.range(limits - tails, limits),
        ],
        axis=1,
    )
    return positions.with_values(tf.gather(tokens.values, positions.values))
