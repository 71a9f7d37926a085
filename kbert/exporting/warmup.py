"""Warm-up requests: what TensorFlow Serving runs before a model takes traffic.

The first request of a shape pays for what later ones find ready. A server replays
`assets.extra/tf_serving_warmup_requests` (at most 1000 PredictionLogs as TFRecords)
after loading; a record that fails would fail the loading, so these are tried before an
export is published.
https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

FILE_NAME = "tf_serving_warmup_requests"

# A server is not ready before its warm-up ends.
_MOST_SECONDS = 30.0
# Whatever the vocabulary, a single ASCII letter is one token: itself or [UNK].
ONE_TOKEN = "a"

Shape = tuple[int, int]  # texts, tokens


def batch_sizes(max_batch_size: int) -> list[int]:
    """1, 2, 4 and so on, and the largest."""
    powers = [2**power for power in range(max_batch_size.bit_length())]
    return sorted({*powers, max_batch_size})


def lengths(max_length: int, multiple_of: int) -> list[int]:
    """The lengths that texts are padded to."""
    return sorted({*range(multiple_of, max_length, multiple_of), max_length})


def plan(
    sizes: Sequence[int], lengths: Sequence[int], *, seconds_of_largest: float
) -> list[Shape]:
    """Which shapes to warm up: every batch size at every length, if time allows.

    Where that would take over half a minute, the lengths are warmed up at batch size 1
    and at the largest of the other sizes that fit, the batch sizes at a short length.

    Args:
        sizes: the batch sizes, increasing.
        lengths: the padded lengths, increasing.
        seconds_of_largest: what the largest batch of the longest texts took.
    """
    per_token = seconds_of_largest / (sizes[-1] * lengths[-1])
    for most in reversed(sizes):
        kept = [size for size in sizes if size <= most]
        shapes = [(size, length) for length in lengths for size in kept]
        others = [(size, lengths[0]) for size in sizes if size > most]
        tokens = sum(size * length for size, length in [*shapes, *others])
        if tokens * per_token <= _MOST_SECONDS:
            break
    return shapes + others


def requests(
    shapes: Sequence[Shape], inputs: Sequence[str], *, signature: str
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of a request for each shape.

    Args:
        shapes: batch sizes and numbers of tokens, special tokens included.
        inputs: the names of the text inputs: one, or two for pairs of texts.
        signature: a signature that takes texts.
    """
    for size, length in shapes:
        words = length - 1 - len(inputs)  # [CLS], and a [SEP] after each text
        shares = [words - words // 2, words // 2] if len(inputs) == 2 else [words]
        yield (
            signature,
            {
                name: np.array([" ".join([ONE_TOKEN] * share).encode()] * size, object)
                for name, share in zip(inputs, shares, strict=True)
            },
        )


def write_warmup(
    file: Path, name: str, calls: Iterable[tuple[str, dict[str, np.ndarray]]]
) -> int:
    """Writes requests as TensorFlow Serving replays them; returns how many.

    Args:
        file: where to.
        name: the model's name.
        calls: signature and inputs of each request.
    """
    count = 0
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in calls:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for alias, values in inputs.items():
                request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
            count += 1
    return count
