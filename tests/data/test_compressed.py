import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from kbert.data.compressed import (
    FORMATS,
    READ_ERRORS,
    is_compressed,
    open_unpacked,
    unpacked_blocks,
)
from kbert.data.lines import read_lines
from kbert.data.sources import open_source
from kbert.errors import DataError
from tests.data.source_checks import texts_and_labels, write


def zstd(content: bytes) -> bytes:
    file = pa.BufferOutputStream()
    with pa.CompressedOutputStream(file, "zstd") as stream:
        stream.write(content)
    return file.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".zst": zstd,
}
CONTENT = b"".join(b"line %d of a text, %d\n" % (n, n * n) for n in range(50_000))


@pytest.fixture(params=list(PACK))
def ending(request) -> str:
    return request.param


def test_every_format_is_tested():
    assert PACK.keys() == FORMATS.keys()


def test_unpacks(tmp_path, ending):
    path = write(tmp_path / f"a.txt{ending.upper()}", PACK[ending](CONTENT))
    assert is_compressed(path)
    assert b"".join(unpacked_blocks(path)) == CONTENT
    assert {len(block) for block in unpacked_blocks(path, 1000)} <= {
        1000,
        len(CONTENT) % 1000,
    }
    with open_unpacked(path) as stream:
        assert stream.peek(10)[:10] == CONTENT[:10]
        assert stream.readline() == b"line 0 of a text, 0\n"
    assert "".join(read_lines(path, "strict")).encode() == CONTENT


def test_what_was_packed_in_parts_is_read_whole(tmp_path, ending):
    """As `cat a.gz b.gz > both.gz` has it, and the tools that pack in parallel."""
    path = write(tmp_path / f"a{ending}", PACK[ending](b"a\n") + PACK[ending](b"b\n"))
    assert list(read_lines(path, "strict")) == ["a\n", "b\n"]


def test_a_damaged_file_is_named(tmp_path, ending):
    packed = PACK[ending](CONTENT)
    name = FORMATS[ending]
    path = write(tmp_path / f"a{ending}", packed[: len(packed) * 3 // 4])
    with pytest.raises(DataError, match=rf"a damaged {name} file, readable up to line"):
        list(read_lines(path, "strict"))
    with pytest.raises(DataError, match=rf"a\{ending} is not a valid {name} file, or"):
        list(unpacked_blocks(path))
    for content in (b"hello, world", packed[:5]):
        write(path, content)
        with pytest.raises(DataError, match=rf"a\{ending} is not a valid {name} file"):
            list(read_lines(path, "strict"))


def test_a_missing_file(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    with pytest.raises(READ_ERRORS):
        open_unpacked(path)
    with pytest.raises(DataError, match=r"cannot be read: No such file or directory\."):
        list(unpacked_blocks(path))


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_a_wrong_name_is_told(tmp_path, ending):
    path = write(tmp_path / "a.txt", PACK[ending](b"hello"))
    with pytest.raises(DataError, match=rf"its name must end in \{ending}"):
        list(read_lines(path, "replace"))


def test_tables_are_unpacked_too(tmp_path, ending):
    path: Path = write(tmp_path / f"a.csv{ending}", PACK[ending](b"text,label\na,1\n"))
    assert texts_and_labels(open_source(str(path))) == [("a", "1")]
    import pyarrow.parquet as pq

    table = pa.table({"text": ["a", "b"], "label": ["1", "0"]})
    file = pa.BufferOutputStream()
    pq.write_table(table, file)
    packed = PACK[ending](file.getvalue().to_pybytes())
    path = write(tmp_path / f"a.parquet{ending}", packed)
    assert texts_and_labels(open_source(str(path))) == [("a", "1"), ("b", "0")]
