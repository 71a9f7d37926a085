"""JSON as TensorFlow Serving reads it.

Its parser takes the first value of the body and ignores what follows, takes NaN,
Inf and Infinity, and keeps the first of equal keys; Python's json module does the
same with a little help. What it says of a mistake is worded as RapidJSON words it.
Integers beyond 64 bits are floating-point numbers there; here they stay Python
integers, and `is_integer` tells.
"""

import codecs
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from kbert.serving.status import Code, StatusError

_DEBUG_CHARACTERS = 256
_INT64_MIN = -(2**63)
_UINT64_MAX = 2**64 - 1

# What Python's json module says -> what RapidJSON says.
_MESSAGES = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": (
        "Missing a name for object member."
    ),
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or a closing bracket after a value.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    r"|(?P<alone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# RapidJSON's other spellings of what Python calls Infinity and NaN; a string comes
# first, so that nothing in one is touched.
_SPELLINGS = re.compile(
    r'"(?:[^"\\]++|\\.)*+"|(?P<sign>-?)(?P<name>Inf(?:inity)?|NaN)', re.DOTALL
)
_OTHER_SPELLING = re.compile(r"-?Inf(?!inity)|-NaN")


def _first_of_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


def _parse_long_integer(digits: str) -> float | int:
    return int(digits) if len(digits) < 400 else float(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_equal_keys)
# Python refuses to turn more than 4,300 digits into an integer.
_LONG_DECODER = json.JSONDecoder(
    object_pairs_hook=_first_of_equal_keys, parse_int=_parse_long_integer
)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that `body` begins with.

    Strings hold no lone surrogates, so that all of them have a UTF-8 form.

    Raises:
        StatusError: INVALID_ARGUMENT, for all that is wrong with a body.
    """
    if not body:
        raise _invalid("JSON Parse error: The document is empty")
    text = _decode(body)
    start = _skip_space(text, 0)
    if start == len(text):
        raise _parse_error("The document is empty.", text, start)
    try:
        value, end = _parse(text, start)
    except RecursionError:
        raise _invalid("JSON Parse error: The value is nested too deeply") from None
    _check_surrogates(text, end)
    if not isinstance(value, dict):
        raise format_error(value, "Is not object")
    return value


def is_integer(value: Any) -> bool:
    """Whether a parsed value is an integer of 64 bits to TensorFlow Serving."""
    return type(value) is int and _INT64_MIN <= value <= _UINT64_MAX


def format_error(value: Any, rule: str) -> StatusError:
    """Return the error that shows the beginning of `value` and then the rule."""
    return _invalid(f"JSON Value: {debug_string(value)} {rule}")


def type_name(value: Any) -> str:
    """Return the JSON type of a parsed value in RapidJSON's words."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    names = {dict: "Object", list: "Array", str: "String", int: "Number"}
    return names.get(type(value), "Number")


def debug_string(value: Any) -> str:
    """Return the first 256 characters of `value` as indented JSON."""
    # No single piece is longer than that many characters and a few.
    pieces = islice(_pieces(value, 0), _DEBUG_CHARACTERS)
    return "".join(pieces)[:_DEBUG_CHARACTERS]


def _pieces(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEBUG_CHARACTERS:
        return
    if isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ", "
            yield from _pieces(item, depth + 1)
        yield "]"
    elif isinstance(value, dict) and value:
        indent = "\n" + "    " * (depth + 1)
        for index, (key, item) in enumerate(value.items()):
            yield ("," if index else "{") + indent
            yield json.dumps(key[:_DEBUG_CHARACTERS], ensure_ascii=False) + ": "
            yield from _pieces(item, depth + 1)
        yield indent[:-4] + "}"
    elif isinstance(value, str):
        yield json.dumps(value[:_DEBUG_CHARACTERS], ensure_ascii=False)
    elif type(value) is int and not is_integer(value):
        yield "a number of more than 64 bits"  # long ones cannot even be printed
    else:
        yield json.dumps(value)


def _decode(body: bytes) -> str:
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        text = body[: error.start].decode("utf-8")
        try:
            # What follows a whole value is of no interest, whatever it is.
            _parse(text, _skip_space(text, 0))
        except (StatusError, RecursionError):
            raise _parse_error("Invalid encoding in string.", text, len(text)) from None
        return text


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    assert match  # the pattern also matches nothing
    return match.end()


def _parse(text: str, start: int) -> tuple[Any, int]:
    try:
        return _scan(text, start)
    except json.JSONDecodeError as error:
        if _OTHER_SPELLING.match(text, error.pos):
            return _parse(_SPELLINGS.sub(_python_spelling, text), start)
        message = error.msg.split(":")[0] if error.msg not in _MESSAGES else error.msg
        raise _parse_error(
            _MESSAGES.get(message, f"{message}."), text, error.pos
        ) from None


def _scan(text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _LONG_DECODER.raw_decode(text, start)


def _python_spelling(match: re.Match[str]) -> str:
    if match["name"] is None:
        return match[0]
    return "NaN" if match["name"] == "NaN" else f"{match['sign']}Infinity"


def _check_surrogates(text: str, end: int) -> None:
    if not _SURROGATE.search(text, 0, end):
        return
    for match in _ESCAPE.finditer(text, 0, end):
        if match["alone"]:
            raise _parse_error(
                "The surrogate pair in string is invalid.", text, match.start()
            )


def _parse_error(message: str, text: str, position: int) -> StatusError:
    offset = len(text[:position].encode("utf-8", "surrogatepass"))
    return _invalid(f"JSON Parse error: {message} at offset: {offset}")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
