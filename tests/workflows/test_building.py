"""A trainee: each setting reaches the model, and what is saved is what was trained."""

import keras_hub
import numpy as np
import pytest

from kbert.config import FinetuneConfig, TrainSettings
from kbert.new_runs import create_run
from kbert.presets import resolve_preset
from kbert.tasks import TextClassification
from kbert.workflows.building import Trainee, build_trainee

TASK = TextClassification(labels=("a", "b", "c"))
FEATURES = {
    "token_ids": np.array([[2, 5, 6, 3, 0], [2, 7, 8, 9, 3]]),
    "segment_ids": np.zeros((2, 5), "int32"),
    "padding_mask": np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
}


def build(preset_folder, dropout=None, **settings) -> Trainee:
    settings = {
        "precision": "float32", "jit_compile": False, "learning_rate": 0.01
    } | settings  # fmt: skip
    return build_trainee(
        resolve_preset(str(preset_folder)),
        TASK,
        TrainSettings(**settings),
        dropout=dropout,
        total_steps=10,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"freeze_embeddings": True, "freeze_layers": 1},
        {"precision": "mixed_bfloat16"},
    ],
    ids=["plain", "frozen", "bfloat16"],
)
def test_the_saved_model_is_the_trained_one_in_float32(tiny_preset, tmp_path, settings):
    trainee = build(tiny_preset, **settings)
    for _ in range(3):
        trainee.model.train_on_batch(FEATURES, np.array([0, 2]))
    run = create_run(tmp_path / "run", FinetuneConfig())
    trainee.save(run, resolve_preset(str(tiny_preset)), max_length=32)
    loaded = keras_hub.models.BertTextClassifier.from_preset(str(run.model_folder))
    assert loaded.dtype_policy.name == "float32"
    assert loaded.backbone.dtype_policy.name == "float32"
    np.testing.assert_array_equal(
        loaded.backbone.token_embedding.embeddings,
        trainee.model.embeddings.token_embedding.embeddings,
    )
    tolerance = 0.05 if settings.get("precision") else 1e-6
    loaded.preprocessor = None
    np.testing.assert_allclose(
        np.asarray(loaded.predict_on_batch(FEATURES), "float32"),
        np.asarray(trainee.model.predict_on_batch(FEATURES), "float32"),
        atol=tolerance,
    )


def test_the_saved_tokenizer_strips_accents_as_kbert_does(tiny_preset, tmp_path):
    run = create_run(tmp_path / "run", FinetuneConfig())
    preset = resolve_preset(str(tiny_preset))
    build(tiny_preset).save(run, preset, max_length=32)
    tokenizer = keras_hub.models.BertTokenizer.from_preset(str(run.model_folder))
    assert list(tokenizer("gööd Film")) == [5, 7]


def test_dropout_reaches_encoder_and_head(tiny_preset):
    given = build(tiny_preset, dropout=0.35).model
    assert given.encoder_layers[0].dropout == 0.35
    assert given.head_dropout.rate == 0.35
    assert build(tiny_preset).model.encoder_layers[0].dropout == 0.1


def test_schedule_and_clipping_reach_the_optimizer(tiny_preset):
    trainee = build(
        tiny_preset,
        warmup_steps=4,
        schedule="constant",
        clip_norm=0.5,
        weight_decay=0.2,
    )
    rates = [float(trainee.schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])
    optimizer = trainee.model.optimizer
    assert optimizer.global_clipnorm == 0.5
    assert optimizer.decay == 0.2
    assert float(optimizer.learning_rate) == pytest.approx(0.0025)


def test_the_warmup_is_a_share_of_the_steps(tiny_preset):
    schedule = build(tiny_preset, warmup_ratio=0.5).schedule
    rates = [float(schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01])


def test_float16_scales_the_loss(tiny_preset):
    trainee = build(
        tiny_preset, precision="mixed_float16", gradient_accumulation_steps=2
    )
    losses = [trainee.model.train_on_batch(FEATURES, np.array([0, 2]))] * 4
    assert np.isfinite(losses).all()
    assert type(trainee.model.optimizer).__name__ == "LossScaleOptimizer"
    assert trainee.model.optimizer.inner_optimizer.gradient_accumulation_steps == 2


def test_xla_compiles_the_step(tiny_preset):
    compiled, plain = build(tiny_preset, jit_compile=True), build(tiny_preset)
    assert compiled.model.jit_compile is True
    compiled.model.set_weights(plain.model.get_weights())
    one = compiled.model.test_on_batch(FEATURES, np.array([0, 2]))
    other = plain.model.test_on_batch(FEATURES, np.array([0, 2]))
    assert one == pytest.approx(other, abs=1e-5)
