"""The masks of pretraining, against plain Python and on every backend."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers.masked_lm_mask import MaskedLMMask
from tests.conftest import ROOT
from tests.layers.masking_rows import (
    CLS,
    COMMON,
    NUM_TOKENS,
    PAD,
    SEP,
    WHOLE_WORDS,
    numpy_of,
    rows_of_text,
)
from tests.layers.reference_masking import ReferenceMask

BOTH = pytest.mark.parametrize(
    "arguments", [COMMON, WHOLE_WORDS], ids=["tokens", "words"]
)


def assert_same(found, expected):
    found = numpy_of(found)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# --- the same as plain Python ---------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 2**40 + 3},
        {"mask_selection_rate": 0.5, "mask_selection_length": 7},
        {"mask_selection_rate": 0.9, "mask_selection_length": 60},
        {"mask_token_rate": 0.0, "random_token_rate": 1.0},
        {"mask_token_rate": 0.3, "random_token_rate": 0.0},
        {"special_token_ids": [*range(300), *range(700, 1000)]},
    ],
    ids=str,
)
def test_it_agrees_with_plain_python(arguments, changes):
    arguments = arguments | changes
    token_ids = rows_of_text(40, 50, seed=1)
    draws = np.random.default_rng(2).integers(0, 2**32, 40).astype(np.uint32)
    found = MaskedLMMask(**arguments)(token_ids, draws)
    assert_same(found, ReferenceMask(**arguments)(token_ids, draws))


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_rows_shorter_than_the_slots(length):
    token_ids = np.full((3, length), 7, np.int32)
    token_ids[1] = PAD
    draws = np.arange(3)
    found = MaskedLMMask(**COMMON)(token_ids, draws)
    assert found["mask_positions"].shape == (3, 20)
    assert_same(found, ReferenceMask(**COMMON)(token_ids, draws))


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.01, 0.77, 1e-12])
def test_the_number_of_targets_is_rounded_as_python_rounds(rate):
    counts = np.arange(0, 130)
    token_ids = np.where(np.arange(130) < counts[:, None], 7, PAD)
    arguments = COMMON | {"mask_selection_rate": rate, "mask_selection_length": 64}
    weights = MaskedLMMask(**arguments)(token_ids, counts)["mask_weights"]
    found = np.asarray(weights).sum(axis=1)
    expected = [0, *[min(64, max(1, round(rate * n))) for n in counts[1:]]]
    np.testing.assert_array_equal(found, expected)


def test_draws_count_modulo_two_to_the_32():
    token_ids = rows_of_text(2, 40, full=True)
    layer = MaskedLMMask(**COMMON)
    expected = numpy_of(layer(token_ids, np.array([2**32 - 1, 5], np.uint32)))
    assert_same(layer(token_ids, np.array([-1, 5], np.int32)), expected)
    assert_same(layer(token_ids, np.array([2**32 - 1, 2**32 + 5], np.int64)), expected)


# --- the same everywhere --------------------------------------------------------------


@BOTH
def test_eager_graph_xla_and_tf_data_agree(arguments):
    layer = MaskedLMMask(**arguments)
    token_ids = rows_of_text(32, 64)
    draws = np.arange(100, 132, dtype=np.int32)
    expected = numpy_of(layer(token_ids, draws))

    def call(token_ids, draws):
        return layer(token_ids, draws)

    any_shape = [tf.TensorSpec([None, None], "int32"), tf.TensorSpec([None], "int32")]
    assert_same(tf.function(call)(token_ids, draws), expected)
    assert_same(tf.function(call, jit_compile=True)(token_ids, draws), expected)
    assert_same(
        tf.function(call, input_signature=any_shape)(token_ids, draws), expected
    )
    rows = tf.data.Dataset.from_tensor_slices((token_ids, draws)).batch(10)
    batches = [numpy_of(batch) for batch in rows.map(call, num_parallel_calls=2)]
    joined = {n: np.concatenate([b[n] for b in batches]) for n in expected}
    assert_same(joined, expected)


ON_ANOTHER_BACKEND = """
import json, sys
import keras, numpy as np
from kbert.layers.masked_lm_mask import MaskedLMMask
inputs = np.load(sys.argv[1])
outputs = {}
for kind, arguments in json.load(open(sys.argv[2])).items():
    layer = MaskedLMMask(**arguments)
    calls = {"plain": layer(inputs["token_ids"], inputs["draws"])}
    if keras.config.backend() == "jax":
        import jax
        calls["jit"] = jax.jit(layer)(inputs["token_ids"], inputs["draws"])
    calls["counter"] = layer(inputs["token_ids"])
    for call, found in calls.items():
        for name, value in found.items():
            outputs[f"{kind} {call} {name}"] = keras.ops.convert_to_numpy(value)
np.savez(sys.argv[3], **outputs)
"""


# Keras's NumPy backend imports JAX.
@pytest.mark.parametrize(
    ("backend", "package"), [("numpy", "jax"), ("jax", "jax"), ("torch", "torch")]
)
def test_other_backends_agree(backend, package, tmp_path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    token_ids = rows_of_text(8, 40)
    draws = np.arange(2**32 - 4, 2**32 + 4).astype(np.uint32)
    np.savez(tmp_path / "inputs.npz", token_ids=token_ids, draws=draws)
    kinds = {"tokens": COMMON, "words": WHOLE_WORDS}
    (tmp_path / "arguments.json").write_text(json.dumps(kinds))
    files = [str(tmp_path / f) for f in ("inputs.npz", "arguments.json", "found.npz")]
    subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND, *files],
        env=os.environ | {"KERAS_BACKEND": backend},
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    found = np.load(tmp_path / "found.npz")
    for kind, arguments in kinds.items():
        layer = MaskedLMMask(**arguments)  # of TensorFlow
        expected = numpy_of(layer(token_ids, draws))
        calls = {"plain": expected, "counter": numpy_of(layer(token_ids))}
        if backend == "jax":
            calls["jit"] = expected
        for call, outputs in calls.items():
            assert_same({n: found[f"{kind} {call} {n}"] for n in outputs}, outputs)


@BOTH
def test_neither_padding_nor_the_other_rows_matter(arguments):
    layer = MaskedLMMask(**arguments)
    token_ids = rows_of_text(6, 40)
    draws = np.arange(6)
    expected = numpy_of(layer(token_ids, draws))
    longer = numpy_of(layer(np.pad(token_ids, ((0, 0), (0, 30))), draws))
    longer["token_ids"] = longer["token_ids"][:, :40]
    assert_same(longer, expected)
    alone = layer(token_ids[3:4], draws[3:4])
    assert_same(alone, {name: value[3:4] for name, value in expected.items()})


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16", "float64"])
def test_a_dtype_policy_changes_nothing(policy):
    token_ids = rows_of_text(8, 40)
    draws = np.arange(8)
    expected = numpy_of(MaskedLMMask(**COMMON)(token_ids, draws))
    layer = MaskedLMMask(**COMMON, dtype=policy)
    assert_same(layer(token_ids, draws), expected)
    inputs = [keras.Input((40,), dtype="int32"), keras.Input((), dtype="int32")]
    outputs = layer(*inputs)
    assert {n: (o.shape, o.dtype) for n, o in outputs.items()} == {
        n: ((None, *value.shape[1:]), str(value.dtype)) for n, value in expected.items()
    }
    assert_same(keras.Model(inputs, outputs)([token_ids, draws]), expected)


# --- the counter ----------------------------------------------------------------------


def test_without_draws_every_call_masks_anew():
    layer = MaskedLMMask(**COMMON)
    token_ids = np.repeat(rows_of_text(1, 64, full=True), 4, axis=0)
    reference = ReferenceMask(**COMMON)
    assert_same(layer(token_ids), reference(token_ids, [0, 1, 2, 3]))
    compiled = tf.function(lambda tokens: layer(tokens))
    assert_same(compiled(token_ids), reference(token_ids, [4, 5, 6, 7]))
    assert_same(compiled(token_ids), reference(token_ids, [8, 9, 10, 11]))
    layer(token_ids, np.arange(4))
    assert int(layer.counter.value) == 12, "draws that are given do not count"
    assert [v.path for v in layer.weights] == [layer.counter.path]
    assert not layer.trainable_weights


def test_a_text_has_another_mask_at_every_draw_and_seed():
    token_ids = np.repeat(rows_of_text(1, 128, full=True), 2000, axis=0)
    drawn = numpy_of(MaskedLMMask(**COMMON)(token_ids, np.arange(2000)))
    masks = {row.tobytes() for row in drawn["mask_positions"]}
    assert len(masks) == 2000
    seeded = {
        np.asarray(
            MaskedLMMask(**COMMON, seed=seed)(token_ids[:1], np.array([0]))[
                "mask_positions"
            ]
        ).tobytes()
        for seed in range(50)
    }
    assert len(seeded) == 50


# --- whole words ----------------------------------------------------------------------


def test_words_without_continuation_are_tokens():
    token_ids = rows_of_text(50, 64)
    draws = np.arange(50)
    words = WHOLE_WORDS | {"continuation": [False] * NUM_TOKENS}
    found = MaskedLMMask(**words)(token_ids, draws)
    assert_same(found, numpy_of(MaskedLMMask(**COMMON)(token_ids, draws)))


def test_a_word_longer_than_the_number_is_passed_over():
    begins, continues = 10, 14
    word = [begins, *[continues] * 9]
    token_ids = np.array([[CLS, *word, SEP], [CLS, *word[:-1], SEP, continues]])
    masked = numpy_of(MaskedLMMask(**WHOLE_WORDS)(token_ids, np.array([0, 1])))
    # Of the 10 tokens of either row 2 may go; behind [SEP] a new word begins.
    np.testing.assert_array_equal(masked["mask_weights"].sum(axis=1), [0, 1])
    assert masked["mask_positions"][1, 0] == 11
    np.testing.assert_array_equal(masked["token_ids"][0], token_ids[0])


# --- arguments ------------------------------------------------------------------------


@BOTH
def test_serialization_round_trip(arguments, tmp_path):
    layer = MaskedLMMask(**arguments, seed=5, name="hide")
    token_ids = rows_of_text(4, 30)
    inputs = keras.Input((30,), dtype="int32")
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    config = json.loads(json.dumps(keras.layers.serialize(layer)))
    copy = keras.layers.deserialize(config)
    assert copy.get_config() == layer.get_config()
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("hide")
    layer.counter.assign(0)
    loaded.counter.assign(0)
    expected = numpy_of(layer(token_ids))
    assert_same(copy(token_ids), expected)
    assert_same(loaded(token_ids), expected)


def test_the_counter_is_saved_with_a_model(tmp_path):
    inputs = keras.Input((30,), dtype="int32")
    model = keras.Model(inputs, MaskedLMMask(**COMMON)(inputs))
    token_ids = rows_of_text(4, 30)
    model(token_ids)
    model.save(tmp_path / "model.keras")
    expected = numpy_of(model(token_ids))
    assert_same(keras.saving.load_model(tmp_path / "model.keras")(token_ids), expected)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"mask_selection_rate": 0.0}, "above 0 and below 1.*Received: 0.0"),
        ({"mask_selection_rate": 1}, "above 0 and below 1.*Received: 1"),
        ({"mask_selection_rate": float("nan")}, "above 0 and below 1"),
        ({"mask_token_rate": 0.95}, "1 at most together. Received: 0.95 and 0.1"),
        ({"random_token_rate": -0.1}, "0 or more.*Received: 0.8 and -0.1"),
        ({"mask_selection_length": 0}, "`mask_selection_length`.*Received: 0"),
        ({"seed": -1}, "`seed` must be 0 or more. Received: -1"),
        ({"mask_token_id": 1000}, r"\[0, 1000\)"),
        ({"special_token_ids": [-1]}, r"\[0, 1000\)"),
        ({"special_token_ids": range(1000)}, "leave a token"),
        ({"whole_word": True}, "needs `continuation`"),
        ({"continuation": [True] * 999}, "here 1000. Received: 999"),
    ],
    ids=str,
)
def test_wrong_arguments(wrong, match):
    with pytest.raises(ValueError, match=match):
        MaskedLMMask(**COMMON | wrong)
