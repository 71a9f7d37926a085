"""A pretraining from end to end, on a language of ten words."""

import io
import json
import signal
from pathlib import Path

import keras_hub
import numpy as np
import pytest

import kbert
from kbert.config import load_config
from kbert.errors import ConfigError, DataError, Interrupted, RunError
from kbert.presets import resolve_preset
from kbert.pretrain_settings import PretrainConfig
from kbert.runs import RunFolder, open_run
from kbert.tokenization import WordPieceTokenizer
from kbert.training.loop import Step
from kbert.training.masked_data import lay_out
from kbert.vocabulary import read_vocabulary
from kbert.workflows.pretrain import pretrain
from kbert.workflows.pretraining.masking import build_mask
from kbert.workflows.pretraining.model import load_pretrained
from kbert.workflows.pretraining.preparing import prepare
from kbert.workflows.pretraining.reading import own_material
from kbert.workflows.reporting import RunListener
from tests.pretraining_runs import (
    MAX_LENGTH,
    adapting,
    config_for,
)
from tests.training.masked_examples import cross_entropy


def history_of(run: RunFolder) -> list[dict]:
    text = run.history_file.read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def settings_of(run: RunFolder) -> PretrainConfig:
    return load_config(PretrainConfig, file=run.config_file)


def masked_validation(run: RunFolder) -> dict[str, np.ndarray]:
    """The held-out examples of a run, masked as it was measured."""
    config, preset = settings_of(run), resolve_preset(str(run.path))
    tokenizer = WordPieceTokenizer(
        preset.vocabulary,
        lowercase=preset.lowercase,
        strip_accents=preset.strip_accents,
    )
    length = config.data.max_length
    examples = own_material(config, tokenizer)[0].validation_examples(length)
    rows = np.arange(len(examples))
    features = lay_out(examples, rows, length, tokenizer.pad_id)
    mask = build_mask(tokenizer, config.data, max_length=length, seed=config.train.seed)
    masked = mask(features["token_ids"], rows.astype(np.uint32))
    masked = {name: np.asarray(value) for name, value in masked.items()}
    return features | masked | {"labels": examples.next_sentence_labels}


def inputs_of(masked: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = ("token_ids", "segment_ids", "padding_mask", "mask_positions")
    return {name: masked[name] for name in names}


def outputs_of(run: RunFolder, *, next_sentence: bool = True) -> dict[str, np.ndarray]:
    """Of a run's model, on the held-out examples of the fixture's text."""
    model = load_pretrained(resolve_preset(str(run.path)), next_sentence=next_sentence)
    outputs = model(inputs_of(masked_validation(run)))
    return {name: np.asarray(value) for name, value in outputs.items()}


def weights_of(run: RunFolder) -> list[np.ndarray]:
    return load_pretrained(
        resolve_preset(str(run.path)), next_sentence=True
    ).get_weights()


def test_the_run_is_complete(pretrained, corpus):
    names = {path.name for path in pretrained.path.iterdir()}
    assert names == {
        "config.toml", "model", "task.json", "vocab.txt", "metrics.json",
        "history.jsonl", "curves.png", "logs", "kbert.json", "checkpoints", ".lock",
    }  # fmt: skip
    config = settings_of(pretrained)
    assert config.data.sources == [str(corpus)]
    assert (config.model.lowercase, config.model.strip_accents) == (True, True)
    assert config.model.max_sequence_length == MAX_LENGTH
    assert config.model.intermediate_dim == 64
    assert config.train.jit_compile is False
    task = pretrained.read_task()
    assert (task["task"], task["next_sentence"]) == ("masked_lm", True)
    assert task["max_length"] == MAX_LENGTH
    tokens = read_vocabulary(pretrained.vocabulary_file)
    assert tokens == resolve_preset(str(pretrained.path)).vocabulary
    assert {"film", "good", "very"} <= set(tokens)
    info = pretrained.read_info()
    assert (info["status"], info["steps"]) == ("finished", 120)
    assert info["data"]["files"][0]["name"] == str(corpus)
    assert info["data"]["held_out_documents"] >= 2
    assert 0 < info["train_tokens"] <= 120 * 8 * MAX_LENGTH


def test_it_learns(pretrained):
    history = history_of(pretrained)
    assert [line["step"] for line in history] == [60, 120]
    assert all(line["is_best"] for line in history)
    first, last = (line["train_loss"] for line in history)
    assert last < 0.8 * first
    found, at_end = pretrained.read_metrics()["validation"], history[-1]["validation"]
    assert {name: found[name] for name in at_end} == pytest.approx(at_end, abs=1e-5)
    # Of 16 or so different words, guessing finds a third at best.
    assert found["masked_lm_accuracy"] > 0.35


def test_keras_hub_finds_the_same_metrics(pretrained):
    folder = str(pretrained.model_folder)
    masked_lm = keras_hub.models.BertMaskedLM.from_preset(folder)
    masked = masked_validation(pretrained)
    logits = np.asarray(masked_lm(inputs_of(masked)))
    is_used = masked["mask_weights"] > 0
    found = pretrained.read_metrics()["validation"]
    assert found["num_masked"] == is_used.sum()
    assert found["num_examples"] == len(is_used)
    ids = masked["mask_ids"]
    losses = cross_entropy(logits, ids)[is_used]
    assert found["masked_lm_loss"] == pytest.approx(losses.mean(), abs=1e-4)
    hits = (logits.argmax(-1) == ids)[is_used]
    assert found["masked_lm_accuracy"] == pytest.approx(hits.mean(), abs=1e-6)
    # The two segments of its preprocessor are as long as the examples.
    assert masked_lm.preprocessor.sequence_length == MAX_LENGTH
    tokenizer = masked_lm.preprocessor.tokenizer
    assert tokenizer.get_vocabulary() == list(
        read_vocabulary(pretrained.vocabulary_file)
    )


def test_the_next_sentence_head_is_kept(pretrained):
    logits = outputs_of(pretrained)["next_sentence"]
    labels = masked_validation(pretrained)["labels"]
    found = pretrained.read_metrics()["validation"]
    loss = cross_entropy(logits, labels).mean()
    assert found["next_sentence_loss"] == pytest.approx(loss, abs=1e-5)
    assert 0 < labels.mean() < 1


def test_keras_hub_classifies_with_it(pretrained):
    folder = str(pretrained.model_folder)
    classifier = keras_hub.models.BertTextClassifier.from_preset(folder, num_classes=2)
    model = load_pretrained(resolve_preset(str(pretrained.path)), next_sentence=True)
    np.testing.assert_array_equal(
        classifier.backbone.token_embedding.embeddings,
        model.embeddings.token_embedding.embeddings,
    )
    # keras-hub's own default is 512, whatever the positions of the preset.
    classifier.preprocessor.sequence_length = MAX_LENGTH
    assert classifier.predict(["the film is good"], verbose=0).shape == (1, 2)


def test_fine_tuning_starts_from_it(pretrained, examples, tmp_path):
    run = kbert.finetune(
        pretrained.path,
        examples,
        output=tmp_path / "run",
        learning_rate=1e-9,
        precision="float32",
        settings={
            "data.text": "review",
            "data.label": "verdict",
            "train.max_steps": 1,
        },
    )
    model = keras_hub.models.BertTextClassifier.from_preset(str(run.path / "model"))
    theirs = model.backbone.pooled_dense.kernel
    ours = load_pretrained(resolve_preset(str(pretrained.path)), next_sentence=True)
    np.testing.assert_allclose(theirs, ours.pooler.kernel, atol=1e-6)
    assert run.predict(["the film is good"])[0]["label"] in ("neg", "pos")


def test_the_same_seed_gives_the_same_run(pretrained, corpus, tmp_path):
    again = pretrain(config_for(corpus), output=tmp_path / "run")
    for one, other in zip(weights_of(pretrained), weights_of(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert history_of(again) == history_of(pretrained)
    assert again.read_metrics() == pretrained.read_metrics()
    assert again.config_file.read_text() == pretrained.config_file.read_text()


def test_adapting_starts_where_the_preset_stands(pretrained, corpus, tmp_path):
    still = {"train__learning_rate": 1e-9, "train__max_steps": 1}
    config = config_for(corpus, **adapting(pretrained.path, **still))
    shown = io.StringIO()
    run = pretrain(config, output=tmp_path / "run", progress=shown)
    before, after = outputs_of(pretrained), outputs_of(run)
    for name in ("masked_lm", "next_sentence"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)
    assert "step 1: validation" in shown.getvalue()
    kept = settings_of(run)
    assert kept.model.preset == str(pretrained.path)
    assert kept.model.vocabulary_size is None
    assert kept.model.num_layers is None
    # What a run keeps is what trains it again, though it names every setting.
    assert prepare(kept, tmp_path / "next").config == kept


def test_one_loss_whole_words_and_a_sinusoidal_table(corpus, tmp_path):
    config = config_for(
        corpus,
        train__next_sentence_weight=0.0,
        train__max_steps=2,
        data__whole_word=True,
        model__position_embedding="sinusoidal",
        model__max_sequence_length=32,
    )
    run = pretrain(config, output=tmp_path / "run")
    metrics = run.read_metrics()["validation"]
    assert "next_sentence_loss" not in metrics
    assert metrics["loss"] == metrics["masked_lm_loss"]
    assert (run.read_task()["next_sentence"], run.read_task()["whole_word"]) == (
        False,
        True,
    )
    assert not (run.model_folder / "next_sentence.safetensors").exists()
    masked_lm = keras_hub.models.BertMaskedLM.from_preset(str(run.model_folder))
    table = masked_lm.backbone.position_embedding.position_embeddings
    # Vaswani et al. 2017, section 3.5, scaled to the size of BERT's embeddings.
    angles = np.arange(32)[:, None] / 10000 ** (np.arange(0, 16, 2) / 16)
    expected = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(32, 16)
    np.testing.assert_allclose(table, 0.05 * expected, atol=1e-6)
    # Everything but the last example of a window is full.
    lengths = masked_validation(run)["padding_mask"].sum(1)
    assert (np.sort(lengths)[1:] == MAX_LENGTH).all()


def test_two_phases_of_a_prepared_folder(prepared, tmp_path):
    config = config_for(
        prepared.folder,
        model__vocabulary_size=None,
        data__validation_share=None,
        data__max_length=None,
        train__max_steps=4,
        train__eval_steps=2,
        train__short_share=0.5,
        train__batch_size=None,
        train__tokens_per_batch=96,
        train__gradient_accumulation_steps=2,
    )
    run = pretrain(config, output=tmp_path / "run")
    kept = settings_of(run)
    assert (kept.data.short_length, kept.data.max_length) == (12, MAX_LENGTH)
    assert kept.data.validation_share == 0.2
    assert kept.model.vocabulary_size is None
    assert run.read_info()["data"]["lengths"].keys() == {"12", "24"}
    job = prepare(kept, tmp_path / "next")
    shapes = [
        [fed.features["token_ids"].shape for fed in update.batches]
        for update in job.data.updates(9)
    ]
    assert shapes == [[(8, 12)] * 2] * 2 + [[(4, 24)] * 2] * 2
    assert [job.phase_at(step).max_length for step in (1, 2, 3, 4)] == [12, 12, 24, 24]
    history = history_of(run)
    assert [line["step"] for line in history] == [2, 4]
    found = run.read_metrics()["validation"]
    assert found["num_examples"] == len(prepared.validation_examples(MAX_LENGTH))
    assert found["masked_lm_loss"] == pytest.approx(
        history[1]["validation"]["masked_lm_loss"], abs=1e-5
    )


def test_an_interrupt_keeps_the_model(corpus, tmp_path, monkeypatch):
    whole = RunListener.on_step

    def receive(self: RunListener, step: Step) -> None:
        whole(self, step)
        if step.number == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunListener, "on_step", receive)
    with pytest.raises(Interrupted, match=r"stopped after step 2; the model .*/run"):
        pretrain(config_for(corpus), output=tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.read_info()["status"] == "interrupted"
    assert run.read_metrics() == {}
    (answer,) = kbert.load(run.path).predict(["the film is [MASK]."])
    assert len(answer["fills"][0]) == 5
    with pytest.raises(RunError, match="an interrupted run with this config"):
        prepare(config_for(corpus), run.path)


def test_the_api_takes_one_source_or_several(tmp_path):
    for sources in ("none.txt", Path("none.txt"), ["none.txt"], [Path("none.txt")]):
        with pytest.raises(DataError, match=r"none\.txt"):
            kbert.pretrain(sources, output=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"did you mean train\.max_steps"):
        kbert.pretrain(settings={"train.max_step": 3})
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_bear_the_name_of_a_preset(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_for(corpus, train__max_steps=2, train__eval_steps=2)
    run = pretrain(config, output=Path("sample"))
    assert run.read_metrics()["validation"]["num_masked"] > 0
