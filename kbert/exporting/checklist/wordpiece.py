"""The model of a FastWordpieceTokenizer: what tensorflow-text compiles a vocabulary to.

A flatbuffer, whose fields are in
https://github.com/tensorflow/text/blob/master/tensorflow_text/core/kernels/fast_wordpiece_tokenizer_model.fbs
It has the vocabulary as a double-array trie
(https://github.com/s-yata/darts-clone) with the tokens' ids; that and the tables made
from it are enough to see whether the tokenizer finds what the vocabulary says.
"""

import random
import struct
from dataclasses import dataclass

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

# Numbers of fields.
_TRIE, _MOST_BYTES, _SUFFIX, _UNKNOWN_ID, _END_TO_END = 0, 4, 5, 7, 10
_MOST_TOKENS = 2**22


@dataclass(frozen=True)
class WordpieceModel:
    """What is in the model.

    Attributes:
        ids: the id of each token, those inside of words with `suffix` before them.
        suffix: what marks a token inside of a word, mostly `##`.
        unknown_id: the id of a word that is not made of tokens.
        most_bytes: a word with more is unknown.
        splits_words: whether it takes whole texts and not words.
    """

    ids: dict[bytes, int]
    suffix: bytes
    unknown_id: int
    most_bytes: int
    splits_words: bool

    def sample(self, count: int) -> list[bytes]:
        """Words for tokens taken at random, always the same ones.

        A token inside of words comes after a word's first token.
        """
        keys = sorted(self.ids)
        firsts = [key for key in keys if not key.startswith(self.suffix)]
        first = min(firsts, key=len, default=b"")
        return [
            first + key.removeprefix(self.suffix)
            if key.startswith(self.suffix)
            else key
            for key in random.Random(0).sample(keys, min(count, len(keys)))
        ]

    def tokenize(self, word: bytes) -> list[int]:
        """The longest token first, as WordPiece is defined."""
        if len(word) > self.most_bytes:
            return [self.unknown_id]
        ids = []
        rest, prefix = word, b""
        while rest:
            ends = range(len(rest), 0, -1)
            end = next((n for n in ends if prefix + rest[:n] in self.ids), None)
            if end is None:
                return [self.unknown_id]
            ids.append(self.ids[prefix + rest[:end]])
            rest, prefix = rest[end:], self.suffix
        return ids


def read_model(data: bytes) -> WordpieceModel:
    """Reads a model.

    Raises:
        ValueError: it is none.
    """
    try:
        return _read(data)
    except (struct.error, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"no tokenizer's model: {error}") from None


def _read(data: bytes) -> WordpieceModel:
    buffer = bytearray(data)
    table = Table(buffer, int.from_bytes(buffer[:4], "little"))

    def number(field: int) -> int:
        offset = table.Offset(4 + 2 * field)
        flags = number_types.Uint32Flags
        return table.Get(flags, table.Pos + offset) if offset else 0

    def flag(field: int) -> bool:
        offset = table.Offset(4 + 2 * field)
        return bool(offset and table.Get(number_types.BoolFlags, table.Pos + offset))

    trie, suffix = table.Offset(4 + 2 * _TRIE), table.Offset(4 + 2 * _SUFFIX)
    if not trie or not suffix:
        raise ValueError("no tokenizer's model: it has no vocabulary")
    units = np.frombuffer(data, "<u4", table.VectorLen(trie), table.Vector(trie))
    return WordpieceModel(
        ids=_tokens(units),
        suffix=bytes(table.String(table.Pos + suffix)),
        unknown_id=number(_UNKNOWN_ID),
        most_bytes=number(_MOST_BYTES),
        splits_words=flag(_END_TO_END),
    )


def _tokens(units: np.ndarray) -> dict[bytes, int]:
    """The keys of a double-array trie and the ids in their values."""
    labels = np.arange(1, 256, dtype=np.int64)
    size = len(units)
    ids: dict[bytes, int] = {}
    # A trie cannot have more nodes than units; one with a circle would.
    num_nodes = 0
    open_nodes = [(0, b"")]
    while open_nodes:
        node, key = open_nodes.pop()
        num_nodes += 1
        if num_nodes > size or len(ids) > _MOST_TOKENS:
            raise ValueError("no tokenizer's model: its trie goes in a circle")
        unit = int(units[node])
        base = node ^ ((unit >> 10) << ((unit & 0x200) >> 6))
        if unit & 0x100:
            # Bits: 30 inside of words, 8 to 29 the id, 0 to 7 the length less one.
            ids[key] = int(units[base]) >> 8 & 0x3FFFFF
        children = base ^ labels
        children = children[children < size]
        found = children[(units[children] & 0x800000FF) == (base ^ children)]
        open_nodes += [(int(c), key + bytes([int(c) ^ base])) for c in found]
    return ids
