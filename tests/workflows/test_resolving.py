"""What `auto` and open defaults become."""

from dataclasses import replace

import pytest

from kbert.config import DataSettings, FinetuneConfig, ModelSettings, TrainSettings
from kbert.errors import ConfigError
from kbert.presets import resolve_preset
from kbert.tasks import TextClassification
from kbert.training.precision import Choice
from kbert.workflows.resolving import resolve_config

CHOICE = Choice("mixed_bfloat16", False, "test")


@pytest.fixture(scope="module")
def preset(tiny_preset):
    return resolve_preset(str(tiny_preset))


def resolve(preset, **sections):
    return resolve_config(
        FinetuneConfig(**sections), preset, CHOICE, TextClassification
    )


def test_a_pretrained_encoder(preset):
    config = resolve(replace(preset, max_sequence_length=512, hidden_dim=768))
    assert config.train.epochs == 3
    assert config.train.learning_rate == 3e-5
    assert config.train.precision == "mixed_bfloat16"
    assert config.train.jit_compile is False
    assert config.train.best_metric == "accuracy"
    assert config.data.max_length == 256


def test_random_weights_train_longer_and_faster(preset):
    config = resolve(replace(preset, has_weights=False))
    assert config.train.epochs == 12
    assert config.train.learning_rate == 1e-3


def test_what_was_set_stays(preset):
    train = TrainSettings(epochs=7, learning_rate=0.5, best_metric="macro_f1")
    config = resolve(preset, train=train, data=DataSettings(max_length=10))
    assert config.train.epochs == 7
    assert config.train.learning_rate == 0.5
    assert config.train.best_metric == "macro_f1"
    assert config.data.max_length == 10


def test_max_length_within_the_preset(preset):
    assert resolve(preset).data.max_length == 32
    with pytest.raises(ConfigError, match=r"at most 32.*Received: 33"):
        resolve(preset, data=DataSettings(max_length=33))


def test_an_unknown_metric_names_the_nearest(preset):
    with pytest.raises(ConfigError, match=r"Received: macro_f\. Did you mean macro_f1"):
        resolve(preset, train=TrainSettings(best_metric="macro_f"))


def test_too_many_frozen_layers(preset):
    with pytest.raises(ConfigError, match=r"at most 1, .*Received: 2"):
        resolve(preset, train=TrainSettings(freeze_layers=2))


def test_the_sample_model_on_own_data_is_warned_of(preset, caplog):
    sample = replace(preset, name="sample")
    resolve(sample, data=DataSettings(source="mine.csv"))
    assert "random weights" in caplog.text
    caplog.clear()
    resolve(sample, model=ModelSettings(preset="sample"))
    assert caplog.text == ""
