"""Small SavedModels to serve: core operations only, written in well under a second.

Each writer makes `folder/<version>/` appear at once, complete, and returns it. What a
model answers is also given as plain Python, to compare with.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

LABELS = ("neg", "pos")


def half_plus_two(x: float, offset: float = 2.0) -> float:
    return x / 2 + offset


def write_half_plus_two(
    folder: Path, version: int, *, offset: float = 2.0, num_unused_weights: int = 0
) -> Path:
    """`serving_default`: x float32 [-1] -> y = x / 2 + offset.

    `two_outputs`: x -> y and z = 3 x. `regress`: inputs (tf.Example with a float `x`)
    -> outputs = y. `square`: x float32 [-1, -1] -> y = x * x.

    Args:
        num_unused_weights: float32 weights that are loaded and do nothing.
    """
    module = tf.Module()
    module.offset = tf.Variable(offset, dtype=tf.float32)
    if num_unused_weights:
        module.unused = tf.Variable(np.arange(num_unused_weights, dtype=np.float32))

    def answer(x):
        return {"y": x / 2.0 + module.offset}

    def two_outputs(x):
        return {"y": x / 2.0 + module.offset, "z": 3.0 * x}

    def regress(inputs):
        return {"outputs": answer(_feature(inputs, "x", tf.float32))["y"]}

    vector = {"x": tf.TensorSpec([None], tf.float32)}
    signatures = {
        "serving_default": (answer, vector),
        "two_outputs": (two_outputs, vector),
        "regress": (regress, {"inputs": tf.TensorSpec([None], tf.string)}),
        "square": (
            lambda x: {"y": x * x},
            {"x": tf.TensorSpec([None, None], tf.float32)},
        ),
    }
    return _save(module, signatures, folder, version)


def toy_probabilities(
    text: bytes, pair: bytes | None = None, *, flip: bool = False
) -> tuple[float, float]:
    """What the toy classifier gives neg and pos; texts of other lengths differ."""
    joined = text if pair is None else text + b" " + pair
    logit = (2.0 if b"good" in joined else -2.0) + 0.01 * (len(joined) % 50)
    pos = 1 / (1 + math.exp(logit if flip else -logit))
    return 1 - pos, pos


def write_toy_classifier(
    folder: Path, version: int, *, flip: bool = False, with_pair: bool = False
) -> Path:
    """The signatures of an export; `toy_probabilities` says what it answers.

    `serving_default`: text string [-1] (+ text_pair) -> label, score, probabilities.
    `classify`: inputs (tf.Example with `text`, `text_pair`) -> classes, scores [-1, 2].
    `encoded`: token_ids, segment_ids, padding_mask int32 [-1, -1] -> logits [-1, 2],
    whose second column is the sum of the token ids that are no padding, modulo 5.

    Args:
        flip: swaps the probabilities of the labels, to tell two versions apart.
    """
    columns = ("text", "text_pair") if with_pair else ("text",)

    def probabilities(*texts):
        joined = tf.strings.join(texts, separator=" ")
        # \C is any byte: texts need not be UTF-8.
        is_good = tf.strings.regex_full_match(joined, r"\C*good\C*")
        length = tf.cast(tf.strings.length(joined) % 50, tf.float32)
        logit = tf.where(is_good, 2.0, -2.0) + 0.01 * length
        pos = tf.sigmoid(-logit if flip else logit)
        return tf.stack([1.0 - pos, pos], axis=-1)

    def serving_default(**texts):
        values = probabilities(*(texts[column] for column in columns))
        return {
            "label": tf.gather(list(LABELS), tf.argmax(values, axis=-1)),
            "score": tf.reduce_max(values, axis=-1),
            "probabilities": values,
        }

    def classify(inputs):
        values = probabilities(*(_feature(inputs, c, tf.string) for c in columns))
        classes = tf.repeat([list(LABELS)], tf.shape(values)[0], axis=0)
        return {"classes": classes, "scores": values}

    def encoded(token_ids, segment_ids, padding_mask):
        total = tf.reduce_sum((token_ids + 0 * segment_ids) * padding_mask, axis=-1)
        pos = tf.cast(total % 5, tf.float32)
        return {"logits": tf.stack([tf.zeros_like(pos), pos], axis=-1)}

    ids = tf.TensorSpec([None, None], tf.int32)
    names = ("token_ids", "segment_ids", "padding_mask")
    signatures = {
        "serving_default": (
            serving_default,
            {column: tf.TensorSpec([None], tf.string) for column in columns},
        ),
        "classify": (classify, {"inputs": tf.TensorSpec([None], tf.string)}),
        "encoded": (encoded, dict.fromkeys(names, ids)),
    }
    return _save(tf.Module(), signatures, folder, version)


def write_oddities(folder: Path, version: int) -> Path:
    """Signatures that do not batch, or do not end: x float32 [-1] ->

    `serving_default`: y = x. `scalar`: y = the sum of x. `constant`: y = three zeros.
    `slow`: y = x after so many turns that only a deadline ends it.
    `checked`: y = x where no value is negative, else an INVALID_ARGUMENT that says
    "negative". `double`: x float64 -> y = x.
    """

    def slow(x):
        # The turns depend on x, so that nothing can be computed ahead.
        turns = tf.cast(tf.reduce_sum(x) * 0.0, tf.int64) + 2**60
        return {"y": x + 0.0 * tf.cast(_count(turns), tf.float32)}

    def checked(x):
        check = tf.debugging.Assert(tf.reduce_all(x >= 0), ["negative", x])
        with tf.control_dependencies([check]):
            return {"y": tf.identity(x)}

    vector = {"x": tf.TensorSpec([None], tf.float32)}
    signatures = {
        "serving_default": (lambda x: {"y": tf.identity(x)}, vector),
        "scalar": (lambda x: {"y": tf.reduce_sum(x)}, vector),
        "constant": (lambda x: {"y": 0.0 * tf.reduce_sum(x) + tf.zeros([3])}, vector),
        "slow": (slow, vector),
        "checked": (checked, vector),
        "double": (
            lambda x: {"y": tf.identity(x)},
            {"x": tf.TensorSpec([None], tf.float64)},
        ),
    }
    return _save(tf.Module(), signatures, folder, version)


def predict_log(
    inputs: Mapping[str, Any], signature: str = "serving_default"
) -> prediction_log_pb2.PredictionLog:
    """A warm-up record of a Predict call."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "any"
    request.model_spec.signature_name = signature
    for alias, values in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(np.asarray(values)))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )


def write_warmup_records(
    version_folder: Path, logs: Sequence[prediction_log_pb2.PredictionLog]
) -> Path:
    """Adds warm-up records to a version; returns their file."""
    return write_raw_records(version_folder, [log.SerializeToString() for log in logs])


def write_raw_records(version_folder: Path, records: Sequence[bytes]) -> Path:
    file = version_folder / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    return file


def _feature(serialized, name: str, dtype):
    features = {name: tf.io.FixedLenFeature([], dtype)}
    return tf.io.parse_example(serialized, features)[name]


def _count(turns):
    return tf.while_loop(
        lambda count: count < turns,
        lambda count: (count + 1,),
        (tf.constant(0, tf.int64),),
    )[0]


def _save(
    module: tf.Module,
    signatures: Mapping[str, tuple[Callable, Mapping[str, tf.TensorSpec]]],
    folder: Path,
    version: int,
) -> Path:
    functions = {}
    for name, (function, inputs) in signatures.items():
        specs = {
            alias: tf.TensorSpec(spec.shape, spec.dtype, name=alias)
            for alias, spec in inputs.items()
        }
        traced = tf.function(function, autograph=False)
        functions[name] = traced.get_concrete_function(**specs)
    unfinished = folder / f".export-{version}"
    tf.saved_model.save(module, str(unfinished), signatures=functions)
    published = folder / str(version)
    unfinished.rename(published)
    return published
