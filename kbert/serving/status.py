"""The one error of the server, and its number in gRPC and in HTTP.

TensorFlow, gRPC and TensorFlow Serving share the 17 codes of google.rpc.Code; only
REST translates them (http_server.cc of TensorFlow Serving).
"""

import enum
from typing import Any


class Code(enum.IntEnum):
    """The codes of google.rpc.Code, which are those of tf.errors and of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class StatusError(Exception):
    """What a request is answered with in place of a result.

    Attributes:
        code: the kind of failure; never `Code.OK`.
        message: what the client is shown.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def http_status(self) -> int:
        return HTTP_STATUS[self.code]


def from_tensorflow(error: Any) -> StatusError:
    """Return the `StatusError` of a tf.errors.OpError, code for code.

    Args:
        error: a tf.errors.OpError; typed loosely, since this module loads without
            TensorFlow.
    """
    try:
        code = Code(error.error_code)
    except ValueError:
        code = Code.UNKNOWN
    if code is Code.OK:
        code = Code.UNKNOWN
    return StatusError(code, str(error.message))
