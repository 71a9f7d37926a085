"""Which model and which call a REST path means (http_rest_api_util.cc)."""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from kbert.serving.status import Code, StatusError

# As in TensorFlow Serving, case does not matter but for the last word: `:PREDICT` is
# malformed, and `/METADATA` answers the status.
_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_MODEL = r"/v1/models/(?P<model>[^/:]+)"
_WHICH = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(
    rf"{_MODEL}{_WHICH}:(?P<word>classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_STATUS = re.compile(
    rf"/v1/models(?:/(?P<model>[^/:]+))?{_WHICH}(?:/(?P<word>metadata))?",
    re.IGNORECASE | re.ASCII,
)
_INT64_MAX = 2**63 - 1
_CALLS = ("classify", "regress", "predict")


class Route(NamedTuple):
    """What is asked of which model.

    Attributes:
        call: "predict", "classify", "regress", "status" or "metadata".
    """

    call: str
    model: str
    version: int | None
    label: str | None

    @property
    def is_prediction(self) -> bool:
        return self.call in _CALLS


def decode_target(sent: bytes) -> str:
    """Return a path as text from which its bytes can be had back."""
    return sent.decode("utf-8", "surrogateescape")


def is_api(path: str) -> bool:
    """Whether a path belongs to TensorFlow Serving's REST interface."""
    return _API.fullmatch(path) is not None


def parse_route(method: str, target: str) -> Route:
    """Return what an HTTP method and a request target mean.

    Args:
        target: the path as it was sent (`decode_target`), with the query where there
            is one.

    Raises:
        StatusError: INVALID_ARGUMENT where they mean nothing.
    """
    pattern = {"POST": _PREDICTION, "GET": _STATUS}.get(method)
    match = pattern.fullmatch(target) if pattern else None
    if match is None or (method == "POST" and match["word"] not in _CALLS):
        raise _invalid(f"Malformed request: {method} {target}")
    if match["model"] is None:
        raise _invalid("Missing model name in request.")
    word, label = match["word"], match["label"]
    if method == "GET":
        word = "metadata" if word == "metadata" else "status"
    return Route(
        call=word,
        model=_unescape(match["model"]),
        version=_version(match["version"]),
        label=None if label is None else _unescape(label),
    )


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    significant = digits.lstrip("0") or "0"
    # The length first: Python refuses to convert thousands of digits.
    if len(significant) > 19 or int(significant) > _INT64_MAX:
        raise _invalid(f"Failed to convert version: {digits} to numeric.")
    return int(significant)


def _unescape(text: str) -> str:
    sent = text.encode("utf-8", "surrogateescape")
    return unquote_to_bytes(sent).decode("utf-8", "replace")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
