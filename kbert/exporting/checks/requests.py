"""What an export is asked, whatever its signatures are, and how answers compare."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.errors import ExportError
from kbert.exporting.checks.opened import Export, Session
from kbert.exporting.checks.points import FailError, SkipError
from kbert.exporting.golden import GoldenCall

SERVING_DEFAULT = "serving_default"
CLASSIFY = "classify"

# Numbers that do not depend on the batch may still differ in their last digits.
_TOLERANCE = 1e-4
_HALF_PRECISION_TOLERANCE = 5e-2
_INNER_SIZE = 8


def is_classify(definition: Any) -> bool:
    """Whether a signature is one of TensorFlow Serving's :classify."""
    return (
        set(definition.inputs) == {"inputs"}
        and definition.inputs["inputs"].dtype == tf.string.as_datatype_enum
        and bool(definition.outputs)
        and set(definition.outputs) <= {"classes", "scores"}
    )


def takes_texts(name: str, definition: Any) -> bool:
    """Whether a signature's inputs are texts alone."""
    dtypes = {info.dtype for info in definition.inputs.values()}
    is_string = dtypes == {tf.string.as_datatype_enum}
    return is_string and not _takes_examples(name, definition)


def text_signature(export: Export) -> str:
    """The name of a signature that takes texts, `serving_default` where it does."""
    names = [name for name, d in export.signatures.items() if takes_texts(name, d)]
    if not names:
        raise SkipError("no signature takes texts")
    return SERVING_DEFAULT if SERVING_DEFAULT in names else names[0]


def text_inputs(export: Export, texts: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Texts as the inputs of the text signature; of a pair, both are the same."""
    definition = export.signatures[text_signature(export)]
    return {name: np.array(texts, object) for name in definition.inputs}


def ask_texts(export: Export, texts: Sequence[bytes]) -> dict[str, np.ndarray]:
    """What the text signature answers."""
    inputs = text_inputs(export, texts)
    return answering(export).call(text_signature(export), inputs)


def request(export: Export, name: str, batch_size: int) -> dict[str, np.ndarray]:
    """Inputs that a signature takes: texts, Examples with texts, or numbers.

    Raises:
        SkipError: it takes something else.
    """
    definition = export.signatures[name]
    texts = [f"text number {number}".encode() for number in range(batch_size)]
    if takes_texts(name, definition):
        return {key: np.array(texts, object) for key in definition.inputs}
    if _takes_examples(name, definition):
        if not export.has_card:
            raise SkipError(f"the features of {name}'s Examples are not known")
        features = list(text_inputs(export, texts))
        return {"inputs": np.array([_example(features, t) for t in texts], object)}
    return {
        key: _numbers(key, info, batch_size) for key, info in definition.inputs.items()
    }


def any_request(export: Export) -> tuple[str, dict[str, np.ndarray]]:
    """A signature, the default one if possible, and inputs that it takes."""
    names = sorted(export.signatures, key=lambda name: name != SERVING_DEFAULT)
    for name in names:
        try:
            return name, request(export, name, 2)
        except SkipError:
            continue
    raise SkipError("no signature has inputs that can be made up")


def answering(export: Export) -> Session:
    """The loaded export.

    Raises:
        SkipError: it does not load, or does not answer. One that hangs or crashes is
            not asked again and again.
    """
    if first_answer_error(export):
        raise SkipError("it does not answer (point 15)")
    return export.session


@functools.lru_cache(maxsize=1)
def first_answer_error(export: Export) -> str:
    """Why the simplest request gets no answer; empty where it gets one."""
    try:
        export.session.call(*any_request(export))
    except ExportError as error:
        return str(error)
    return ""


def tolerance(export: Export) -> float:
    """How much two answers to the same text may differ."""
    is_half = export.has_card and export.card.get("precision") == "bfloat16"
    return _HALF_PRECISION_TOLERANCE if is_half else _TOLERANCE


def expect_same(
    export: Export,
    texts: Sequence[bytes],
    expected: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
    where: str,
) -> None:
    """Compares two answers to the same texts.

    Raises:
        FailError: they differ; it says `where`.
    """
    call = GoldenCall({"text": np.array(texts, object)}, expected)
    try:
        call.difference(received, tolerance=tolerance(export))
    except ExportError as error:
        raise FailError(
            f"{where}: {error}. An answer has to depend on its own text alone."
        ) from None


def rows(outputs: Mapping[str, np.ndarray], which: slice) -> dict[str, np.ndarray]:
    """Some rows of every output."""
    return {name: values[which] for name, values in outputs.items()}


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of several answers in one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _takes_examples(name: str, definition: Any) -> bool:
    is_named_so = name == CLASSIFY and set(definition.inputs) == {"inputs"}
    return is_named_so or is_classify(definition)


def _example(names: Sequence[str], text: bytes) -> bytes:
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    features = tf.train.Features(feature=dict.fromkeys(names, value))
    return tf.train.Example(features=features).SerializeToString()


def _numbers(key: str, info: Any, batch_size: int) -> np.ndarray:
    """Zeros, which are a token or padding everywhere; ones for a mask."""
    dtype = tf.dtypes.as_dtype(info.dtype)
    sizes = [dim.size for dim in info.tensor_shape.dim]
    if not sizes or dtype == tf.string:
        raise SkipError(f"input {key} is neither text nor numbers with a batch")
    shape = [batch_size, *(size if size >= 0 else _INNER_SIZE for size in sizes[1:])]
    return np.full(shape, "mask" in key, dtype.as_numpy_dtype)
