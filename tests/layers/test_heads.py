"""The pretraining heads beside NumPy; gradients, saving, precision, XLA."""

import keras
import numpy as np
import pytest

from kbert.layers import MaskedLMHead, NextSentenceHead
from tests.layers import checks, reference

BATCH, LENGTH, SLOTS, HIDDEN, VOCABULARY = 2, 6, 3, 8, 11
X = np.random.default_rng(4).normal(size=(BATCH, LENGTH, HIDDEN)).astype("float32")
POSITIONS = np.array([[1, 4, 5], [2, 0, 0]])


def build(dtype: str = "float32", **arguments) -> MaskedLMHead:
    table = keras.layers.Embedding(VOCABULARY, HIDDEN, dtype=dtype)
    layer = MaskedLMHead(table, dtype=dtype, **arguments)
    layer.build(X.shape)
    checks.randomize(layer)
    return layer


@pytest.fixture(scope="module")
def head() -> MaskedLMHead:
    return build()


def call(head):
    return head(X, POSITIONS)


@pytest.mark.parametrize("approximate_gelu", [True, False])
def test_numpy_agrees(approximate_gelu):
    head = build(approximate_gelu=approximate_gelu, layer_norm_epsilon=1e-3)
    expected = reference.masked_lm_head(
        X.astype(np.float64),
        POSITIONS,
        [
            np.array(weight, np.float64)
            for weight in (
                head.bias,
                head.token_embedding.embeddings,
                head.dense.kernel,
                head.dense.bias,
                head.norm.gamma,
                head.norm.beta,
            )
        ],
        approximate_gelu=approximate_gelu,
        epsilon=1e-3,
    )
    np.testing.assert_allclose(call(head), expected, atol=1e-5)


def test_every_weight_learns(head):
    assert len(head.trainable_weights) == 6
    checks.assert_every_weight_learns(head, lambda: call(head))


def test_only_masked_positions_matter(head):
    read = np.zeros((BATCH, LENGTH, 1), bool)
    for row, positions in enumerate(POSITIONS):
        read[row, positions] = True
    changed = np.where(read, X, X + 9.0)
    np.testing.assert_array_equal(head(changed, POSITIONS), call(head))
    [gradient] = checks.gradients(lambda x: head(x, POSITIONS), [], [X])
    assert np.array_equal(np.abs(gradient).max(-1, keepdims=True) > 0, read)


def test_serializable(head, tmp_path):
    checks.assert_config_round_trip(
        build(approximate_gelu=True, layer_norm_epsilon=1e-3), call
    )
    inputs = [keras.Input((None, HIDDEN)), keras.Input((SLOTS,), dtype="int32")]
    model = keras.Model(inputs, head(*inputs))
    assert model.output.shape == (None, SLOTS, VOCABULARY)
    checks.assert_model_is_saved_whole(model, [X, POSITIONS], tmp_path)


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
def test_half_precision(head, policy):
    checks.assert_half_precision_is_close(policy, head, build, call)
    twin = build(policy)
    inputs = [keras.Input((None, HIDDEN)), keras.Input((SLOTS,), dtype="int32")]
    assert keras.backend.standardize_dtype(call(twin).dtype) == "float32"
    assert twin(*inputs).dtype == "float32"


def test_xla(head):
    checks.assert_xla_agrees(lambda: call(head))


def build_next_sentence(dtype: str = "float32") -> NextSentenceHead:
    layer = NextSentenceHead(dtype=dtype)
    layer.build((None, HIDDEN))
    checks.randomize(layer)
    return layer


def test_next_sentence_head_is_a_product(tmp_path):
    layer = build_next_sentence()
    kernel, bias = layer.get_weights()
    expected = X[:, 0] @ kernel + bias
    np.testing.assert_allclose(layer(X[:, 0]), expected, atol=1e-6)
    checks.assert_every_weight_learns(layer, lambda: layer(X[:, 0]))
    checks.assert_config_round_trip(layer, lambda head: head(X[:, 0]))
    checks.assert_xla_agrees(lambda: layer(X[:, 0]))
    inputs = keras.Input((HIDDEN,))
    model = keras.Model(inputs, layer(inputs))
    checks.assert_model_is_saved_whole(model, X[:, 0], tmp_path)


@pytest.mark.parametrize("policy", checks.HALF_PRECISIONS)
def test_next_sentence_head_in_half_precision(policy):
    checks.assert_half_precision_is_close(
        policy, build_next_sentence(), build_next_sentence, lambda head: head(X[:, 0])
    )
    assert build_next_sentence(policy)(keras.Input((HIDDEN,))).dtype == "float32"
