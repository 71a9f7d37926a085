"""BERT's tokenizer in plain Python, to test the graph against.

Written after the description in the BERT paper (https://arxiv.org/abs/1810.04805) and
the behaviour of its published code, one character at a time and with no regard for
speed. It shares nothing with kbert.
"""

import unicodedata
from collections.abc import Iterator, Mapping

MAX_WORD_CHARACTERS = 100

# First and last code points of the blocks that BERT takes for Chinese characters.
IDEOGRAPH_BLOCKS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class ReferenceTokenizer:
    """Basic tokenizer, then WordPiece."""

    def __init__(
        self, token_ids: Mapping[str, int], *, lowercase: bool, strip_accents: bool
    ) -> None:
        self.token_ids = token_ids
        self.lowercase = lowercase
        self.strip_accents = strip_accents

    def tokenize(self, text: bytes) -> list[int]:
        """The token ids of a text, without special tokens."""
        return [
            self.token_ids[piece]
            for word in self.split_words(text)
            for piece in self.split_pieces(word)
        ]

    def split_words(self, text: bytes) -> list[str]:
        """The basic tokenizer."""
        characters = "".join(map(clean_character, text.decode("utf-8", "ignore")))
        words: list[str] = []
        for chunk in characters.split():
            if self.lowercase:
                chunk = chunk.lower()
            if self.strip_accents:
                decomposed = unicodedata.normalize("NFD", chunk)
                chunk = "".join(
                    c for c in decomposed if unicodedata.category(c) != "Mn"
                )
            words.extend(split_at_punctuation(chunk))
        return " ".join(words).split()

    def split_pieces(self, word: str) -> list[str]:
        """WordPiece: the longest piece first, from the left."""
        if len(word) > MAX_WORD_CHARACTERS:
            return ["[UNK]"]
        pieces: list[str] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                if prefix + word[start:end] in self.token_ids:
                    pieces.append(prefix + word[start:end])
                    start = end
                    break
            else:
                return ["[UNK]"]
        return pieces


def clean_character(character: str) -> str:
    """Drops control characters, makes every space one space, frees ideographs."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if character == "\ufffd" or category in ("Cc", "Cf"):
        return ""
    if any(first <= ord(character) <= last for first, last in IDEOGRAPH_BLOCKS):
        return f" {character} "
    return character


def split_at_punctuation(chunk: str) -> Iterator[str]:
    """Yields every punctuation character alone and what stands between them."""
    word = ""
    for character in chunk:
        if is_punctuation(character):
            yield word
            yield character
            word = ""
        else:
            word += character
    yield word


def is_punctuation(character: str) -> bool:
    """Unicode punctuation, and whatever ASCII prints but letters and digits."""
    if "!" <= character <= "~":
        return not character.isalnum()
    return unicodedata.category(character).startswith("P")
