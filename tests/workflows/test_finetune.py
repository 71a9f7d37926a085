"""A fine-tuning from end to end, on a language of ten words."""

import io
import json
from collections.abc import Iterator

import h5py
import numpy as np
import pytest

import kbert
from kbert.config import DataSettings, FinetuneConfig, ModelSettings, TrainSettings
from kbert.errors import RunError, TrainingError
from kbert.runs import RunFolder, open_run
from kbert.workflows.finetune import estimate, finetune


def config_for(preset, examples, **train) -> FinetuneConfig:
    return FinetuneConfig(
        model=ModelSettings(preset=str(preset)),
        data=DataSettings(source=str(examples), text="review", label="verdict"),
        train=TrainSettings(precision="float32", **train),
    )


def _arrays(group: h5py.Group) -> Iterator[np.ndarray]:
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from _arrays(item)
        else:
            yield item[()]


def test_it_learns_the_language(tiny_run):
    assert tiny_run.metrics["test"]["accuracy"] == 1.0
    answers = tiny_run.predict(["a film is good", "the food is bad", "a film bad"])
    assert [answer["label"] for answer in answers] == ["pos", "neg", "neg"]
    assert answers[0]["text"] == "a film is good"
    for answer in answers:
        assert answer["score"] == answer["probabilities"][answer["label"]]
        assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_the_run_explains_itself(tiny_run, examples):
    names = {path.name for path in tiny_run.path.iterdir()}
    assert names == {
        "config.toml", "model", "task.json", "metrics.json", "history.jsonl",
        "curves.png", "confusion.png", "logs", "kbert.json", "checkpoints", ".lock",
    }  # fmt: skip
    config = tiny_run.config
    assert config.train.learning_rate == 0.02
    assert config.train.jit_compile is False
    assert config.data.max_length == 32
    assert tiny_run.labels == ("neg", "pos")
    task = json.loads((tiny_run.path / "task.json").read_text("utf-8"))
    assert task["columns"] == {"text": "review", "text_pair": None, "label": "verdict"}
    assert (task["lowercase"], task["strip_accents"]) == (True, True)
    info = json.loads((tiny_run.path / "kbert.json").read_text("utf-8"))
    assert info["status"] == "finished"
    assert info["data"]["test"]["num_examples"] == 72
    assert info["data"]["train"]["num_examples"] == 64
    assert info["steps"] == 15 * 8


def test_history_has_a_line_an_evaluation(tiny_run):
    text = (tiny_run.path / "history.jsonl").read_text("utf-8")
    history = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in history] == [8 * i for i in range(1, 16)]
    assert history[-1]["epoch"] == 15
    assert history[-1]["train_loss"] < 0.3 < history[0]["train_loss"]
    best = [line for line in history if line["is_best"]][-1]
    accuracies = [line["validation"]["accuracy"] for line in history]
    assert best["validation"]["accuracy"] == max(accuracies)
    # What the run keeps is the best, not the last.
    validation = tiny_run.metrics["validation"]
    assert validation["accuracy"] == best["validation"]["accuracy"]
    assert validation["loss"] == pytest.approx(best["validation"]["loss"], abs=1e-5)


def test_tensorboard_reads_the_logs(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = EventAccumulator(str(tiny_run.path / "logs" / "validation"), {"tensors": 0})
    logs.Reload()
    assert "accuracy" in logs.Tags()["tensors"]
    assert [event.step for event in logs.Tensors("accuracy")][:2] == [8, 16]


def test_a_loaded_run_answers_alike(tiny_run):
    loaded = kbert.load(tiny_run.path)
    texts = ["the film is good", "", "unknown words ", "a " * 100]
    # Threads may add up in another order: the last bit is nobody's promise.
    for one, other in zip(loaded.predict(texts), tiny_run.predict(texts), strict=True):
        assert other["label"] == one["label"]
        assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
    assert loaded.metrics == tiny_run.metrics


def test_a_text_is_answered_alike_alone_and_among_others(tiny_run):
    texts = [f"{'the film ' * n}is good" for n in range(12)]
    together = tiny_run.predict(texts)
    alone = [tiny_run.predict([text])[0] for text in texts]
    for one, other in zip(alone, together, strict=True):
        assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-5)


def test_the_same_seed_gives_the_same_weights(tmp_path, tiny_preset, examples):
    weights = {}
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        config = config_for(tiny_preset, examples, max_steps=6, epochs=1, seed=seed)
        run = finetune(config, output=tmp_path / name)
        with h5py.File(run.model_folder / "model.weights.h5") as file:
            weights[name] = np.concatenate([np.ravel(item) for item in _arrays(file)])
    np.testing.assert_array_equal(weights["one"], weights["two"])
    assert not np.allclose(weights["one"], weights["three"], atol=1e-4)


def test_a_run_is_a_preset_for_the_next(tmp_path, tiny_run, examples):
    config = config_for(tiny_run.path, examples, epochs=1, learning_rate=1e-6)
    run = finetune(config, output=tmp_path / "next")
    assert open_run(run.path).read_task()["labels"] == ["neg", "pos"]


def test_progress_is_shown(tmp_path, tiny_preset, examples):
    shown = io.StringIO()
    config = config_for(tiny_preset, examples, epochs=1)
    finetune(config, output=tmp_path / "run", progress=shown)
    assert "step 2: validation" in shown.getvalue()
    assert "2/2 steps" in shown.getvalue()


def test_reading_shows_how_far_it_is(tmp_path, tiny_preset, examples):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    config = config_for(tiny_preset, examples, epochs=1)
    data = config.data.model_copy(update={"test": str(examples)})
    config = config.model_copy(update={"data": data})
    finetune(config, output=tmp_path / "run", progress=shown)
    assert "reading examples.csv  examples 72" in shown.getvalue()
    assert "evaluating examples.csv" in shown.getvalue()


def test_metrics_that_are_known_are_not_measured_again(
    tmp_path, tiny_preset, examples, monkeypatch
):
    config = config_for(tiny_preset, examples, max_steps=4, epochs=1)
    monkeypatch.delattr("kbert.workflows.finetune.Predictor")
    run = finetune(config, output=tmp_path / "run")
    metrics = run.read_metrics()["validation"]
    assert json.loads(run.validation_file.read_text()) == metrics
    (line,) = [json.loads(text) for text in run.history_file.open()]
    figures = {key: metrics[key] for key in line["validation"]}
    assert figures == line["validation"]


@pytest.mark.parametrize("known", [None, {}, {"accuracy": 1.0}])
def test_metrics_that_are_not_known_are_measured(
    tmp_path, tiny_preset, examples, monkeypatch, known
):
    config = config_for(tiny_preset, examples, max_steps=2, epochs=1)
    measured = finetune(config, output=tmp_path / "one").read_metrics()["validation"]
    monkeypatch.setattr(RunFolder, "read_validation", lambda self: known)
    again = finetune(config, output=tmp_path / "two").read_metrics()["validation"]
    assert again["num_examples"] == 8
    assert again["loss"] == pytest.approx(measured["loss"], abs=1e-6)
    assert again["confusion_matrix"] == measured["confusion_matrix"]


def test_a_dry_run_writes_nothing(tmp_path, tiny_preset, examples):
    config = config_for(tiny_preset, examples, epochs=5)
    found = estimate(config, output=tmp_path / "run")
    assert found.total_steps == 10
    assert found.seconds > 0
    assert found.tokens_per_second > 0
    assert "10 steps" in found.summary()
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_no_numbers_stop_the_training(
    tmp_path, tiny_preset, examples, monkeypatch
):
    from kbert.workflows import finetune as workflow

    monkeypatch.setattr(
        workflow, "predict_outputs", lambda *_, **__: np.array([[np.nan, 0.0]])
    )
    config = config_for(tiny_preset, examples, epochs=1)
    with pytest.raises(TrainingError, match=r"diverged: after step 2 .*learning rate"):
        finetune(config, output=tmp_path / "run")
    info = json.loads((tmp_path / "run" / "kbert.json").read_text("utf-8"))
    assert info["status"] == "failed"


def test_a_finished_run_is_left_alone(tiny_run):
    with pytest.raises(RunError, match="finished run"):
        finetune(tiny_run.config, output=tiny_run.path)
