"""Points on signatures, each on an export whose signatures are wrong there."""

import pytest
import tensorflow as tf

from tests.exporting.toy_export import edit_json

HALF = tf.float16.as_datatype_enum
DOUBLE = tf.float64.as_datatype_enum
INT32 = tf.int32.as_datatype_enum


def set_method(meta_graph):
    meta_graph.signature_def["classify"].method_name = "tensorflow/serving/classify"


def drop_default(meta_graph):
    del meta_graph.signature_def["serving_default"]


def on(side: str, name: str, key: str, edit):
    """Edits the TensorInfo of an input or output."""
    return lambda meta_graph: edit(
        getattr(meta_graph.signature_def[name], side)[key], meta_graph
    )


def set_dtype(dtype: int):
    return lambda info, meta_graph: setattr(info, "dtype", dtype)


def set_shape(*sizes: int):
    def edit(info, meta_graph):
        del info.tensor_shape.dim[:]
        for size in sizes:
            info.tensor_shape.dim.add(size=size)

    return edit


def rename(side: str, name: str, key: str, new: str):
    def change(meta_graph):
        infos = getattr(meta_graph.signature_def[name], side)
        infos[new].CopyFrom(infos[key])
        del infos[key]

    return change


BROKEN = {
    "method": (set_method, {19}, "tensorflow/serving/classify"),
    # What asks for the default signature falls with it.
    "no default": (drop_default, {19, 20, 32, 33}, "serving_default"),
    "texts in rows": (
        on("inputs", "serving_default", "text", set_shape(-1, 1)),
        {20, 32, 33},
        "[-1, 1]",
    ),
    "another input": (
        rename("inputs", "encoded", "token_ids", "ids"),
        {20, 22},
        "padding_mask",
    ),
    "numbers as default": (
        on("inputs", "serving_default", "text", set_dtype(INT32)),
        # Numbers are asked with then.
        {15, 20, 32},
        "takes texts alone",
    ),
    "half precision": (
        on("outputs", "encoded", "logits", set_dtype(HALF)),
        {21},
        "float16",
    ),
    "a scalar": (on("outputs", "encoded", "logits", set_shape()), {21}, "scalar"),
    "constant rows": (
        on("outputs", "serving_default", "label", set_shape(2)),
        {22},
        "has 2 rows",
    ),
    "numbers as bytes": (
        rename("outputs", "serving_default", "score", "score_bytes"),
        {23},
        "score_bytes",
    ),
    "double scores": (
        on("outputs", "classify", "scores", set_dtype(DOUBLE)),
        {24},
        "float64",
    ),
    "flat classes": (
        on("outputs", "classify", "classes", set_shape(-1)),
        {24},
        "row of classes",
    ),
    "one more output": (
        rename("outputs", "classify", "classes", "labels"),
        {24},
        "labels",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_signature_with(checked, what: str):
    change, numbers, message = BROKEN[what]
    checked.edit_graph(change)
    failing = checked.failing()
    assert set(failing) == numbers
    assert message in " ".join(failing.values())


def test_names_are_those_of_the_card(checked):
    def document(card):
        card["signatures"]["serving_default"] = {"texts": "string"}

    edit_json(checked.extra / "kbert.json", document)
    failing = checked.failing()
    assert set(failing) == {20}
    assert "serving_default(texts)" in failing[20]


def test_input_names_are_words(checked):
    (checked.extra / "kbert.json").unlink()
    checked.edit_graph(rename("inputs", "serving_default", "text", "my text"))
    assert "'my text'" in checked.failing()[20]


@pytest.mark.parametrize("value", [True, None])
def test_padding_by_the_server_has_to_be_forbidden(checked, value):
    def document(card):
        card["limits"]["pad_variable_length_inputs"] = value

    edit_json(checked.extra / "kbert.json", document)
    failing = checked.failing()
    assert set(failing) == {25}
    assert "token_ids of encoded" in failing[25]
