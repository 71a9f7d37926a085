"""What a pretrained run's metrics are of, and which settings have an effect."""

import io
import logging
import os
import shutil

import pytest

import kbert
from kbert.errors import ConfigError, DataError
from kbert.runs import RunFolder, open_run
from kbert.training.masked_scores import METRICS
from kbert.workflows.pretraining.evaluation import (
    evaluate_pretrained,
    format_pretraining_metrics,
)
from tests.pretraining_runs import documents


@pytest.fixture(scope="module")
def other_text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "other.txt"
    path.write_text("\n\n".join(documents()[:40]), encoding="utf-8")
    return path


def test_its_own_held_out_text_gives_the_metrics_of_the_training(pretrained, caplog):
    found = evaluate_pretrained(pretrained)
    expected = pretrained.read_metrics()["validation"]
    assert found == pytest.approx(expected, abs=1e-6)
    assert not caplog.records


def test_other_text_all_of_it(pretrained, other_text):
    shown = io.StringIO()
    found = evaluate_pretrained(pretrained, data=str(other_text), progress=shown)
    # Of four sentences each, in pairs that a document ends.
    assert found["num_examples"] > 40
    assert 0 < found["masked_lm_accuracy"] <= 1
    assert "evaluating" in shown.getvalue()
    less = evaluate_pretrained(
        pretrained, data=str(other_text), assignments=["data.limit=10"]
    )
    assert less["num_examples"] < found["num_examples"]
    as_api = kbert.load(pretrained.path).evaluate(
        other_text, settings={"data.limit": 10}
    )
    assert as_api == less


def test_of_a_data_set_the_split_to_test_on(pretrained, caplog):
    with caplog.at_level(logging.INFO):
        found = evaluate_pretrained(pretrained, data="sample")
    assert "evaluating the split validation" in caplog.text
    expected = evaluate_pretrained(pretrained, data="sample", split="validation")
    trained = evaluate_pretrained(pretrained, data="sample", split="train")
    assert found == expected != trained


def test_precision(pretrained):
    found = evaluate_pretrained(pretrained, precision="mixed_bfloat16")
    expected = pretrained.read_metrics()["validation"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.05)
    assert found["loss"] != expected["loss"]


def copy_of(run: RunFolder, folder) -> RunFolder:
    shutil.copytree(run.path, folder)
    return open_run(folder)


def test_a_text_that_has_changed_is_said(pretrained, corpus, tmp_path, caplog):
    run = copy_of(pretrained, tmp_path / "run")
    text = tmp_path / "corpus.txt"
    shutil.copy(corpus, text)
    os.utime(text, (1, 1))
    content = run.config_file.read_text()
    run.config_file.write_text(content.replace(str(corpus), str(text)))
    evaluate_pretrained(run)
    assert not caplog.records  # it has only moved
    text.write_text(text.read_text() + "\nthe end is good.\n")
    evaluate_pretrained(run)
    (record,) = caplog.records
    assert "corpus is not as it was when" in record.getMessage()
    assert "Give other text with --data" in record.getMessage()


def test_a_text_that_is_gone(pretrained, corpus, tmp_path):
    run = copy_of(pretrained, tmp_path / "run")
    content = run.config_file.read_text()
    run.config_file.write_text(content.replace(str(corpus), "gone.txt"))
    with pytest.raises(DataError, match=r"gone\.txt"):
        evaluate_pretrained(run)


def test_one_document_is_too_little_for_pairs(pretrained, tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("the film is good.\nthe food is bad.\n")
    with pytest.raises(DataError) as caught:
        evaluate_pretrained(pretrained, data=str(path))
    assert "one has 1 document, and next-sentence prediction needs" in str(caught.value)
    assert "The run was trained on pairs: give it more text." in str(caught.value)
    assert "next_sentence_weight" not in str(caught.value)
    found = evaluate_pretrained(
        pretrained, data=str(path), assignments=["data.document=line"]
    )
    assert found["num_examples"] > 0


def test_broken_bytes_are_said(pretrained, tmp_path, caplog):
    path = tmp_path / "broken.txt"
    path.write_bytes(b"the film is good.\n\nthe f\xffood is bad.\n")
    evaluate_pretrained(pretrained, data=str(path))
    (record,) = caplog.records
    assert "no UTF-8 in 1: " in record.getMessage()
    assert "broken.txt, line 3" in record.getMessage()


def test_of_the_settings_without_effect_on_the_text_only_those_given_are_said(
    pretrained, other_text, tmp_path, caplog
):
    run = copy_of(pretrained, tmp_path / "run")
    content = run.config_file.read_text()
    assert 'train_split = "train"' in content
    content = content.replace('train_split = "train"', 'train_split = "unsupervised"')
    run.config_file.write_text(content)
    evaluate_pretrained(run, data=str(other_text), assignments=["data.text=body"])
    (record,) = caplog.records
    assert record.getMessage() == (
        "data.text has no effect: plain text has no columns."
    )
    caplog.clear()
    evaluate_pretrained(run, data=str(other_text), split="test")
    assert "--split has no effect: files have no splits." in caplog.text
    caplog.clear()
    evaluate_pretrained(run, settings={"data.data_dir": str(tmp_path)})
    assert "data.data_dir has no effect: " in caplog.text


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (
            {"assignments": ["train.seed=1"]},
            r"train.seed has no effect here.*own text. What may be set: data.data_dir",
        ),
        ({"assignments": ["data.limit=3"]}, "data.limit has no effect here"),
        ({"settings": {"data.max_length": 64}}, "data.max_length has no effect here"),
        ({"split": "test"}, "--split is of --data, which is not given"),
        (
            {"data": "x.txt", "assignments": ["data.max_length=64"]},
            "What may be set: data.document, data.text",
        ),
    ],
)
def test_settings_without_effect(pretrained, arguments, rule):
    with pytest.raises(ConfigError, match=rule):
        evaluate_pretrained(pretrained, **arguments)


def test_the_heads_of_a_run_must_be_there(pretrained, tmp_path):
    run = copy_of(pretrained, tmp_path / "run")
    (run.model_folder / "next_sentence.safetensors").unlink()
    with pytest.raises(kbert.errors.PresetError, match="safetensors is missing"):
        evaluate_pretrained(run)
    (run.model_folder / "SHA256SUMS").unlink()
    with pytest.raises(kbert.errors.PresetError, match="has no next-sentence head"):
        evaluate_pretrained(run)


def test_metrics_for_people():
    values = dict.fromkeys(METRICS, 0.5) | {"num_examples": 1200, "num_masked": 30}
    lines = format_pretraining_metrics(values).splitlines()
    assert len(lines) == len(METRICS)
    assert lines[0].split() == ["masked", "lm", "loss", "0.5000"]
    assert lines[-1] == "(1,200 examples, 30 masks)"
