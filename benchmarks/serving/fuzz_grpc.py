"""Messages to TensorFlow Serving's gRPC services, from right to absurd."""

from typing import Any, NamedTuple

import tensorflow as tf
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from benchmarks.serving.fuzz_base import (
    ENCODED,
    KEYS,
    MODEL,
    SIGNATURES,
    damaged,
    mostly,
)


class GrpcCase(NamedTuple):
    """One call: a method's full name, and the bytes of its message."""

    method: str
    message: bytes


@st.composite
def _specs(draw: st.DrawFn, message: Any, signature: str | None = None) -> None:
    """Fills in a ModelSpec: mostly as it should be.

    Args:
        signature: which one is asked; None for any.
    """
    any_signature = st.sampled_from([*SIGNATURES]) | _utf8
    message.signature_name = draw(any_signature) if signature is None else signature
    if draw(st.integers(0, 3)):
        message.name = MODEL
        return
    message.name = draw(st.sampled_from([MODEL, "nobody", "", "a" * 3000]))
    choice = draw(st.sampled_from(["", "version", "label"]))
    if choice == "version":
        message.version.value = draw(st.sampled_from([1, 1, 2, -1, 2**63 - 1]))
    elif choice == "label":
        message.version_label = draw(st.sampled_from(["stable", "", "\0"]))


_utf8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_sizes = st.sampled_from([0, 1, 1, 2, 3, -1, -2, 2**20, 2**31, 2**40, 2**62])


@st.composite
def _right_tensors(draw: st.DrawFn, key: str, rows: int, columns: int) -> Any:
    """What an input of the toy classifier takes."""
    if key in ENCODED:
        ids = st.integers(-(2**31), 2**31 - 1)
        flat = draw(st.lists(ids, min_size=rows * columns, max_size=rows * columns))
        return tf.make_tensor_proto(flat, dtype=tf.int32, shape=[rows, columns])
    values = draw(st.lists(st.binary(max_size=20), min_size=rows, max_size=rows))
    return tf.make_tensor_proto(values, dtype=tf.string, shape=[rows])


@st.composite
def _odd_tensors(draw: st.DrawFn) -> Any:
    """Tensors whose type, shape and values disagree."""
    tensor = tf.make_tensor_proto(0)
    tensor.Clear()
    types = [*range(0, 31), 101, 107, 9999, -1]
    tensor.dtype = draw(st.sampled_from([3, 7]) | st.sampled_from(types))
    tensor.tensor_shape.unknown_rank = draw(st.integers(0, 10)) == 10
    for size in draw(st.lists(_sizes, max_size=3)):
        tensor.tensor_shape.dim.add(size=size)
    if draw(st.booleans()):
        tensor.tensor_content = draw(st.binary(max_size=32))
    if draw(st.booleans()):
        tensor.string_val.extend(draw(st.lists(st.binary(max_size=9), max_size=4)))
    for name in ("int_val", "half_val", "bool_val"):
        if draw(st.integers(0, 3)) == 3:
            getattr(tensor, name).extend(draw(st.lists(st.integers(0, 1), max_size=4)))
    for name in ("float_val", "double_val", "scomplex_val"):
        if draw(st.integers(0, 3)) == 3:
            floats = st.lists(st.floats(width=32), max_size=4)
            getattr(tensor, name).extend(draw(floats))
    return tensor


@st.composite
def _predicts(draw: st.DrawFn) -> Any:
    request = predict_pb2.PredictRequest()
    signature = draw(st.sampled_from([*SIGNATURES]))
    keys = list(SIGNATURES[signature])
    if draw(st.integers(0, 3)) == 3:
        keys = draw(st.lists(st.sampled_from(KEYS) | _utf8, max_size=4))
    draw(_specs(request.model_spec, signature))
    rows, columns = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    for key in keys:
        right = _right_tensors(key, rows, columns)
        tensor = draw(mostly(right, _odd_tensors()))
        request.inputs[key].CopyFrom(tensor)
    if draw(st.integers(0, 2)) == 2:
        aliases = st.sampled_from(["label", "score", "probabilities", "logits"])
        request.output_filter.extend(draw(st.lists(aliases | _utf8, max_size=4)))
    return request


@st.composite
def _inputs(draw: st.DrawFn, message: Any) -> None:
    kind = draw(st.sampled_from(["example_list", "example_list_with_context", ""]))
    if not kind:
        return
    batch = getattr(message, kind)
    examples = [batch.examples.add() for _ in range(draw(st.integers(0, 3)))]
    if kind == "example_list_with_context":
        examples.append(batch.context)
    for example in examples:
        feature = example.features.feature[draw(st.sampled_from(["text", "x", ""]))]
        values = draw(st.sampled_from(["bytes", "floats", "ints", "none"]))
        if values == "bytes":
            texts = draw(st.lists(st.binary(max_size=20), max_size=2))
            feature.bytes_list.value.extend(texts)
        elif values == "floats":
            feature.float_list.value.append(draw(st.floats(width=32)))
        elif values == "ints":
            feature.int64_list.value.append(draw(st.integers(-(2**63), 2**63 - 1)))


@st.composite
def _classifies(draw: st.DrawFn, message_class: Any) -> Any:
    request = message_class()
    draw(_specs(request.model_spec))
    draw(_inputs(request.input))
    return request


@st.composite
def _multi_inferences(draw: st.DrawFn) -> Any:
    request = inference_pb2.MultiInferenceRequest()
    for _ in range(draw(st.integers(0, 3))):
        task = request.tasks.add()
        draw(_specs(task.model_spec))
        task.method_name = draw(
            st.sampled_from(["classify", "regress", "predict"]).map(
                "tensorflow/serving/{}".format
            )
            | _utf8
        )
    draw(_inputs(request.input))
    return request


@st.composite
def _metadata(draw: st.DrawFn) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    draw(_specs(request.model_spec))
    fields = st.lists(st.sampled_from(["signature_def", "", "other"]), max_size=2)
    request.metadata_field.extend(draw(fields))
    return request


@st.composite
def _statuses(draw: st.DrawFn) -> Any:
    request = get_model_status_pb2.GetModelStatusRequest()
    draw(_specs(request.model_spec))
    return request


@st.composite
def _reloads(draw: st.DrawFn) -> Any:
    """Configs that must be refused: with a right one the model would be gone."""
    request = model_management_pb2.ReloadConfigRequest()
    if draw(st.booleans()):
        return request
    config = request.config.model_config_list.config.add()
    config.name = draw(st.sampled_from([MODEL, "", "\0"]))
    config.base_path = draw(st.sampled_from(["relative", "", "./toy"]))
    config.model_platform = draw(st.sampled_from(["tensorflow", "", "other"]))
    return request


_METHODS: dict[str, st.SearchStrategy[Any]] = {
    "PredictionService/Predict": _predicts(),
    "PredictionService/Classify": _classifies(classification_pb2.ClassificationRequest),
    "PredictionService/Regress": _classifies(regression_pb2.RegressionRequest),
    "PredictionService/MultiInference": _multi_inferences(),
    "PredictionService/GetModelMetadata": _metadata(),
    "ModelService/GetModelStatus": _statuses(),
    "ModelService/HandleReloadConfigRequest": _reloads(),
}


@st.composite
def grpc_cases(draw: st.DrawFn) -> GrpcCase:
    """Messages that are well-formed, and bytes that are no message."""
    method = draw(st.sampled_from([*_METHODS] + ["PredictionService/Predict"] * 5))
    if method.endswith("HandleReloadConfigRequest"):
        # Damage might make it a config that is right.
        message = draw(_METHODS[method]).SerializeToString()
    else:
        valid = draw(_METHODS[method]).SerializeToString()
        message = draw(mostly(damaged(valid), st.binary(max_size=100)))
    return GrpcCase(f"/tensorflow.serving.{method}", message)
