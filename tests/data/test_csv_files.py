import csv
import gzip
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbert.data.sources import Columns, open_source
from kbert.errors import DataError
from tests.data.source_checks import rows_of, texts_and_labels, write


@pytest.fixture
def opened(tmp_path):
    """Writes a CSV file and opens it."""

    def open_content(content, name="data.csv", **options):
        return open_source(str(write(tmp_path / name, content)), **options)

    return open_content


def failure(source_or_open) -> str:
    with pytest.raises(DataError) as error:
        rows_of(source_or_open() if callable(source_or_open) else source_or_open)
    return str(error.value)


def test_reads_csv(opened):
    source = opened('text,label\n"a, ""b""\nc", pos \n,neg\n')
    assert texts_and_labels(source) == [('a, "b"\nc', "pos"), ("", "neg")]
    assert source.name == "data.csv"
    assert source.columns == Columns("text", None, "label")
    assert source.label_names is None
    assert source.num_examples is None


def test_reads_tsv_bom_crlf_and_no_last_line_end(opened):
    content = '\ufefftext\tlabel\r\na,b\t1\r\n"c\td"\t2'
    assert texts_and_labels(opened(content, "data.tsv")) == [
        ("a,b", "1"),
        ("c\td", "2"),
    ]


def test_reads_gzip(opened):
    packed = gzip.compress("text,label\nçà,1\n".encode())
    assert texts_and_labels(opened(packed, "data.CSV.gz")) == [("çà", "1")]


def test_reads_pairs(opened):
    source = opened("id,premise,hypothesis,label\n1,a,b,0\n")
    assert rows_of(source) == [("a", "b", "0")]


def test_unlabelled_reads_no_labels(opened):
    source = opened("text,label\na,\nb,1\n", labelled=False)
    assert rows_of(source) == [("a", None, None), ("b", None, None)]
    assert next(source.chunks()).labels is None


def test_reads_long_fields_and_leaves_the_global_limit(opened):
    before = csv.field_size_limit()
    source = opened(f"text,label\n{'x' * 300_000},1\n")
    assert len(rows_of(source)[0][0]) == 300_000
    assert csv.field_size_limit() == before


def test_null_bytes_and_unicode_separators_are_text(opened):
    source = opened("text,label\na\0b,1\nc\u2028d\x85e,2\n")
    assert [text for text, *_ in rows_of(source)] == ["a\0b", "c\u2028d\x85e"]


def test_same_chunks_every_time_and_the_limit(opened):
    content = ["text,label", *(f"t{i},{i % 2}" for i in range(10))]
    source = opened(content, limit=7)
    first = list(source.chunks(3))
    assert [len(chunk) for chunk in first] == [3, 3, 1]
    assert list(source.chunks(3)) == first
    assert [text for text, *_ in rows_of(source)] == [f"t{i}" for i in range(7)]


def test_rows_after_the_limit_are_not_read(opened):
    source = opened("text,label\na,1\nb\n", limit=1)
    assert texts_and_labels(source) == [("a", "1")]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_file(opened, content):
    with pytest.raises(DataError, match=r"data\.csv is empty; it needs a header"):
        opened(content)


@pytest.mark.parametrize("content", ["text,label", "text,label\n\n"])
def test_header_alone(opened, content):
    with pytest.raises(DataError, match=r"data\.csv has a header and no rows"):
        opened(content)


def test_a_row_with_too_few_or_too_many_fields_names_the_line(opened):
    # The quoted field of the first row spans lines 2 and 3; line 4 is blank.
    start = 'text,label\n"a\nb",1\n\n'
    message = failure(opened(start + "c\n"))
    assert "data.csv, line 5: too few fields, 1 where the header has 2" in message
    message = failure(opened(start + "c,d,2\n"))
    assert "data.csv, line 5: too many fields, 3 where the header has 2" in message
    assert "(text, label)" in message


@pytest.mark.parametrize("label", ["", "  ", "nan", "NaN", '""'])
def test_a_missing_label_names_the_line(opened, label):
    message = failure(opened(f"text,label\na,1\nb,{label}\n"))
    assert 'data.csv, line 3: the label in column "label" is missing' in message


def test_broken_quotes_name_the_lines(opened):
    message = failure(opened('text,label\na,1\n"b,1\nc,2\n'))
    assert "data.csv, lines 3 to 4: a double quote opens a field" in message
    message = failure(lambda: opened('text,label\n"a" b,1\n'))
    assert "data.csv, line 2: text follows the closing double quote" in message


def test_carriage_returns_as_line_ends_are_explained(opened):
    message = failure(lambda: opened("text,label\ra,1\r"))
    assert "line 1: a carriage return stands outside double quotes" in message


def test_invalid_utf8_names_line_and_mend(opened):
    content = b'text,label\n"a\nb\xff",1\n'
    message = failure(lambda: opened(content))
    assert "data.csv, line 3: invalid UTF-8 (byte 0xff at byte 2)" in message
    assert "--set data.encoding_errors=replace" in message


@pytest.mark.parametrize(("errors", "text"), [("replace", "a\ufffd"), ("ignore", "a")])
def test_invalid_utf8_can_be_read_on(opened, errors, text):
    source = opened(b"text,label\na\xff,1\n", encoding_errors=errors)
    assert texts_and_labels(source) == [(text, "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,1\n".encode("utf-16"), "looks like UTF-16 text"),
        ("text,label\na,1\n".encode("utf-16-le"), "its header has NUL bytes"),
        (gzip.compress(b"text,label\na,1\n"), r"gzip file \(its name must end in \.gz"),
        (b"PK\x03\x04rest", "zip file or an Excel workbook"),
        (bytes(range(256)) * 20, "looks like a binary file"),
    ],
    ids=["utf-16", "utf-16 without mark", "gzip", "xlsx", "bytes"],
)
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_what_is_no_text_is_said(opened, content, message, errors):
    with pytest.raises(DataError, match=message):
        opened(content, encoding_errors=errors)


def test_broken_gzip(opened):
    message = failure(lambda: opened("text,label\na,1\n", "data.csv.gz"))
    assert "data.csv.gz is not a valid gzip file" in message
    many = "text,label\n" + "".join(f"text number {i},{i}\n" for i in range(50_000))
    cut = gzip.compress(many.encode())[:-2000]
    message = failure(opened(cut, "data.csv.gz"))
    assert "data.csv.gz is a damaged gzip file" in message


def test_a_missing_column_hints_at_the_header(opened):
    content = "good film,1\nbad film,0\n"
    message = failure(lambda: opened(content, columns=Columns("text")))
    assert 'no column "text" (data.text). Columns: good film, 1.' in message
    assert "Line 1 was read as the header" in message


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.integers().map(str),
        ),
        min_size=1,
    ),
    delimiter=st.sampled_from([",", "\t"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_reads_back_what_the_csv_module_wrote(tmp_path, rows, delimiter, line_end):
    buffer = io.StringIO(newline="")
    # Python 3.11's writer leaves CR unquoted where it does not end lines.
    quoting = csv.QUOTE_ALL if line_end == "\n" else csv.QUOTE_MINIMAL
    writer = csv.writer(
        buffer, delimiter=delimiter, lineterminator=line_end, quoting=quoting
    )
    writer.writerows([("text", "label"), *rows])
    name = "data.csv" if delimiter == "," else "data.tsv"
    path = write(tmp_path / name, buffer.getvalue())
    assert texts_and_labels(open_source(str(path))) == rows
