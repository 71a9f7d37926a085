"""Requests to TensorFlow Serving's REST, from right to absurd."""

import gzip
import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from benchmarks.serving.fuzz_base import (
    ENCODED,
    KEYS,
    MODEL,
    SIGNATURES,
    damaged,
    mostly,
)

_signatures = st.sampled_from([*SIGNATURES]) | st.text(max_size=10)
_texts = st.text(max_size=30) | st.sampled_from(["good", "x" * 10_000, "\0", "\ud800"])
_numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, 1, 2**31, 2**63, -(2**63) - 1, 10**400])
)
_leaves = st.none() | st.booleans() | _numbers | _texts
_json = st.recursive(
    _leaves | st.fixed_dictionaries({"b64": _texts}),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | _texts, inner, max_size=4)
    ),
    max_leaves=12,
)
_rows = st.lists(_texts, max_size=4) | st.lists(
    st.dictionaries(st.sampled_from(KEYS), _json, max_size=3), max_size=4
)
_columns = st.dictionaries(st.sampled_from(KEYS), _rows | _json, max_size=4)
_ids = st.lists(st.integers(-2, 2**31), max_size=3)
_right_texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4
)
_right_bodies = st.one_of(
    st.fixed_dictionaries({"instances": _right_texts}),
    st.fixed_dictionaries({"inputs": _right_texts}),
    st.fixed_dictionaries(
        {
            "signature_name": st.just("classify"),
            "examples": st.lists(
                st.fixed_dictionaries(
                    {"text": _right_texts.map(lambda texts: texts[0])}
                ),
                min_size=1,
                max_size=4,
            ),
        }
    ),
)
_near_bodies = st.one_of(
    st.fixed_dictionaries({"instances": _rows}),
    st.fixed_dictionaries({"inputs": _rows | _columns}),
    st.fixed_dictionaries(
        {
            "signature_name": st.just("encoded"),
            "instances": st.lists(
                st.fixed_dictionaries(dict.fromkeys(ENCODED, _ids)), max_size=3
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "signature_name": st.sampled_from(["classify", "classify", "encoded"]),
            "examples": st.lists(
                st.dictionaries(st.sampled_from(KEYS), _leaves, max_size=2), max_size=3
            ),
        }
    ),
)
_far_bodies = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": _signatures | _json,
        "instances": _rows | _json,
        "inputs": _rows | _columns | _json,
        "examples": _rows | _json,
        "context": _json,
    },
)
_odd_bodies = st.sampled_from(
    [
        *(b"", b" ", b"null", b"{", b"[" * 100_000, b'{"instances":' * 20_000),
        *(b'{"instances":["a"]}{', b'\xef\xbb\xbf{"instances":["a"]}'),
        *(b'{"instances":["\xff"]}', b'{"instances":["\\ud800"]}'),
        *(b'{"instances":[' + b"9" * 50_000 + b"]}", b'{"instances":[1e999999]}'),
        *(b'{"instances":["a"],"instances":["b"]}', b'{"instances":[NaN,-Infinity]}'),
        '{"instances":["a"]}'.encode("utf-16"),
        b'{"instances":["' + b"a" * 3_000_000 + b'"]}',
        b'{"instances":[' + b'"a",' * 20_000 + b'"a"]}',
    ]
)


class RestCase(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


_odd_headers = st.sampled_from(
    [
        *({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}),
        *({"Content-Encoding": "br"}, {"Expect": "100-continue"}),
        *({"Origin": "http://elsewhere"}, {"Accept-Encoding": "\xff"}),
    ]
)


@st.composite
def rest_cases(draw: st.DrawFn) -> RestCase:
    """Requests that are near to right ones, and some that are far."""
    method, path = draw(mostly(_usual_calls, _odd_calls()))
    far = (_far_bodies | _json).map(to_json) | _odd_bodies | st.binary(max_size=200)
    body = draw(damaged(draw(mostly((_right_bodies | _near_bodies).map(to_json), far))))
    headers = draw(mostly(st.just({}), _odd_headers))
    if headers.get("Content-Encoding") == "gzip" and draw(st.booleans()):
        body = draw(damaged(gzip.compress(body, mtime=0)))
    return RestCase(method, path, headers, body)


_usual_calls = st.sampled_from(
    [("POST", f"/v1/models/{MODEL}:predict")] * 2
    + [("POST", f"/v1/models/{MODEL}/versions/1:predict")]
    + [("POST", f"/v1/models/{MODEL}:classify")]
)


@st.composite
def _odd_calls(draw: st.DrawFn) -> tuple[str, str]:
    """A method and a path of which anything may be wrong."""
    method = draw(st.sampled_from(["POST", "GET", "PUT", "DELETE", "OPTIONS"]))
    if draw(st.integers(0, 9)) == 9:
        printable = st.characters(min_codepoint=33, max_codepoint=126)
        return method, "/" + draw(st.text(printable, max_size=40))
    name = draw(st.sampled_from([MODEL, MODEL, "nobody", "", "%00", "a" * 3000]))
    which = draw(
        st.sampled_from(
            [
                *("", "/versions/1", "/versions/2", "/versions/-1"),
                *("/versions/" + "9" * 30, "/labels/stable", "/labels/%ff"),
                *("/metadata", "/", "//"),
            ]
        )
    )
    call = draw(
        st.sampled_from(
            [":predict", ":predict", ":classify", ":regress", "", ":", ":x"]
        )
    )
    return method, f"/v1/models/{name}{which}{call}"


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()
