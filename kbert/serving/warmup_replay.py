"""Running the warm-up requests that travel with a version.

As TensorFlow Serving: the records run like requests before the version takes any, and
one that fails, fails the loading (saved_model_warmup_util.cc).
"""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.util import deprecation
from tensorflow_serving.apis import prediction_log_pb2

from kbert.serving import prediction
from kbert.serving.input_examples import serialized_examples
from kbert.serving.status import Code, StatusError, from_tensorflow
from kbert.serving.tensor_protos import array_from_proto

if TYPE_CHECKING:
    from kbert.serving.servable import Servable

logger = logging.getLogger(__name__)

FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST_RECORDS = 1000
_METHODS: dict[str, Callable[..., object]] = {
    "tensorflow/serving/classify": prediction.classify,
    "tensorflow/serving/regress": prediction.regress,
}


def replay_warmup(servable: "Servable", iterations: int) -> None:
    """Runs each of a version's warm-up records, if it has any.

    Args:
        iterations: how often.

    Raises:
        StatusError: a record is none, is of a kind that cannot be run, or fails; or
            there are more than 1000.
    """
    start, count = time.monotonic(), 0
    for log in read_warmup(servable.path / FILE):
        count += 1
        if count > MOST_RECORDS:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at "
                f"{servable.path / FILE}",
            )
        for _ in range(iterations):
            _run(servable, log)
    if count:
        logger.info(
            "Warmed up %s version %d with %d requests in %.1f s",
            servable.name,
            servable.version,
            count,
            time.monotonic() - start,
        )


def read_warmup(path: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The records of a warm-up file; none where there is no such file.

    Raises:
        StatusError: DATA_LOSS or INVALID_ARGUMENT, the file or a record is broken.
    """
    if not path.exists():
        return
    with deprecation.silence():
        records = tf.compat.v1.io.tf_record_iterator(str(path))
    try:
        for record in records:
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"Failed to parse warmup record of {path}"
        ) from None
    except tf.errors.OpError as error:
        status = from_tensorflow(error)
        raise StatusError(status.code, f"{path}: {status.message}") from None


def _run(servable: "Servable", log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict = log.predict_log.request
        inputs = {name: array_from_proto(p) for name, p in predict.inputs.items()}
        signature_name = predict.model_spec.signature_name
        prediction.predict(
            servable, signature_name, inputs, predict.output_filter, None
        )
    elif kind == "classify_log":
        classify = log.classify_log.request
        signature_name = classify.model_spec.signature_name
        examples = serialized_examples(classify.input)
        prediction.classify(servable, signature_name, examples, None)
    elif kind == "regress_log":
        regress = log.regress_log.request
        signature_name = regress.model_spec.signature_name
        examples = serialized_examples(regress.input)
        prediction.regress(servable, signature_name, examples, None)
    elif kind == "multi_inference_log":
        multiple = log.multi_inference_log.request
        examples = serialized_examples(multiple.input)
        for task in multiple.tasks:
            run = _METHODS.get(task.method_name)
            if run is None:
                raise StatusError(
                    Code.UNIMPLEMENTED,
                    f"Unsupported signature method_name: {task.method_name}",
                )
            run(servable, task.model_spec.signature_name, examples, None)
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}"
        )
