"""Which variables train, and how fast; weights to keras-hub and back."""

import keras
import keras_hub
import numpy as np
import pytest

from kbert.encoder import (
    copy_from_keras_hub,
    copy_head_from_keras_hub,
    copy_to_keras_hub,
    freeze,
    layer_rates,
)
from kbert.errors import ConfigError
from kbert.models import MASKED_LM, BertEncoder, BertForPretraining
from kbert.tasks import TextClassification
from kbert.training.optimizer import AdamW
from tests.layers import checks
from tests.tiny import build_backbone, build_model

TASK = TextClassification(labels=("no", "yes"))
FEATURES = {
    "token_ids": np.array([[2, 5, 6, 3]]),
    "segment_ids": np.array([[0, 0, 1, 1]]),
    "padding_mask": np.ones((1, 4), "int32"),
}


def changed_variables(model: BertEncoder, rates=None) -> set[str]:
    """The paths of the variables that one update changes."""
    model.compile(AdamW(learning_rate=0.1, decay=0.0, rates=rates), TASK.loss())
    before = {v.path: np.array(v) for v in model.variables}
    model.train_on_batch(FEATURES, np.array([1]))
    return {
        v.path
        for v in model.variables
        if v.dtype == "float32" and not np.array_equal(before[v.path], np.array(v))
    }


def test_every_weight_learns_without_freezing():
    model = build_model(TASK, num_layers=2)
    assert changed_variables(model) == {v.path for v in model.trainable_variables}


def test_freezing_keeps_embeddings_and_first_layers():
    model = build_model(TASK, num_layers=2)
    freeze(model, embeddings=True, num_layers=1)
    changed = changed_variables(model)
    assert not [p for p in changed if "embedding" in p or "layer_0" in p]
    assert [p for p in changed if "encoder_layer_1" in p]
    assert [p for p in changed if "pooler" in p]


def test_freezing_more_layers_than_there_are():
    with pytest.raises(ConfigError, match=r"at most 2.*Received: 3"):
        freeze(build_model(TASK, num_layers=2), embeddings=False, num_layers=3)


def test_layer_rates_fall_towards_the_embeddings():
    model = build_model(TASK, num_layers=2)
    rates = layer_rates(model, layer_decay=0.5)
    expected = {
        "logits/kernel": 1.0,
        "pooler/kernel": 1.0,
        "encoder_layer_1/": 0.5,
        "encoder_layer_0/": 0.25,
        "token_embedding/": 0.125,
        "embeddings/positions": 0.125,
        "segment_embedding/": 0.125,
        "embeddings/norm/": 0.125,
    }
    for part, rate in expected.items():
        found = {rate for path, rate in rates.items() if part in path}
        assert found == {rate}, part
    assert set(rates) >= {v.path for v in model.trainable_variables}


def test_a_rate_of_zero_keeps_a_variable():
    model = build_model(TASK)
    assert model.pooler.kernel.path in changed_variables(model)
    model = build_model(TASK)
    kept = model.pooler.kernel.path
    assert kept not in changed_variables(model, {kept: 0.0})


MASKED_FEATURES = FEATURES | {"mask_positions": np.array([[1, 2]])}


def twin_of(backbone: keras_hub.models.BertBackbone, **arguments) -> BertForPretraining:
    """kbert's model of the same sizes, with weights of its own."""
    sizes = (
        "vocabulary_size",
        "num_layers",
        "num_heads",
        "hidden_dim",
        "intermediate_dim",
        "max_sequence_length",
        "num_segments",
    )
    own = {name: getattr(backbone, name) for name in sizes}
    return BertForPretraining(**(own | {"dropout": 0.0} | arguments))


def values_of(model: keras.Model) -> list[np.ndarray]:
    """The weights, without the states of random generators."""
    return [np.array(v) for v in model.weights if "seed_generator" not in v.path]


def assert_equal_weights(model: keras.Model, other: keras.Model) -> None:
    for ours, theirs in zip(values_of(model), values_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_from_keras_hub_and_back():
    original = keras_hub.models.BertMaskedLM(build_backbone(num_layers=2))
    checks.randomize(original)
    model = twin_of(original.backbone)
    copy_from_keras_hub(original.backbone, model)
    copy_head_from_keras_hub(original.masked_lm_head, model)
    expected = original(MASKED_FEATURES)
    np.testing.assert_allclose(model(MASKED_FEATURES)[MASKED_LM], expected, atol=1e-5)
    copied = keras_hub.models.BertMaskedLM(build_backbone(num_layers=2))
    copy_to_keras_hub(model, copied)
    assert_equal_weights(copied, original)
    np.testing.assert_array_equal(copied(MASKED_FEATURES), expected)


def test_without_a_head_that_of_the_model_stays():
    backbone = build_backbone()
    checks.randomize(backbone)
    model = twin_of(backbone)
    checks.randomize(model, seed=1)
    before = model.masked_lm_head.dense.get_weights()
    copy_from_keras_hub(backbone, model)
    after = model.masked_lm_head.dense.get_weights()
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_allclose(
        model.encode(FEATURES), backbone(FEATURES)["sequence_output"], atol=1e-5
    )


@pytest.mark.parametrize(
    "other", [{"num_heads": 4}, {"num_layers": 1}, {"max_sequence_length": 16}]
)
def test_weights_of_another_size(other):
    masked_lm = keras_hub.models.BertMaskedLM(build_backbone(num_layers=2))
    model = twin_of(masked_lm.backbone, **other)
    before = model.get_weights()
    [(name, value)] = other.items()
    theirs = getattr(masked_lm.backbone, name)
    message = f"Received: {name} {value} and {theirs} "
    with pytest.raises(ValueError, match=message):
        copy_from_keras_hub(masked_lm.backbone, model)
    with pytest.raises(ValueError, match=message):
        copy_to_keras_hub(model, masked_lm)
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


def test_a_real_preset_and_back(shared_dir):
    folder = str(shared_dir / "data/presets/all_minilm_l6_v2_en")
    original = keras_hub.models.BertBackbone.from_preset(folder)
    rng = np.random.default_rng(0)
    features = {
        "token_ids": rng.integers(1000, 30_000, (2, 24)),
        "segment_ids": np.zeros((2, 24), "int32"),
        "padding_mask": (np.arange(24) < np.array([[24], [9]])).astype("int32"),
    }
    expected = original(features)["sequence_output"]
    model = twin_of(original)
    copy_from_keras_hub(original, model)
    np.testing.assert_allclose(model.encode(features), expected, atol=1e-5)
    config = {k: v for k, v in original.get_config().items() if k != "name"}
    copied = keras_hub.models.BertMaskedLM(
        keras_hub.models.BertBackbone.from_config(config)
    )
    copy_to_keras_hub(model, copied)
    assert_equal_weights(copied.backbone, original)
    np.testing.assert_allclose(
        copied.backbone(features)["sequence_output"], expected, atol=1e-5
    )
