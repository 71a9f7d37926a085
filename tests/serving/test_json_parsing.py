import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert.serving.json_parsing import (
    debug_string,
    is_integer,
    parse_object,
    type_name,
)
from kbert.serving.status import Code, StatusError


def message_of(body: bytes) -> str:
    with pytest.raises(StatusError) as caught:
        parse_object(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b" \n", "JSON Parse error: The document is empty. at offset: 2"),
        (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b"{a", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (
            b'{"a" 1}',
            "JSON Parse error: Missing a colon after a name of object member. "
            "at offset: 5",
        ),
        (b'{"a": }', "JSON Parse error: Invalid value. at offset: 6"),
        (b'{"a": 01}', "at offset: 7"),
        (b'{"a": [1 2]}', "at offset: 9"),
        (b'{"a": "x', "Missing a closing quotation mark in string. at offset: 6"),
        (b'{"a": "\\q"}', "Invalid escape character in string."),
        (b'{"a": "\\u12x4"}', "Incorrect hex digit after \\u escape in string."),
        (b'{"a": "\n"}', "Invalid encoding in string. at offset: 7"),
        (b'{"a": "\xff"}', "Invalid encoding in string. at offset: 7"),
        ('{"ä": ?'.encode(), "at offset: 7"),  # bytes, not characters
        (b"[1]", "JSON Value: [1] Is not object"),
        (b'"x"', 'JSON Value: "x" Is not object'),
        (b"null", "JSON Value: null Is not object"),
    ],
)
def test_what_is_no_json_object(body: bytes, message: str):
    assert message in message_of(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\ud800"}',
        '{"a": "\\uDFFF x"}',
        '{"a": "\\udc00\\ud800"}',
        '{"\\ud83d": 1}',
        '{"a": "\\\\\\ud83d"}',
    ],
)
def test_lone_surrogates_are_refused(text: str):
    assert "The surrogate pair in string is invalid." in message_of(text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\\\ud83d"', "\\ud83d"),
        ('"\\\\\\ud83d\\uDE00"', "\\\U0001f600"),
        ('"\\u0000x"', "\0x"),
    ],
)
def test_escapes(text: str, value: str):
    assert parse_object(f'{{"a": {text}}}'.encode()) == {"a": value}


def test_what_follows_the_object_is_ignored():
    assert parse_object(b'{"a": 1} trailing {') == {"a": 1}
    assert parse_object(b'{"a": 1}\xff\xfe') == {"a": 1}
    assert parse_object(b'\xef\xbb\xbf \t{"a": 1}') == {"a": 1}


def test_numbers_that_json_has_not():
    text = b'{"a": [NaN, Inf, -Inf, Infinity, -Infinity, -NaN], "b": "Inf \\" -NaN"}'
    found = parse_object(text)
    assert found["b"] == 'Inf " -NaN'
    first, *middle, last = found["a"]
    assert math.isnan(first)
    assert math.isnan(last)
    assert middle == [math.inf, -math.inf, math.inf, -math.inf]
    assert "Invalid value." in message_of(b'{"a": [Inf, nan]}')


def test_the_first_of_equal_keys_counts():
    found = parse_object(b'{"a": 1, "b": {"c": 1, "c": 2}, "a": 2, "a": 3}')
    assert found == {"a": 1, "b": {"c": 1}}


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_deep_nesting_is_refused(opening: bytes):
    assert message_of(b'{"a":' + opening * 200_000).startswith("JSON Parse error: ")


def test_very_long_integers():
    found = parse_object(b'{"a": [' + b"9" * 350 + b", 7, -" + b"1" * 5000 + b"]}")
    assert found["a"] == [int("9" * 350), 7, -math.inf]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2**64 - 1, True), (2**64, False), (-(2**63), True), (-(2**63) - 1, False)],
)
def test_integers_of_64_bits(value: int, expected: bool):
    assert is_integer(value) is expected
    assert not is_integer(float(value))
    assert not is_integer(True)


def test_names_of_types():
    values = [None, False, True, {}, [], "", 1, 1.5]
    names = ["Null", "False", "True", "Object", "Array", "String", "Number", "Number"]
    assert [type_name(value) for value in values] == names


def test_debug_string_is_indented_json_on_one_line_a_list():
    value = {"a": [1, "ü", [None, True]], "b": {}}
    text = '{\n    "a": [1, "ü", [null, true]],\n    "b": {}\n}'
    assert debug_string(value) == text
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, {"k" * 10**6: 1}, list(range(10**6)), {"a": 10**5000}, 10**400],
)
def test_debug_string_is_short(value: object):
    assert len(debug_string(value)) <= 256


def test_debug_string_of_deep_lists():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert debug_string(deep) == "[" * 256


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON), st.booleans())
def test_agrees_with_python_on_what_both_take(value: dict, ascii_only: bool):
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_object(body) == value


@given(
    st.binary(max_size=60)
    | st.text(st.characters(codec="utf-8"), max_size=60).map(lambda text: text.encode())
)
def test_whatever_comes_is_an_object_or_a_mistake_of_the_sender(body: bytes):
    for candidate in (body, b'{"a":' + body, b'{"a":"' + body + b'"}'):
        try:
            assert isinstance(parse_object(candidate), dict)
        except StatusError as error:
            assert error.code is Code.INVALID_ARGUMENT
