"""A file is known again by what is in it."""

from pathlib import Path

import pytest

from kbert.data.fingerprints import fingerprint_of
from kbert.errors import DataError


def print_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return fingerprint_of(path)


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 1_000_000, 1_048_576])
def test_every_byte_of_a_small_file_counts(tmp_path, size):
    content = bytes(size)
    before = print_of(tmp_path / "a", content)
    assert print_of(tmp_path / "b", content) == before
    assert print_of(tmp_path / "a", content + b"x") != before
    for place in {p for p in (0, 1, 16_384, size // 2, size - 1) if 0 <= p < size}:
        changed = content[:place] + b"x" + content[place + 1 :]
        assert print_of(tmp_path / "a", changed) != before, place


def test_of_a_large_file_both_ends_and_what_is_between_count(tmp_path):
    size = 50_000_000
    content = bytes(size)
    before = print_of(tmp_path / "a", content)
    for start, end in ((0, 1), (size - 1, size), (20_000_000, 21_000_000)):
        changed = content[:start] + b"x" * (end - start) + content[end:]
        assert print_of(tmp_path / "a", changed) != before, start


def test_a_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(1_000_000_000_000)  # takes no room, and an hour to read
    assert fingerprint_of(path).startswith("1000000000000 bytes, sha256 ")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.txt cannot be read"):
        fingerprint_of(tmp_path / "gone.txt")
