"""What precedes a pretraining: settings, a prepared folder, held-out text, names."""

from pathlib import Path

import numpy as np
import pytest

from kbert.errors import ConfigError, DataError
from kbert.presets import resolve_preset
from kbert.training.lamb import Lamb
from kbert.vocabulary import read_vocabulary
from kbert.workflows.pretrain import pretrain
from kbert.workflows.pretraining.preparing import prepare, prepare_only
from tests.pretraining_runs import MAX_LENGTH, adapting, config_for, write_corpus


def test_preparing_again_finds_all_there(prepared, corpus):
    again = prepare_only(config_for(corpus, data__short_length=12), prepared.folder)
    assert again.shards == prepared.shards


def test_what_is_prepared_is_what_is_made_on_the_way(prepared, corpus, tmp_path):
    on_the_way = prepare(config_for(corpus), tmp_path / "run")
    one = on_the_way.validation(MAX_LENGTH)
    other = prepared.validation_examples(MAX_LENGTH)
    np.testing.assert_array_equal(one.token_ids, other.token_ids)
    assert on_the_way.vocabulary.tokens == prepared.vocabulary


@pytest.mark.parametrize(
    ("max_length", "phases"), [(None, [12, 24]), (24, [24]), (12, [12])]
)
def test_all_lengths_of_a_prepared_folder_or_the_one_asked_for(
    prepared, tmp_path, max_length, phases
):
    new = dict.fromkeys(("model__vocabulary_size", "data__validation_share"))
    config = config_for(prepared.folder, data__max_length=max_length, **new)
    job = prepare(config, tmp_path / "run")
    assert [phase.max_length for phase in job.data.phases] == phases


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"data__max_length": 16}, r"data.max_length 12 and 24. Received: 16"),
        ({"data__short_length": 16}, r"data.short_length 12 and 24. Received: 16"),
        ({"data__document": "line"}, r"data.document blank_line. Received: line"),
        ({"data__validation_share": 0.3}, r"data.validation_share 0.2. Received: 0.3"),
        ({"data__validation": "a.txt"}, r"its own validation. Received: data.val"),
        ({"data__short_sequence_rate": 0.5}, r"short_sequence_rate 0.1. Received: 0.5"),
        ({"train__next_sentence_weight": 0.0}, r"weight above 0. Received: 0.0"),
        ({"model__lowercase": False}, r"model.lowercase True. Received: False"),
        ({"model__vocabulary_size": 60}, r"its own vocabulary_size. Received: model"),
    ],
)
def test_settings_that_contradict_the_prepared_folder(
    prepared, tmp_path, settings, rule
):
    own = {"model__vocabulary_size": None, "data__validation_share": None}
    config = config_for(prepared.folder, **(own | settings))
    with pytest.raises(ConfigError, match=rule) as caught:
        prepare(config, tmp_path / "run")
    assert str(prepared.folder) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_prepared_folder_and_other_sources_or_vocabularies(
    prepared, corpus, tiny_preset, tmp_path
):
    with pytest.raises(ConfigError, match="Received 2 sources"):
        prepare(config_for(prepared.folder, corpus), None)
    own = {"model__vocabulary_size": None, "data__validation_share": None}
    adapted = adapting(tiny_preset, data__validation_share=None)
    with pytest.raises(ConfigError, match="Prepare the text with --preset"):
        prepare(config_for(prepared.folder, **adapted), tmp_path / "run")
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join(resolve_preset(str(tiny_preset)).vocabulary))
    config = config_for(prepared.folder, **own, model__vocabulary=str(other))
    with pytest.raises(ConfigError, match=r"Leave model.vocabulary out, or prepare"):
        prepare(config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"prepared already\. Train on it: kbert pre"):
        prepare_only(config_for(prepared.folder, **own), None)


def test_lamb(corpus, tmp_path):
    config = config_for(corpus, train__optimizer="lamb", train__learning_rate=None)
    job = prepare(config, tmp_path / "run")
    assert job.config.train.learning_rate == 2e-3
    assert isinstance(job.build().model.optimizer, Lamb)


def test_held_out_text_of_its_own(corpus, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(["very good. not bad."] * 5))
    settings = {"data__validation": str(other), "data__validation_share": None}
    job = prepare(config_for(corpus, **settings), tmp_path / "run")
    examples = job.validation(MAX_LENGTH)
    words = {job.vocabulary.tokens[number] for number in examples.token_ids}
    assert words <= {"very", "good", "not", "bad", ".", "[CLS]", "[SEP]"}
    assert job.material.describe()["held_out_documents"] == 0


def test_broken_bytes_of_held_out_text_are_said(corpus, tmp_path, caplog):
    other = tmp_path / "other.txt"
    other.write_bytes(b"\n\n".join([b"very good. not bad.", b"film \xff is bad."] * 5))
    settings = {"data__validation": str(other), "data__validation_share": None}
    config = config_for(corpus, **settings)
    prepare(config, tmp_path / "run")
    prepare_only(config, tmp_path / "prepared")
    said = [record.getMessage() for record in caplog.records]
    broken = [message for message in said if "no UTF-8 in 5: " in message]
    assert len(broken) == 2
    assert all("other.txt, line 3;" in message for message in broken)


def test_settings_that_matter_to_the_held_out_text_alone_are_not_idle(
    corpus, tmp_path, caplog
):
    other = tmp_path / "other.csv"
    other.write_text("title,text\n" + "a,very good. not bad.\n" * 5)
    alone = {"data__text": "text", "data__train_split": "unsupervised"}
    held_out = {"data__validation": str(other), "data__validation_share": None}
    prepare(config_for(corpus, **alone, **held_out), tmp_path / "run")
    (record,) = caplog.records
    assert "data.train_split = unsupervised has no effect: files" in record.getMessage()
    caplog.clear()
    prepare(config_for(corpus, **alone), tmp_path / "run")
    assert "data.text = text has no effect: plain text has no columns." in caplog.text


def test_the_sample_preset_is_untrained_and_learns_at_the_rate_of_a_new_model(
    corpus, tiny_preset, tmp_path, caplog
):
    rates = {}
    for name in ("sample", str(tiny_preset)):
        adapted = adapting(Path(name), train__learning_rate=None, model__dropout=None)
        config = config_for(corpus, **(adapted | {"model__preset": name}))
        rates[name] = prepare(config, tmp_path / "run").config.train.learning_rate
    assert list(rates.values()) == [5e-4, 1e-4]
    (record,) = caplog.records
    assert "`sample` model starts from random weights" in record.getMessage()


def test_held_out_text_without_a_second_document_is_noticed_before_training(
    corpus, tmp_path
):
    other = tmp_path / "other.txt"
    other.write_text("very good. not bad.")
    settings = {"data__validation": str(other), "data__validation_share": None}
    with pytest.raises(DataError, match="needs two documents"):
        pretrain(config_for(corpus, **settings), output=tmp_path / "run")
    with pytest.raises(DataError, match="other has 1 document, and next-sentence"):
        config = config_for(other, **(settings | {"data__validation": str(corpus)}))
        pretrain(config, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_documents_shorter_than_a_segment(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("\n\n".join(["film", "good", "very", "bad"] * 4))
    job = prepare(config_for(path), tmp_path / "run")
    (fed,) = next(job.data.updates(1)).batches
    # [CLS] and a word, [SEP] and a word of another document, [SEP]
    assert fed.features["padding_mask"].sum(1).tolist() == [5] * 8
    assert fed.targets["next_sentence"].tolist() == [1] * 8


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "corpus-bert"),
        ({"model__size": "tiny"}, "corpus-tiny"),
    ],
)
def test_runs_without_a_name_get_one(corpus, tmp_path, monkeypatch, settings, name):
    monkeypatch.chdir(tmp_path)
    job = prepare(config_for(corpus, **settings), None)
    assert next(job.path.paths()) == Path("runs") / name


def test_the_vocabulary_of_a_preset_goes_before_the_text(pretrained, tmp_path):
    path = write_corpus(tmp_path / "other.txt")
    path.write_text(path.read_text().replace("film", "opera"))
    job = prepare(config_for(path, **adapting(pretrained.path)), tmp_path / "run")
    assert "opera" not in job.vocabulary.tokens
    assert job.vocabulary.tokens == read_vocabulary(pretrained.vocabulary_file)
