"""Which variables are frozen, and how fast each one learns."""

import keras
import numpy as np
import pytest

from kbert.encoder import freeze, layer_rates
from kbert.errors import ConfigError
from kbert.tasks import TextClassification
from kbert.training.optimizer import AdamW
from tests.tiny import build_backbone

TASK = TextClassification(labels=("no", "yes"))
FEATURES = {
    "token_ids": np.array([[2, 5, 6, 3]]),
    "segment_ids": np.array([[0, 0, 1, 1]]),
    "padding_mask": np.ones((1, 4), "int32"),
}


def changed_variables(task_model: keras.Model, rates=None) -> set[str]:
    """The paths of the variables that one update changes."""
    model = keras.Model(task_model.input, task_model.output)
    model.compile(AdamW(learning_rate=0.1, decay=0.0, rates=rates), TASK.loss())
    before = {v.path: np.array(v) for v in task_model.variables}
    model.train_on_batch(FEATURES, np.array([1]))
    return {
        v.path
        for v in task_model.variables
        if v.dtype == "float32" and not np.array_equal(before[v.path], np.array(v))
    }


def test_every_weight_learns_without_freezing():
    task_model = TASK.build_model(build_backbone(num_layers=2), dropout=0.0)
    weights = {v.path for v in task_model.trainable_variables}
    # A key's bias moves all scores of a row alike, which softmax takes out again:
    # its gradient is zero but for rounding.
    key_biases = {path for path in weights if path.endswith("key/bias")}
    assert len(key_biases) == 2
    assert weights - changed_variables(task_model) <= key_biases


def test_freezing_keeps_embeddings_and_first_layers():
    backbone = build_backbone(num_layers=2)
    freeze(backbone, embeddings=True, num_layers=1)
    changed = changed_variables(TASK.build_model(backbone, dropout=0.0))
    assert changed
    assert not [p for p in changed if "embedding" in p or "layer_0" in p]
    assert [p for p in changed if "transformer_layer_1" in p]
    assert [p for p in changed if "pooled_dense" in p]


def test_freezing_more_layers_than_there_are():
    with pytest.raises(ConfigError, match=r"at most 2.*Received: 3"):
        freeze(build_backbone(num_layers=2), embeddings=False, num_layers=3)


def test_layer_rates_fall_towards_the_embeddings():
    task_model = TASK.build_model(build_backbone(num_layers=2), dropout=0.0)
    rates = layer_rates(task_model, layer_decay=0.5)
    expected = {
        "logits/kernel": 1.0,
        "pooled_dense/kernel": 1.0,
        "transformer_layer_1/": 0.5,
        "transformer_layer_0/": 0.25,
        "token_embedding/": 0.125,
        "position_embedding/": 0.125,
        "segment_embedding/": 0.125,
        "embeddings_layer_norm/": 0.125,
    }
    for part, rate in expected.items():
        found = {rate for path, rate in rates.items() if part in path}
        assert found == {rate}, part
    assert set(rates) >= {v.path for v in task_model.trainable_variables}


def test_a_rate_of_zero_keeps_a_variable():
    task_model = TASK.build_model(build_backbone(), dropout=0.0)
    kept = next(v.path for v in task_model.variables if "pooled_dense/kernel" in v.path)
    assert kept not in changed_variables(task_model, {kept: 0.0})
