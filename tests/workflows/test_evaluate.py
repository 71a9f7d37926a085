"""Evaluation agrees with what training wrote, and reads other data too."""

import pytest

from kbert.errors import ConfigError, DataError


def test_without_data_it_is_the_run_s_own_test_data(tiny_run):
    assert tiny_run.evaluate() == tiny_run.metrics["test"]


def test_the_held_out_share_is_the_same_again(tiny_run, tmp_path):
    # A run without test data evaluates on what was held out of its training data.
    text = (tiny_run.path / "config.toml").read_text("utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("test =")]
    try:
        (tiny_run.path / "config.toml").write_text("\n".join(kept), "utf-8")
        assert tiny_run.evaluate() == tiny_run.metrics["validation"]
    finally:
        (tiny_run.path / "config.toml").write_text(text, "utf-8")


def test_other_data_with_other_columns(tiny_run, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(
        '{"body": "a film is good", "label": "pos"}\n'
        '{"body": "a film is bad", "label": "neg"}\n'
        '{"body": "the food was bad", "label": "pos"}\n'
    )
    metrics = tiny_run.evaluate(
        str(other), settings={"data.text": "body", "data.label": "label"}
    )
    assert metrics["num_examples"] == 3
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["confusion_matrix"]["counts"] == [[1, 0], [1, 1]]


def test_a_label_that_training_never_saw(tiny_run, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("review,verdict\na film is good,great\n")
    with pytest.raises(DataError, match=r"other\.csv.*never saw: 'great'"):
        tiny_run.evaluate(str(other))


def test_settings_without_effect_are_refused(tiny_run):
    with pytest.raises(ConfigError, match=r"train\.epochs has no effect"):
        tiny_run.evaluate(settings={"train.epochs": 3})
