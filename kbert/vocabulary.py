"""WordPiece vocabularies: reading the file, and what every one must contain.

A vocabulary is a text file with one token a line; a token's id is its line number,
counted from 0. Pure Python, so that it can be checked before TensorFlow is loaded.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from kbert.bounded import read_bounded, shown
from kbert.errors import PresetError

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)

MAX_VOCABULARY_BYTES = 100_000_000
MAX_TOKENS = 2_000_000
"""The largest published BERTs have 500,000; each token takes some 100 bytes here."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_DUPLICATES_SHOWN = 5


def read_vocabulary(path: Path | str) -> tuple[str, ...]:
    """Reads and checks a vocabulary file.

    Only a line feed ends a line: U+2028 and its like can be tokens. A byte order
    mark, carriage returns before line feeds and empty lines at the end are ignored;
    an empty line further up takes an id, as it does in the original BERT.

    Args:
        path: A UTF-8 text file with one token a line.

    Returns:
        The tokens; a token's position is its id.

    Raises:
        PresetError: The file cannot be read, is too large, is not UTF-8, lacks a
            special token or holds a token twice.
    """
    try:
        content = read_bounded(Path(path), MAX_VOCABULARY_BYTES, PresetError)
    except PresetError as error:
        raise PresetError(f"The vocabulary {error}") from None
    if (count := content.count(b"\n")) > MAX_TOKENS:
        raise PresetError(
            f"A vocabulary has at most {MAX_TOKENS:,} tokens, one a line. Received: "
            f"{count:,} lines in {path}. Is it the right file?"
        )
    lines = content.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    tokens = [_decode(line, number, path) for number, line in enumerate(lines, 1)]
    while tokens and not tokens[-1]:
        tokens.pop()
    check_vocabulary(tokens, str(path))
    return tuple(tokens)


def check_vocabulary(vocabulary: Sequence[str], source: str) -> None:
    """Checks that every special token is there and that no token is there twice.

    Args:
        vocabulary: The tokens in the order of their ids.
        source: Where they come from, for the messages.

    Raises:
        PresetError: Naming every missing special token, or the duplicate tokens
            with their line numbers, counted from 1.
    """
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise PresetError(
            f"A BERT vocabulary holds {', '.join(SPECIAL_TOKENS)}; {source} lacks "
            f"{', '.join(missing)}. Add each on a line of its own, or name the "
            "vocabulary that belongs to the model."
        )
    try:
        "".join(vocabulary).encode()
    except UnicodeEncodeError as error:
        raise PresetError(
            f"A vocabulary is Unicode text; {source} holds "
            f"{shown(error.object[error.start])}, half a character. Name the "
            "vocabulary that belongs to the model."
        ) from None
    if len(set(vocabulary)) < len(vocabulary):
        raise PresetError(
            f"Every token of a vocabulary has one id; {source} holds "
            f"{_describe_duplicates(vocabulary)}. Removing a line changes the ids of "
            "all that follow: name the vocabulary that belongs to the model."
        )


def _decode(line: bytes, number: int, path: Path | str) -> str:
    try:
        return line.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise PresetError(
            f"A vocabulary is a UTF-8 text file; {path}, line {number} holds the byte "
            f"0x{line[error.start]:02x}, which is not UTF-8, in column "
            f"{error.start + 1}. Convert the file to UTF-8, or name the right one."
        ) from error


def _describe_duplicates(vocabulary: Sequence[str]) -> str:
    """For example "'the' on lines 7 and 9, 'a' on lines 5, 6 and 8"."""
    numbers = defaultdict(list)
    for number, token in enumerate(vocabulary, 1):
        numbers[token].append(str(number))
    duplicates = [
        f"{shown(token)} on lines {_listed(lines)}"
        for token, lines in numbers.items()
        if len(lines) > 1
    ]
    first = ", ".join(duplicates[:_MAX_DUPLICATES_SHOWN])
    more = len(duplicates) - _MAX_DUPLICATES_SHOWN
    return f"{first} and {more} more" if more > 0 else first


def _listed(lines: Sequence[str]) -> str:
    """For example "5, 6 and 8", or "1, 2, 3, 4, 5 and 1,000 more"."""
    if len(lines) <= _MAX_DUPLICATES_SHOWN + 1:
        return f"{', '.join(lines[:-1])} and {lines[-1]}"
    first = lines[:_MAX_DUPLICATES_SHOWN]
    return f"{', '.join(first)} and {len(lines) - len(first):,} more"
