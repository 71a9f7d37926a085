"""The warm-up requests: points 31 to 33."""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from kbert.errors import ExportError
from kbert.exporting import warmup
from kbert.exporting.checks.opened import EXTRA, Export, Limits
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.exporting.checks.requests import SERVING_DEFAULT, answering

_MOST_RECORDS = 1000
_MOST_SECONDS = 60.0
_FILE = f"{EXTRA}/{warmup.FILE_NAME}"


def is_readable(export: Export) -> str:
    """Point 31."""
    file = export.extra(warmup.FILE_NAME)
    if not file.is_file():
        if export.has_card:
            raise FailError(f"there is no {_FILE}. Copy or export the run again.")
        raise SkipError(f"there is no {_FILE}: the first requests will be slow")
    count = 0
    try:
        for record in _records(export):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise FailError(
                    f"record {count} of {_FILE} is a {log.WhichOneof('log_type')}, "
                    "not a predict_log. Export the run again."
                )
            count += 1
    except (tf.errors.OpError, DecodeError) as error:
        raise FailError(
            f"after {count} records {_FILE} cannot be read, so that no server would "
            "load the model; it is to be an uncompressed TFRecord of PredictionLogs. "
            f"{error}. Export the run again."
        ) from None
    if not 1 <= count <= _MOST_RECORDS:
        raise FailError(
            f"{_FILE} has {'over 1000' if count else 'no'} records; from 1 to "
            f"{_MOST_RECORDS} are right. Export the run again."
        )
    return f"{count} requests"


def can_be_replayed(export: Export) -> str:
    """Point 32."""
    for number, (name, inputs) in enumerate(_requests(export)):
        if problem := _mismatch(export, name, inputs):
            raise FailError(
                f"record {number} of {_FILE}: {problem}. Export the run again."
            )
    replayed = _replay(export)
    if replayed.error:
        raise FailError(
            f"record {replayed.count} of {_FILE} fails, so that no server would load "
            f"the model: {replayed.error}. Export the run again."
        )
    return f"{replayed.count} requests answered"


def covers_what_will_come(export: Export) -> str:
    """Point 33. A text counts as its words and the special tokens, which is exact for
    words of one token, as `kbert export` writes them."""
    replayed = _replay(export)
    if replayed.seconds > _MOST_SECONDS:
        raise FailError(
            f"{replayed.count} of {len(_requests(export))} requests took "
            f"{replayed.seconds:.0f} s, and a server is not ready before their end: at "
            f"most {_MOST_SECONDS:g} s are right. Export with a smaller batch size."
        )
    if not export.has_card:
        raise SkipError("there is no card that says which lengths and sizes will come")
    limits = export.limits
    shapes = [
        _shape(inputs, limits)
        for name, inputs in _requests(export)
        if name == SERVING_DEFAULT and not _mismatch(export, name, inputs)
    ]
    sizes = {size for size, _ in shapes}
    lengths = {length for _, length in shapes}
    if missing := sorted({1, limits.max_batch_size} - sizes):
        raise FailError(
            f"no request of {_FILE} has {some(missing)} texts. Export the run again."
        )
    if missing := sorted(set(limits.lengths()) - lengths):
        raise FailError(
            f"no request of {_FILE} is padded to {some(missing)} tokens. Export the "
            "run again."
        )
    return f"{len(lengths)} lengths, {len(sizes)} batch sizes, {replayed.seconds:.1f} s"


CHECKS = (
    Check(31, "warm-up requests can be read", is_readable),
    Check(32, "warm-up requests are answered", can_be_replayed),
    Check(33, "warm-up covers every length, in bounded time", covers_what_will_come),
)


@dataclass(frozen=True)
class _Replay:
    """How many requests were replayed, until an error or the limit of time."""

    count: int
    seconds: float
    error: str = ""


@functools.lru_cache(maxsize=1)
def _replay(export: Export) -> _Replay:
    session = answering(export)
    start = time.perf_counter()
    seconds = 0.0
    requests = _requests(export)
    for count, (name, inputs) in enumerate(requests):
        if seconds > _MOST_SECONDS:
            return _Replay(count, seconds)
        try:
            session.call(name, inputs)
        except ExportError as error:
            return _Replay(count, seconds, str(error))
        seconds = time.perf_counter() - start
    return _Replay(len(requests), seconds)


def _records(export: Export) -> list[bytes]:
    file = str(export.extra(warmup.FILE_NAME))
    # One more than are right, so that more are noticed.
    dataset = tf.data.TFRecordDataset(file).take(_MOST_RECORDS + 1)
    return list(dataset.as_numpy_iterator())


@functools.lru_cache(maxsize=1)
def _requests(export: Export) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each record."""
    try:
        is_readable(export)
    except FailError:
        raise SkipError(f"{_FILE} is not right (point 31)") from None
    requests = []
    for record in _records(export):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(item) for name, item in request.inputs.items()}
        requests.append((request.model_spec.signature_name or SERVING_DEFAULT, inputs))
    return requests


def _mismatch(export: Export, signature: str, inputs: Mapping[str, np.ndarray]) -> str:
    """Why a request does not fit its signature; empty where it does."""
    if signature not in export.signatures:
        return f"it asks for a signature {signature!r}, which is not there"
    infos = export.signatures[signature].inputs
    if set(infos) != set(inputs):
        return f"its inputs are {sorted(inputs)} in place of {sorted(infos)}"
    for name, values in inputs.items():
        dtype = tf.dtypes.as_dtype(infos[name].dtype)
        if tf.dtypes.as_dtype(values.dtype) != dtype:
            return f"{name} is of {values.dtype} in place of {dtype.name}"
        shape = tf.TensorShape(infos[name].tensor_shape)
        if not values.ndim or not shape.is_compatible_with(values.shape):
            return f"{name} has shape {values.shape} in place of {shape}"
        most = export.limits.max_batch_size if export.has_card else len(values)
        if len(values) > most:
            return f"it has {len(values)} rows, and a server's batches have {most}"
    return ""


def _shape(inputs: Mapping[str, np.ndarray], limits: Limits) -> tuple[int, int]:
    """Texts, and the tokens that they are padded to, of a request."""
    columns = [values for values in inputs.values() if values.dtype == object]
    if not columns:
        # Token ids, as long as they are.
        size, length = next(iter(inputs.values())).shape[:2]
        return size, length
    rows = zip(*columns, strict=True)
    longest = max(
        (1 + sum(len(text.split()) + 1 for text in texts) for texts in rows), default=0
    )
    return len(columns[0]), next(
        (n for n in limits.lengths() if n >= longest), limits.max_length
    )
