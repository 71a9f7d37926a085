import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbert.data.sources import Columns, open_source
from kbert.errors import DataError
from tests.data.source_checks import rows_of, texts_and_labels, write


@pytest.fixture
def opened(tmp_path):
    """Writes a JSON lines file and opens it."""

    def open_lines(*lines, name="data.jsonl", **options):
        content = b"".join(
            (line if isinstance(line, bytes) else line.encode()) + b"\n"
            for line in lines
        )
        return open_source(str(write(tmp_path / name, content)), **options)

    return open_lines


GOOD = '{"text": "a", "label": "x"}'


def failure(source_or_open) -> str:
    with pytest.raises(DataError) as error:
        rows_of(source_or_open() if callable(source_or_open) else source_or_open)
    return str(error.value)


def test_reads_json_lines(opened):
    source = opened(GOOD, "", '{"label": " y ", "text": "", "more": [1]}')
    assert texts_and_labels(source) == [("a", "x"), ("", "y")]
    assert source.name == "data.jsonl"
    assert source.columns == Columns("text", None, "label")


def test_reads_gzip_and_ndjson(tmp_path):
    path = write(tmp_path / "data.ndjson.gz", gzip.compress(f"{GOOD}\n".encode()))
    assert texts_and_labels(open_source(str(path))) == [("a", "x")]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ("-0.0", "0"),
        ("0.5", "0.5"),
        ("true", "true"),
        ("false", "false"),
        ('"1.0"', "1.0"),
        ("12345678901234567890", "12345678901234567890"),
    ],
)
def test_labels_become_strings(opened, value, label):
    source = opened(f'{{"text": "a", "label": {value}}}')
    assert texts_and_labels(source) == [("a", label)]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("null", "is missing.*Received: null"),
        ('""', "is missing.*Received: ''"),
        ('" \\t"', "is missing"),
        ("NaN", "is missing.*Received: float nan"),
        ("Infinity", "is missing.*Received: float inf"),
        ('"nan"', "is missing.*Received: 'nan'"),
        ("[1]", r"must be a string, a number or a boolean.*Received: list \[1\]"),
        ('{"a": 1}', r"must be a string.*Received: dict \{'a': 1\}"),
    ],
)
def test_faulty_label(opened, value, rule):
    source = opened(GOOD, f'{{"text": "a", "label": {value}}}')
    with pytest.raises(DataError, match=rf'jsonl, line 2: the label .*"label" {rule}'):
        rows_of(source)


@pytest.mark.parametrize(
    ("value", "received"),
    [("null", "null"), ("3", "int 3"), ('["a"]', "list ['a']"), ("true", "bool True")],
)
def test_a_text_must_be_a_string(opened, value, received):
    message = failure(opened(GOOD, f'{{"text": {value}, "label": "x"}}'))
    assert 'line 2: the text in column "text" must be a string' in message
    assert f"Received: {received}." in message


@pytest.mark.parametrize(
    ("line", "received"),
    [('"abc"', 'a string "abc"'), ("3", "a number 3"), ("null", "null"), ("[1]", "an")],
)
def test_a_line_must_be_an_object(opened, line, received):
    message = failure(opened(GOOD, line))
    assert "data.jsonl, line 2: each line must be a JSON object" in message
    assert f"Received: {received}" in message


def test_invalid_json_names_line_and_column(opened):
    message = failure(opened(GOOD, "", '{"text": "a", label: "x"}'))
    assert "data.jsonl, line 3, column 15: invalid JSON" in message


def test_an_array_over_several_lines_is_explained(opened):
    message = failure(lambda: opened("[", GOOD + ",", GOOD, "]"))
    assert "line 1, column 2: invalid JSON" in message
    assert "jq -c '.[]'" in message


def test_a_number_that_python_refuses(opened):
    message = failure(opened(GOOD, f'{{"text": "a", "label": {"1" * 5000}}}'))
    assert "line 2: JSON that cannot be read" in message


def test_a_key_that_a_later_line_lacks(opened):
    message = failure(opened(GOOD, '{"text": "a", "lable": "x"}'))
    assert 'line 2: there is no column "label"' in message
    assert "Nearest: --set data.label=lable" in message


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(tmp_path, content):
    path = write(tmp_path / "data.jsonl", content)
    with pytest.raises(DataError, match=r"data\.jsonl is empty"):
        open_source(str(path))


def test_invalid_utf8_names_the_line(opened):
    bad = b'{"text": "a\xff", "label": "x"}'
    message = failure(opened(GOOD, bad))
    assert "data.jsonl, line 2: invalid UTF-8 (byte 0xff at byte 12)" in message
    assert "--set data.encoding_errors=replace" in message
    source = opened(GOOD, bad, encoding_errors="replace")
    assert texts_and_labels(source)[1] == ("a\ufffd", "x")


def test_lone_surrogates_are_invalid_utf8(opened):
    bad = r'{"text": "a\ud800b", "label": "x"}'
    message = failure(opened(GOOD, bad))
    assert r"line 2: the string in column \"text\"".replace("\\", "") in message
    assert r"\ud800" in message
    assert "--set data.encoding_errors=replace" in message
    for errors, text in [("replace", "a\ufffdb"), ("ignore", "ab")]:
        assert rows_of(opened(bad, encoding_errors=errors))[0][0] == text


def test_a_surrogate_pair_is_one_character(opened):
    assert rows_of(opened(r'{"text": "\ud83d\ude00", "label": 1}'))[0][0] == "😀"


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
    ascii_only=st.booleans(),
)
def test_reads_back_what_the_json_module_wrote(tmp_path, rows, ascii_only):
    lines = [
        json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only)
        for text, label in rows
    ]
    path = write(tmp_path / "data.jsonl", lines)
    assert texts_and_labels(open_source(str(path))) == rows
