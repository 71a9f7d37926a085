"""Text takes the columns that a terminal gives it."""

import pytest

from kbert.display import align_columns, cut, display_width, list_some, printable


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("abc", 3),
        ("中文", 4),
        ("ｶ", 1),
        ("\uff21", 2),
        ("e\u0301", 1),
        ("é中", 3),
    ],
)
def test_width(text: str, width: int) -> None:
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("中文字", 6, "中文字"),
        ("中文字", 5, "中文…"),
        ("中文字", 4, "中…"),  # half a character does not fit
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_cut(text: str, columns: int, expected: str) -> None:
    assert cut(text, columns) == expected
    assert display_width(expected) <= columns


def test_printable_keeps_one_line_and_no_commands_for_the_terminal() -> None:
    text = "naïve\t中\r\n\x1b[31m\u2028\ud800"
    assert printable(text) == r"naïve\t中\r\n\x1b[31m\u2028\ud800"


def test_columns_line_up() -> None:
    rows = [["名", "n"], ["abc", "1000"], ["d", "7"]]
    assert align_columns(rows) == ["名      n", "abc  1000", "d       7"]
    assert align_columns(rows, num_left=2, gap="|") == ["名 |n", "abc|1000", "d  |7"]


def test_a_long_list_is_cut():
    assert list_some(["a", "b"]) == "a, b"
    assert list_some(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert list_some(["a", "b"], most=2, quoted=True) == "'a', 'b'"
    assert list_some([]) == ""
