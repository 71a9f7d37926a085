import grpc
import pytest
import tensorflow as tf

from kbert.serving.status import HTTP_STATUS, Code, StatusError, from_tensorflow


def test_codes_are_those_of_grpc():
    theirs = {code.name: code.value[0] for code in grpc.StatusCode}
    assert {code.name: code.value for code in Code} == theirs


def test_every_code_has_an_http_status():
    assert HTTP_STATUS.keys() == set(Code)
    assert HTTP_STATUS[Code.OK] == 200
    assert all(status >= 400 for code, status in HTTP_STATUS.items() if code)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("CANCELLED", 499),
        ("INTERNAL", 500),
        ("INVALID_ARGUMENT", 400),
        ("DEADLINE_EXCEEDED", 504),
        ("NOT_FOUND", 404),
        ("ABORTED", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
    ],
)
def test_http_status_as_tensorflow_serving_maps_it(code: str, status: int):
    assert StatusError(Code[code], "").http_status == status


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (tf.errors.InvalidArgumentError, Code.INVALID_ARGUMENT),
        (tf.errors.FailedPreconditionError, Code.FAILED_PRECONDITION),
        (tf.errors.DeadlineExceededError, Code.DEADLINE_EXCEEDED),
        (tf.errors.UnavailableError, Code.UNAVAILABLE),
        (tf.errors.DataLossError, Code.DATA_LOSS),
    ],
)
def test_tensorflow_errors_keep_code_and_message(
    error: type[tf.errors.OpError], code: Code
):
    mapped = from_tensorflow(error(None, None, "why"))
    assert (mapped.code, mapped.message) == (code, "why")


@pytest.mark.parametrize("number", [0, 99, -1])
def test_a_code_that_is_none_is_unknown(number: int):
    error = tf.errors.OpError(None, None, "odd", number)
    assert from_tensorflow(error).code is Code.UNKNOWN


def test_text_of_the_error_names_code_and_message():
    assert str(StatusError(Code.NOT_FOUND, "gone")) == "NOT_FOUND: gone"
