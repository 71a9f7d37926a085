"""Embeddings beside NumPy, the sinusoidal table beside its formula."""

import math
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.layers import BertEmbeddings, MaskedLMHead, sinusoidal_positions
from tests.layers import checks, reference

BATCH, LENGTH, POSITIONS, HIDDEN, VOCABULARY = 2, 5, 9, 8, 11
RNG = np.random.default_rng(3)
TOKEN_IDS = RNG.permutation(VOCABULARY)[: BATCH * LENGTH].reshape(BATCH, LENGTH)
SEGMENT_IDS = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])


def build(dtype: str = "float32", **arguments) -> BertEmbeddings:
    table = keras.layers.Embedding(VOCABULARY, HIDDEN, dtype=dtype)
    arguments = {"max_sequence_length": POSITIONS, "dropout": 0.0} | arguments
    layer = BertEmbeddings(table, dtype=dtype, **arguments)
    layer.build()
    checks.randomize(layer)
    return layer


@pytest.fixture(scope="module")
def layer() -> BertEmbeddings:
    return build()


def call(layer, training=False):
    return layer(TOKEN_IDS, SEGMENT_IDS, training=training)


@pytest.mark.parametrize("training", [False, True])
def test_numpy_agrees(training):
    layer = build(layer_norm_epsilon=1e-3)
    weights = [
        layer.positions,
        layer.token_embedding.embeddings,
        layer.segment_embedding.embeddings,
        layer.norm.gamma,
        layer.norm.beta,
    ]
    weights = [np.array(weight, np.float64) for weight in weights]
    expected = reference.embeddings(TOKEN_IDS, SEGMENT_IDS, weights, 1e-3)
    np.testing.assert_allclose(call(layer, training), expected, atol=1e-5)


def test_training_has_the_gradients_of_single_operations(layer):
    expected, found = (
        checks.gradients(
            lambda: call(layer, training),  # noqa: B023 - called at once
            layer.trainable_weights,
            [],
        )
        for training in (False, True)
    )
    assert len(found) == 5
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sinusoidal_table_is_that_of_the_formula():
    table = sinusoidal_positions(40, 6)
    assert table.dtype == np.float32
    for position in range(40):
        for pair in range(3):
            angle = position / 10_000 ** (2 * pair / 6)
            assert table[position, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-6)
            cosine = table[position, 2 * pair + 1]
            assert cosine == pytest.approx(math.cos(angle), abs=1e-6)


def test_sinusoidal_positions_are_used_and_do_not_learn():
    layer = build(position_embedding="sinusoidal")
    table = 0.05 * sinusoidal_positions(POSITIONS, HIDDEN)
    np.testing.assert_allclose(layer.positions, table, rtol=1e-6)
    assert len(layer.trainable_weights) == 4
    learned = build()
    learned.positions.assign(layer.positions)
    for name in ("token_embedding", "segment_embedding", "norm"):
        getattr(learned, name).set_weights(getattr(layer, name).get_weights())
    np.testing.assert_array_equal(call(layer), call(learned))


def test_every_weight_learns(layer):
    assert len(layer.trainable_weights) == 5
    checks.assert_every_weight_learns(layer, lambda: call(layer))


def test_a_position_depends_on_its_own_token_only(layer):
    changed = np.where(np.arange(LENGTH) < 3, TOKEN_IDS, 0)
    found, expected = layer(changed, SEGMENT_IDS), call(layer)
    np.testing.assert_array_equal(found[:, :3], expected[:, :3])
    assert np.all(np.any(found[:, 3:] != expected[:, 3:], axis=-1))


def test_rows_of_the_table_that_do_not_occur_get_no_gradient(layer):
    found = checks.gradients(
        lambda: layer(np.array([[4, 7]]), np.array([[0, 0]])),
        [layer.token_embedding.embeddings, layer.positions],
    )
    used_tokens, used_positions = (np.abs(g).sum(-1).nonzero()[0] for g in found)
    assert used_tokens.tolist() == [4, 7]
    assert used_positions.tolist() == [0, 1]


@pytest.mark.parametrize("position_embedding", ["learned", "sinusoidal"])
def test_config_round_trip(position_embedding):
    layer = build(dropout=0.2, position_embedding=position_embedding)
    checks.assert_config_round_trip(layer, call)


def test_a_saved_model_still_shares_the_table(layer, tmp_path):
    inputs = [keras.Input((None,), dtype="int32") for _ in range(2)]
    positions = keras.Input((2,), dtype="int32")
    head = MaskedLMHead(layer.token_embedding)
    outputs = head(layer(*inputs), positions)
    assert outputs.shape == (None, 2, VOCABULARY)
    model = keras.Model([*inputs, positions], outputs)
    values = [TOKEN_IDS, SEGMENT_IDS, np.array([[0, 1], [2, 4]])]
    loaded = checks.assert_model_is_saved_whole(model, values, tmp_path)
    first, second = (part for part in loaded.layers if hasattr(part, "token_embedding"))
    assert first.token_embedding is second.token_embedding


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
@pytest.mark.parametrize("training", [False, True])
def test_half_precision(layer, policy, training):
    checks.assert_half_precision_is_close(
        policy, layer, build, partial(call, training=training)
    )


def test_xla(layer):
    checks.assert_xla_agrees(lambda: call(layer))


def test_dropout_in_training_only(layer):
    dropping = build(dropout=0.5)
    np.testing.assert_array_equal(call(dropping), call(layer))
    outputs = np.array(dropping(TOKEN_IDS, SEGMENT_IDS, training=True))
    assert 0.2 < (outputs == 0).mean() < 0.8


def test_lengths_unknown_until_called(layer):
    signature = [tf.TensorSpec((None, None), tf.int32)] * 2
    traced = tf.function(
        lambda tokens, segments: layer(tokens, segments), input_signature=signature
    )
    np.testing.assert_allclose(traced(TOKEN_IDS, SEGMENT_IDS), call(layer), atol=1e-6)


def test_bad_arguments(layer):
    with pytest.raises(ValueError, match=r"learned.*sinusoidal.*Received: 'fixed'"):
        build(position_embedding="fixed")
    with pytest.raises(ValueError, match=r"10 tokens, max_sequence_length=9"):
        layer(np.zeros((1, 10), "int32"), np.zeros((1, 10), "int32"))
