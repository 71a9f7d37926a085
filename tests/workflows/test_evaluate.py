"""Evaluation agrees with what training wrote, and reads other data too."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import kbert
from kbert.config import DataSettings
from kbert.data.encoded import EncodedDataset
from kbert.data.splits import stratified_split
from kbert.errors import ConfigError, DataError
from kbert.workflows.evaluate import _own_dataset
from tests.tiny import VOCABULARY


@pytest.fixture(scope="module")
def held_out_run(tmp_path_factory, tiny_preset, examples) -> kbert.Run:
    """A run of two steps on the first 40 of 72 examples, a quarter held out."""
    folder = tmp_path_factory.mktemp("held_out")
    shutil.copy(examples, folder / "data.csv")
    here = Path.cwd()
    os.chdir(folder)
    try:
        return kbert.finetune(
            tiny_preset,
            Path("data.csv"),
            output=folder / "run",
            settings={
                "train.max_steps": 2,
                "train.precision": "float32",  # as the evaluation
                "data.limit": 40,
                "data.validation_share": 0.25,
            },
        )
    finally:
        os.chdir(here)


def words_of(dataset: EncodedDataset) -> list[str]:
    rows = [
        dataset.token_ids[start : start + length]
        for start, length in zip(dataset.starts, dataset.lengths, strict=True)
    ]
    return [" ".join(VOCABULARY[i] for i in row[1:-1]) for row in rows]


def assert_same(found, expected):
    """Equal but for the last digits, which batches of other sizes change."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-5), name
        else:
            assert found[name] == value


def test_without_data_it_is_the_run_s_own_test_data(tiny_run):
    assert_same(tiny_run.evaluate(), tiny_run.metrics["test"])


def test_a_limit_applies_to_the_run_s_own_test_data(tiny_run):
    assert tiny_run.evaluate(settings={"data.limit": 6})["num_examples"] == 6


@pytest.mark.parametrize("limit", [None, 4, 1000])
def test_a_limit_scores_no_training_examples(held_out_run, limit):
    with open(held_out_run.config.data.source, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:40]
    labels = np.array([row["verdict"] == "neg" for row in rows])  # "pos" comes first
    held_out = stratified_split(labels, 0.25, seed=42)[1]
    dataset = _own_dataset(held_out_run.predictor, DataSettings(limit=limit))
    assert len(held_out) == 10
    assert words_of(dataset) == [rows[i]["review"] for i in held_out[:limit]]


def test_what_would_change_the_held_out_share_is_refused(held_out_run):
    for name, value in (("text", "review"), ("encoding_errors", "replace")):
        with pytest.raises(ConfigError, match=rf"data\.{name} has no effect.*--data"):
            held_out_run.evaluate(settings={f"data.{name}": value})


def test_a_run_works_from_anywhere(held_out_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = held_out_run.config
    assert config.data.source == str(held_out_run.path.parent / "data.csv")
    assert Path(config.model.preset).is_absolute()
    assert_same(held_out_run.evaluate(), held_out_run.metrics["validation"])


def test_training_data_that_have_changed(held_out_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(held_out_run.path, folder)
    data = tmp_path / "data.csv"
    source = Path(held_out_run.config.data.source)
    lines = source.read_text("utf-8").splitlines(keepends=True)
    data.write_text("".join([*lines[:3], "a film is not bad,pos\n", *lines[3:]]))
    config = folder / "config.toml"
    config.write_text(config.read_text("utf-8").replace(str(source), str(data)))
    run = kbert.load(folder)
    with pytest.raises(DataError, match=r"data\.csv is not as it was.*--data"):
        run.evaluate()
    assert run.evaluate(data)["num_examples"] == 73
    info = json.loads((folder / "kbert.json").read_text("utf-8"))
    del info["data"]  # nothing to compare with
    (folder / "kbert.json").write_text(json.dumps(info))
    assert run.evaluate()["num_examples"] == 10


def test_each_column_is_found_by_itself(tiny_run, tmp_path):
    """Named here, else as in training, else guessed."""
    other = tmp_path / "other.csv"
    # Neither the text nor the label could be guessed.
    other.write_text(
        "text,body,verdict,label\na film is good,x,pos,neg\nfilm is bad,y,neg,pos\n"
    )
    metrics = tiny_run.evaluate(other, settings={"data.text": "text"})
    assert metrics["accuracy"] == 1
    with pytest.raises(DataError, match='no column "review"'):
        tiny_run.evaluate(other, settings={"data.text": "review"})
    metrics = tiny_run.evaluate(
        other, settings={"data.text": "text", "data.label": "label"}
    )
    assert metrics["accuracy"] == 0


def test_the_held_out_share_is_the_same_again(tiny_run, tmp_path):
    # A run without test data evaluates on what was held out of its training data.
    text = (tiny_run.path / "config.toml").read_text("utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("test =")]
    try:
        (tiny_run.path / "config.toml").write_text("\n".join(kept), "utf-8")
        assert_same(tiny_run.evaluate(), tiny_run.metrics["validation"])
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
