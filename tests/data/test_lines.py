import io

import pytest

from kbert.data.sources import read_plain_texts
from kbert.errors import DataError
from tests.data.source_checks import write

CONTENT = "a\r\n\nb\u2028c\x0bd\re\n  f \r\r\nlast".encode()
TEXTS = ["a", "", "b\u2028c\x0bd\re", "  f \r", "last"]


def test_a_line_is_a_text(tmp_path):
    path = write(tmp_path / "in.txt", b"\xef\xbb\xbf" + CONTENT)
    assert list(read_plain_texts(path)) == TEXTS
    assert list(read_plain_texts(str(path))) == TEXTS
    assert list(read_plain_texts(io.BytesIO(CONTENT))) == TEXTS
    assert list(read_plain_texts(io.BytesIO(b"a\n\n"))) == ["a", ""]
    assert list(read_plain_texts(io.BytesIO(b""))) == []


def test_streams_before_the_end(tmp_path):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:2] = b"x\n"
            return 2

    texts = read_plain_texts(io.BufferedReader(Endless()))
    assert [next(texts) for _ in range(3)] == ["x", "x", "x"]


def test_invalid_utf8_names_the_line(tmp_path):
    content = b"a\nb\xc3\n"
    path = write(tmp_path / "in.txt", content)
    with pytest.raises(DataError, match=r"in\.txt, line 2: invalid UTF-8 \(byte 0xc3"):
        list(read_plain_texts(path))
    with pytest.raises(DataError, match=r"input, line 2: .*encoding_errors=replace"):
        list(read_plain_texts(io.BytesIO(content)))
    assert list(read_plain_texts(path, "replace")) == ["a", "b\ufffd"]
    assert list(read_plain_texts(io.BytesIO(content), "ignore")) == ["a", "b"]


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt cannot be read: No such file"):
        list(read_plain_texts(tmp_path / "none.txt"))
