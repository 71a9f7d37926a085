"""Signatures, from saved_model.pb alone: points 19 to 21, 24 and 25."""

import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from kbert.exporting.checks.opened import Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.exporting.checks.requests import (
    CLASSIFY,
    SERVING_DEFAULT,
    is_classify,
    takes_texts,
)

_METHOD = "tensorflow/serving/predict"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What TensorFlow Serving's REST can write.
_OUTPUT_DTYPES = (
    tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64,
    tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string,
)  # fmt: skip


def has_a_default(export: Export) -> str:
    """Point 19."""
    signatures = export.signatures
    if SERVING_DEFAULT not in signatures:
        raise FailError(
            f"there is no signature {SERVING_DEFAULT}, which requests without a name "
            f"ask for; there is {some(list(signatures)) or 'none'}. Export it."
        )
    others = [
        f"{name}: {d.method_name!r}"
        for name, d in signatures.items()
        if d.method_name != _METHOD
    ]
    if others:
        raise FailError(
            f"the method of a signature is {_METHOD}, not {some(others)}. "
            "Write it with tf.saved_model.save."
        )
    return some(list(signatures))


def inputs_are_as_documented(export: Export) -> str:
    """Point 20. Names are compared with the card's, where there is one; types and
    shapes are looked at in signatures that take texts, which in an export of kbert's
    `serving_default` is."""
    if export.has_card:
        _compare_with_card(export)
    texts = {name: d for name, d in export.signatures.items() if takes_texts(name, d)}
    for name, definition in texts.items():
        for key, info in definition.inputs.items():
            if not _KEY.fullmatch(key):
                raise FailError(
                    f"{name} has an input {key!r}; a name is made of ASCII letters, "
                    "digits and _. Name its tf.TensorSpec."
                )
            if _shape(info) != [-1]:
                raise FailError(
                    f"input {key} of {name} has shape {_shape(info)}, and texts have "
                    "[-1]. Export it with tf.TensorSpec([None], tf.string)."
                )
    if not texts:
        raise SkipError("no signature takes texts")
    return some([f"{name}({', '.join(sorted(d.inputs))})" for name, d in texts.items()])


def outputs_can_be_written(export: Export) -> str:
    """Point 21. An output of unknown rank is left to point 22."""
    known = {dtype.as_datatype_enum for dtype in _OUTPUT_DTYPES}
    for name, key, info in _outputs(export):
        if info.dtype not in known:
            dtype = tf.dtypes.as_dtype(info.dtype).name
            raise FailError(
                f"output {key} of {name} is of {dtype}, which REST cannot write. "
                "Cast it to float32."
            )
        if _shape(info) == []:
            raise FailError(
                f"output {key} of {name} is a scalar, and answers have a row for each "
                "text. Give it a batch dimension."
            )
    return f"{len(list(_outputs(export)))} outputs"


def classify_is_as_served(export: Export) -> str:
    """Point 24, for signatures named `classify`, or that look like one."""
    found = {
        name: definition
        for name, definition in export.signatures.items()
        if name == CLASSIFY or is_classify(definition)
    }
    if not found:
        raise SkipError("there is no signature for :classify")
    for name, definition in found.items():
        if not is_classify(definition) or _shape(definition.inputs["inputs"]) != [-1]:
            raise FailError(
                f"{name} takes {some(_described(definition.inputs))} and gives "
                f"{some(_described(definition.outputs))}. TensorFlow Serving needs "
                "inputs: string [-1], and of classes and scores one or both."
            )
        for key, dtype in (("classes", tf.string), ("scores", tf.float32)):
            if key not in definition.outputs:
                continue
            info = definition.outputs[key]
            if info.dtype != dtype.as_datatype_enum or len(_shape(info) or [0, 0]) != 2:
                raise FailError(
                    f"output {key} of {name} is {dtype.name} [-1, classes], not "
                    f"{some(_described({key: info}))}. Give each text a row of classes."
                )
    return some(list(found))


def needs_no_padding(export: Export) -> str:
    """Point 25. A `limits.pad_variable_length_inputs` of false in the card is the
    documentation that point 25 asks for."""
    open_inputs = [
        f"{key} of {name}"
        for name, definition in export.signatures.items()
        for key, info in sorted(definition.inputs.items())
        if -1 in (_shape(info) or [])[1:]
    ]
    if not open_inputs:
        return ""
    limits = export.recorded("limits") if export.has_card else {}
    if limits.get("pad_variable_length_inputs") is False:
        return f"{some(open_inputs)}: the card forbids a server's padding"
    raise FailError(
        f"{some(open_inputs)} has a length that is open, and a server that batches "
        "with pad_variable_length_inputs pads it with each request's first value. Say "
        '"limits": {"pad_variable_length_inputs": false} in the card.'
    )


CHECKS = (
    Check(19, "serving_default is there; methods are predict", has_a_default),
    Check(20, "texts go in as strings, named as documented", inputs_are_as_documented),
    Check(21, "outputs have types that REST can write", outputs_can_be_written),
    Check(24, "classify is what :classify needs", classify_is_as_served),
    Check(25, "no input that a server's padding would spoil", needs_no_padding),
)


def _compare_with_card(export: Export) -> None:
    documented = export.recorded("signatures")
    for name, names in documented.items():
        definition = export.signatures.get(name)
        inputs = sorted(definition.inputs) if definition is not None else []
        if inputs != sorted(names):
            raise FailError(
                f"the card documents {name}({', '.join(names)}), and the graph has "
                f"{name}({', '.join(inputs)}). Export the run again."
            )
    if not (
        SERVING_DEFAULT in export.signatures
        and takes_texts(SERVING_DEFAULT, export.signatures[SERVING_DEFAULT])
    ):
        raise FailError(
            f"{SERVING_DEFAULT} of an export takes texts alone. Export with the "
            "tokenizer in the graph."
        )


def _outputs(export: Export) -> Iterator[tuple[str, str, Any]]:
    for name, definition in export.signatures.items():
        for key, info in sorted(definition.outputs.items()):
            yield name, key, info


def _shape(info: Any) -> list[int] | None:
    """The sizes, -1 where open; None where even the rank is."""
    if info.tensor_shape.unknown_rank:
        return None
    return [dim.size for dim in info.tensor_shape.dim]


def _described(infos: Any) -> list[str]:
    return [
        f"{key}: {tf.dtypes.as_dtype(info.dtype).name} {_shape(info)}"
        for key, info in sorted(infos.items())
    ]
