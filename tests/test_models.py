"""kbert's BERT as a whole: beside keras-hub's, saved, in half precision, elsewhere."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kbert.encoder import copy_to_keras_hub
from kbert.layers import sinusoidal_positions
from kbert.layers.embeddings import SINUSOIDAL_SCALE
from kbert.models import MASKED_LM, NEXT_SENTENCE, BertForPretraining
from tests.conftest import ROOT
from tests.layers import checks
from tests.models_on_another_backend import losses_of_training

SIZES = {
    "vocabulary_size": 15,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "max_sequence_length": 9,
}
RNG = np.random.default_rng(5)
LENGTHS = np.array([[8], [5], [3]])
FEATURES = {
    "token_ids": RNG.integers(1, 15, (3, 8)).astype("int32"),
    "segment_ids": (np.arange(8) >= LENGTHS // 2).astype("int32"),
    "padding_mask": (np.arange(8) < LENGTHS).astype("int32"),
    "mask_positions": np.array([[1, 4, 7], [2, 4, 0], [1, 0, 0]], "int32"),
}


def build(dtype: str = "float32", **arguments) -> BertForPretraining:
    model = BertForPretraining(**(SIZES | {"dropout": 0.0} | arguments), dtype=dtype)
    checks.randomize(model)
    return model


@pytest.fixture(scope="module")
def model() -> BertForPretraining:
    return build()


def call(model):
    return model(FEATURES)


@pytest.mark.parametrize("position_embedding", ["learned", "sinusoidal"])
def test_keras_hub_agrees(position_embedding):
    model = build(position_embedding=position_embedding)
    backbone = keras_hub.models.BertBackbone(**SIZES, dropout=0.0)
    masked_lm = keras_hub.models.BertMaskedLM(backbone)
    copy_to_keras_hub(model, masked_lm)
    expected = masked_lm(FEATURES)
    np.testing.assert_allclose(call(model)[MASKED_LM], expected, atol=1e-5)
    inside = {name: FEATURES[name] for name in backbone.input}
    np.testing.assert_allclose(
        model.encode(FEATURES), backbone(inside)["sequence_output"], atol=1e-5
    )
    is_table = np.allclose(
        backbone.position_embedding.position_embeddings,
        SINUSOIDAL_SCALE * sinusoidal_positions(9, 8),
    )
    assert is_table == (position_embedding == "sinusoidal")


def test_next_sentence_is_told_from_the_pooled_first_token(model):
    first = np.array(model.encode(FEATURES), np.float64)[:, 0]
    kernel, bias = model.pooler.get_weights()
    pooled = np.tanh(first @ kernel + bias)
    kernel, bias = model.next_sentence_head.dense.get_weights()
    expected = pooled @ kernel + bias
    np.testing.assert_allclose(call(model)[NEXT_SENTENCE], expected, atol=1e-5)


def test_every_weight_learns(model):
    assert len(model.trainable_weights) == 5 + 2 * 12 + 2 + 5 + 2
    checks.assert_every_weight_learns(model, lambda: call(model))


def test_without_next_sentence_the_pooler_stays_as_it_is():
    model = build(next_sentence=False)
    assert set(call(model)) == {MASKED_LM}
    assert not [w for w in model.trainable_weights if "pooler" in w.path]
    assert [w for w in model.weights if "pooler" in w.path]
    checks.assert_every_weight_learns(model, lambda: call(model))


def test_padding_is_without_influence(model):
    padding = FEATURES["padding_mask"] == 0
    changed = FEATURES | {
        "token_ids": np.where(
            padding, 14 - FEATURES["token_ids"], FEATURES["token_ids"]
        ),
        "segment_ids": np.where(padding, 0, FEATURES["segment_ids"]),
    }
    shorter = {name: values[1:, :5] for name, values in FEATURES.items()}
    for name, expected in call(model).items():
        np.testing.assert_array_equal(model(changed)[name], expected)
        np.testing.assert_allclose(model(shorter)[name], expected[1:], atol=1e-5)
    weights = model.trainable_weights
    expected = checks.gradients(lambda: call(model), weights)
    found = checks.gradients(lambda: model(changed), weights)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_unused_slot_has_no_influence_on_the_others(model):
    other = FEATURES | {"mask_positions": FEATURES["mask_positions"][:, :1]}
    expected = call(model)
    found = model(other)
    np.testing.assert_allclose(found[MASKED_LM], expected[MASKED_LM][:, :1], atol=1e-6)
    np.testing.assert_allclose(found[NEXT_SENTENCE], expected[NEXT_SENTENCE], atol=1e-6)


def test_serializable(tmp_path):
    model = build(
        "mixed_bfloat16",
        position_embedding="sinusoidal",
        next_sentence=False,
        approximate_gelu=False,
        head_approximate_gelu=True,
    )
    checks.assert_config_round_trip(model, call)
    loaded = checks.assert_model_is_saved_whole(model, FEATURES, tmp_path)
    assert loaded.get_config() == model.get_config()
    assert loaded.masked_lm_head.token_embedding is loaded.embeddings.token_embedding


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
def test_half_precision(model, policy):
    checks.assert_half_precision_is_close(policy, model, build, call)
    assert {y.dtype for y in call(build(policy)).values()} == {tf.float32}


def test_xla(model):
    checks.assert_xla_agrees(lambda: call(model))


def test_it_trains():
    keras.utils.set_random_seed(0)
    model = BertForPretraining(**SIZES)  # as it begins, with dropout
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.02),
        {MASKED_LM: loss, NEXT_SENTENCE: loss},
        jit_compile=False,
    )
    rows = np.arange(3)[:, None]
    targets = {
        MASKED_LM: FEATURES["token_ids"][rows, FEATURES["mask_positions"]],
        NEXT_SENTENCE: np.array([0, 1, 0]),
    }
    losses = [float(model.train_on_batch(FEATURES, targets)[0]) for _ in range(60)]
    assert losses[0] == pytest.approx(np.log(15) + np.log(2), abs=0.1)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_agrees(model, backend, tmp_path):
    """Values, gradients and updates, in a process of its own."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    weights = {f"weight {i}": w for i, w in enumerate(model.get_weights())}
    files = [str(tmp_path / name) for name in ("inputs.npz", "outputs.npz")]
    np.savez(files[0], sizes=json.dumps(SIZES), **FEATURES, **weights)
    subprocess.run(
        [sys.executable, "-m", "tests.models_on_another_backend", *files],
        env=os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        check=True,
    )
    x = model.embeddings(FEATURES["token_ids"], FEATURES["segment_ids"])
    attended, scores = model.encoder_layers[0].attention(
        x, FEATURES["padding_mask"], return_attention_scores=True
    )
    expected = {**call(model), "plain": attended, "scores": scores}
    if backend == "jax":
        expected |= {f"jit {name}": value for name, value in call(model).items()}
        expected |= {"fused": attended, "mask_shape": [3, 1, 8, 8]}
    with np.load(files[1]) as found:
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
        gradients = checks.gradients(lambda: call(model), model.trainable_weights)
        for number, gradient in enumerate(gradients):
            np.testing.assert_allclose(
                found[f"gradient {number}"], gradient, rtol=1e-4, atol=1e-5
            )
        losses = losses_of_training(build(), FEATURES)
        # Adam divides small gradients by themselves, rounding errors and all.
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-3)
        assert losses[-1] < losses[0]
        assert 0.09 < found["share_dropped"] < 0.11
