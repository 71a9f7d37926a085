"""Results -> REST response bodies (json_tensor.cc of TensorFlow Serving)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from kbert.serving.json_tensors import element_texts, float_texts, nest, nest_rows
from kbert.serving.status import Code, StatusError


def predict_response(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """Return {"predictions": ...} by rows, {"outputs": ...} by columns.

    Of a single output the values come bare, of several as objects by name.

    Raises:
        StatusError: INVALID_ARGUMENT where JSON cannot say an output's type, or an
            output has not a row for each of the others'.
    """
    names = sorted(outputs)
    if rows:
        return _named("predictions", f"[{', '.join(_rows(outputs, names))}]")
    columns = [
        nest(element_texts(outputs[name], name), outputs[name].shape) for name in names
    ]
    return _named("outputs", columns[0] if len(names) == 1 else _object(names, columns))


def _rows(outputs: Mapping[str, np.ndarray], names: Sequence[str]) -> list[str]:
    batch_size = None
    for name in names:
        shape = outputs[name].shape
        if not shape:
            raise _invalid(f"Tensor name: {name} has no shape information ")
        if batch_size not in (None, shape[0]):
            raise _invalid(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} "
                f"expecting: {batch_size}"
            )
        batch_size = shape[0]
    columns = [
        nest_rows(element_texts(outputs[name], name), outputs[name].shape)
        for name in names
    ]
    if len(names) == 1:
        return columns[0]
    return [_object(names, row) for row in zip(*columns, strict=True)]


def classify_response(results: Sequence[Sequence[tuple[str, float]]]) -> bytes:
    """Return {"results": [[[label, score], ...], ...]}; scores are float32."""
    scores = iter(
        float_texts(np.array([score for row in results for _, score in row], "f4"))
    )
    rows = (
        ", ".join(f"[{_string(label)}, {next(scores)}]" for label, _ in row)
        for row in results
    )
    return _named("results", f"[{', '.join(f'[{row}]' for row in rows)}]")


def regress_response(results: Sequence[float]) -> bytes:
    """Return {"results": [value, ...]}; values are float32."""
    return _named("results", nest(float_texts(np.array(results, "f4")), [len(results)]))


def status_response(states: Sequence[Any]) -> bytes:
    """Return the states of a model's versions, the newest first.

    Args:
        states: with `version`, `state`, `code` (a number of `Code`) and `message`.
    """
    statuses = [
        {
            "version": str(state.version),
            "state": state.state,
            "status": {
                "error_code": Code(state.code).name,
                "error_message": state.message,
            },
        }
        for state in sorted(states, key=lambda state: state.version, reverse=True)
    ]
    return _pretty({"model_version_status": statuses})


def metadata_response(name: str, version: int, signatures: Mapping[str, Any]) -> bytes:
    """Return what a version expects and returns: all its SignatureDefs.

    64-bit numbers are strings and defaults are printed, as in protobuf's own JSON.
    """
    signature_defs = {
        key: MessageToDict(
            signatures[key],
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for key in sorted(signatures)
    }
    return _pretty(
        {
            "model_spec": {
                "name": name,
                "signature_name": "",
                "version": str(version),
            },
            "metadata": {"signature_def": {"signature_def": signature_defs}},
        }
    )


def error_response(message: str) -> bytes:
    """Return {"error": message}, with nothing in it that a browser takes for HTML."""
    body = _pretty({"error": message})
    return body.replace(b"<", b"\\u003c").replace(b">", b"\\u003e")


def _object(names: Sequence[str], values: Sequence[str]) -> str:
    members = (
        f"{_string(name)}: {value}" for name, value in zip(names, values, strict=True)
    )
    return "{" + ", ".join(members) + "}"


def _named(name: str, value: str) -> bytes:
    return f'{{"{name}": {value}}}'.encode()


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pretty(value: Any) -> bytes:
    text = json.dumps(value, indent=4, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
