import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kbert.data.sources import Columns, open_source
from kbert.errors import DataError
from tests.data.source_checks import rows_of, texts_and_labels


@pytest.fixture
def opened(tmp_path):
    """Writes columns as Parquet and opens the file."""

    def open_columns(table, **options):
        path = tmp_path / "data.parquet"
        pq.write_table(pa.table(table), path, row_group_size=1000)
        return open_source(str(path), **options)

    return open_columns


def test_reads_parquet_over_row_groups(opened):
    texts = [f"text {i}" for i in range(2500)]
    source = opened(
        {"id": range(2500), "text": texts, "label": [i % 3 for i in range(2500)]}
    )
    assert texts_and_labels(source) == [(t, str(i % 3)) for i, t in enumerate(texts)]
    assert source.num_examples == 2500
    assert source.columns == Columns("text", None, "label")
    assert list(source.chunks()) == list(source.chunks())
    limited = opened({"text": texts, "label": texts}, limit=3)
    assert (limited.num_examples, len(rows_of(limited))) == (3, 3)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([1.0, 2.5]), ["1", "2.5"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
        (pa.array([" b", "a "], pa.large_string()), ["b", "a"]),
        (pa.array([-1, 1], pa.int8()), ["-1", "1"]),
    ],
)
def test_label_types(opened, labels, expected):
    source = opened({"text": ["x", "y"], "label": labels})
    assert [label for *_, label in rows_of(source)] == expected


def test_text_types(opened):
    texts = ["ä", "", "z"]
    for kind in (pa.string(), pa.large_string(), pa.binary()):
        column = pa.array([t.encode() for t in texts], pa.binary()).cast(kind)
        source = opened({"words": column, "n": [1, 2, 3], "label": [1, 2, 3]})
        assert [text for text, *_ in rows_of(source)] == texts
    source = opened({"text": pa.array(texts).dictionary_encode(), "label": [1, 2, 3]})
    assert [text for text, *_ in rows_of(source)] == texts


def test_pairs(opened):
    source = opened({"sentence1": ["a"], "sentence2": ["b"], "label": ["x"]})
    assert rows_of(source) == [("a", "b", "x")]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", None], [1, 2], r'row 2: the text in column "text" must .*: null'),
        (["a", "b"], [1, None], r'row 2: the label in column "label" is missing'),
        (["a", "b"], [1.0, float("nan")], r"row 2: the label .* is missing"),
        (["a", "b"], [[1], [2]], r"row 1: the label .* must be a string"),
        ([b"a", b"\xff"], [1, 2], r'row 2, column "text": invalid UTF-8'),
    ],
)
def test_faulty_rows_are_named(opened, texts, labels, message):
    with pytest.raises(DataError, match=rf"data\.parquet, {message}"):
        rows_of(opened({"text": texts, "label": labels}))


def test_faulty_strings_can_be_read_on(opened):
    columns = {"text": pa.array([b"a\xff"]), "label": [1]}
    assert rows_of(opened(columns, encoding_errors="replace"))[0][0] == "a\ufffd"


def test_a_text_column_of_numbers(opened):
    source = opened({"text": [1], "label": [1]}, columns=Columns("text", None, "label"))
    with pytest.raises(DataError, match=r"row 1: .*must be a string\. Received: int 1"):
        rows_of(source)


def test_no_rows_and_no_parquet(opened, tmp_path):
    with pytest.raises(DataError, match="has no rows"):
        opened({"text": pa.array([], pa.string()), "label": pa.array([], pa.int8())})
    for content in (b"", b"text,label\na,1\n"):
        path = tmp_path / "other.parquet"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"other\.parquet is no readable Parquet"):
            open_source(str(path))


def test_gzipped_parquet(tmp_path):
    texts = [f"text {i}" for i in range(2500)]
    table = pa.table({"text": texts, "label": [i % 3 for i in range(2500)]})
    content = pa.BufferOutputStream()
    pq.write_table(table, content, row_group_size=1000)
    packed = gzip.compress(content.getvalue())
    path = tmp_path / "data.PARQUET.gz"
    path.write_bytes(packed)
    source = open_source(str(path))
    expected = [(text, str(i % 3)) for i, text in enumerate(texts)]
    assert texts_and_labels(source) == expected
    first, second = source.chunks(1000), source.chunks(700)  # one amid the other
    assert next(first).texts == texts[:1000]
    assert next(second).texts == texts[:700]
    assert next(first).texts == texts[1000:2000]
    assert next(second).texts == texts[700:1400]
    assert source.num_examples == 2500

    for content in (b"x", packed[:-12], b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.PARQUET\.gz is (no|not a) "):
            open_source(str(path))
