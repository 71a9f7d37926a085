"""Vocabulary files: what is read, and what is refused with which words."""

import re
from pathlib import Path

import pytest

from kbert.errors import PresetError
from kbert.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_vocabulary

TOKENS = (*SPECIAL_TOKENS, "the", "##s", "é")
TEXT = "\n".join(TOKENS) + "\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "vocabulary.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TEXT, id="plain"),
        pytest.param(TEXT.rstrip("\n"), id="no line feed at the end"),
        pytest.param(TEXT + "\n\n", id="empty lines at the end"),
        pytest.param(TEXT.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(TEXT.replace("\n", "\r\n") + "\r\n", id="CRLF, empty line at end"),
        pytest.param("\ufeff" + TEXT, id="byte order mark"),
    ],
)
def test_reads_the_tokens_in_order(tmp_path: Path, content: str) -> None:
    assert read_vocabulary(write(tmp_path, content)) == TOKENS


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    odd = ("\u2028", "\x85", "\x0b", " ", "a b", "", "last")
    path = write(tmp_path, TEXT + "\n".join(odd))
    assert read_vocabulary(str(path)) == TOKENS + odd


def test_names_every_missing_special_token_and_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[PAD]\n[UNK]\n[CLS]\nthe\n")
    with pytest.raises(PresetError, match=r"lacks \[SEP\], \[MASK\]\.") as caught:
        read_vocabulary(path)
    assert str(path) in str(caught.value)


def test_an_empty_file_lacks_all_special_tokens(tmp_path: Path) -> None:
    message = re.escape("lacks [PAD], [UNK], [CLS], [SEP], [MASK].")
    with pytest.raises(PresetError, match=message):
        read_vocabulary(write(tmp_path, b""))


def test_names_duplicates_with_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + "new\nthe\nthe\né\n")
    message = "'the' on lines 6, 10 and 11, 'é' on lines 8 and 12"
    with pytest.raises(PresetError, match=message) as caught:
        read_vocabulary(path)
    assert str(path) in str(caught.value)


def test_shows_few_of_many_duplicates() -> None:
    letters = list("abcdefgh")
    with pytest.raises(PresetError, match="'e' on lines 10 and 18 and 3 more"):
        check_vocabulary([*SPECIAL_TOKENS, *letters, *letters], "v.txt")


def test_names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.encode() + b"caf\xe9\n")
    message = rf"{re.escape(str(path))}, line 9 holds the byte 0xe9.* column 4"
    with pytest.raises(PresetError, match=message):
        read_vocabulary(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"absent\.txt cannot be read: No such file"):
        read_vocabulary(tmp_path / "absent.txt")


def test_reads_the_real_vocabulary(shared_dir: Path) -> None:
    preset = shared_dir / "data/presets/all_minilm_l6_v2_en"
    tokens = read_vocabulary(preset / "assets/tokenizer/vocabulary.txt")
    assert len(tokens) == 30522
    assert tokens[0] == "[PAD]"
    assert [tokens.index(token) for token in SPECIAL_TOKENS[1:]] == [100, 101, 102, 103]
    assert tokens[1996] == "the"
