"""A run that was stopped goes on as if nothing had happened."""

import json
import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import kbert
from benchmarks.resume.same_run import differences
from kbert.errors import Interrupted, RunError, TrainingError, UserError
from kbert.run_lock import locked
from kbert.runs import RunFolder
from kbert.training.checkpoints import STATE, VARIABLES, list_checkpoints
from kbert.training.labelled_data import LabelledData
from kbert.training.loop import Step
from kbert.workflows.checkpointing import Checkpointer
from kbert.workflows.reporting import RunListener
from tests.pretraining_runs import settings_for, write_corpus
from tests.workflows.conftest import write_examples


@contextmanager
def stopping_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """A SIGTERM comes in the middle of this step."""
    whole = RunListener.on_step

    def receive(self: RunListener, done: Step) -> None:
        whole(self, done)
        if done.number == step:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RunListener, "on_step", receive)
        yield


def finetune(preset: Path, examples: Path, output: Path, **settings: Any) -> kbert.Run:
    """20 steps with dropout, evaluated after every fourth."""
    return kbert.finetune(
        preset,
        examples,
        output=output,
        batch_size=8,
        learning_rate=0.01,
        precision="float32",
        settings={
            "data.text": "review",
            "data.label": "verdict",
            "train.max_steps": 20,
            "train.eval_steps": 4,
            "train.checkpoint_steps": 3,
            **{name.replace("__", "."): value for name, value in settings.items()},
        },
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_preset, examples) -> kbert.Run:
    """The run that nothing happens to."""
    output = tmp_path_factory.mktemp("whole") / "run"
    return finetune(tiny_preset, examples, output)


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory, tiny_preset, examples) -> Path:
    output = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, stopping_at(patch, 10):
        finetune(tiny_preset, examples, output)
    return output


@pytest.fixture
def stopped(_stopped, tmp_path) -> Path:
    """A copy of the same run, stopped after step 10."""
    return Path(shutil.copytree(_stopped, tmp_path / "run"))


def test_it_ends_as_the_whole_one_bit_for_bit(whole, stopped, caplog):
    assert [path.name for path in list_checkpoints(stopped / "checkpoints")] == [
        "step-00000009",
        "step-00000010",
    ]
    # Its texts are not read again, and what is kept of them goes when all is done.
    assert (stopped / "encoded" / "train").is_dir()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO, "kbert"):
        patch.delattr("kbert.workflows.datasets.encode_source")
        run = kbert.finetune(resume=stopped)
    assert run.path == stopped
    assert "tokens (kept in the run)" in caplog.text
    assert not (stopped / "encoded").exists()
    assert "is not the model of step" not in caplog.text
    assert differences(whole.path, stopped) == []
    info = RunFolder(stopped).read_info()
    assert info["status"] == "finished"
    assert [item["step"] for item in info["resumed"]] == [10]
    assert info["steps"] == 20


@pytest.mark.parametrize("step", [4, 20])
def test_wherever_it_was_stopped(
    whole, tmp_path, tiny_preset, examples, monkeypatch, step
):
    output = tmp_path / "run"
    with stopping_at(monkeypatch, step):
        finetune(tiny_preset, examples, output)
    kbert.finetune(resume=output)
    assert differences(whole.path, output) == []


def test_the_same_command_begins_and_goes_on(stopped, whole, tiny_preset, examples):
    # What a job that is lent in slots does: the settings are all given again.
    run = kbert.finetune(
        tiny_preset,
        examples,
        resume=stopped,
        batch_size=8,
        learning_rate=0.01,
        precision="float32",
        settings={"train.max_steps": 20, "train.eval_steps": 4},
    )
    assert differences(whole.path, run.path) == []


def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole, stopped, caplog):
    file = stopped / "checkpoints" / "step-00000010" / VARIABLES
    file.write_bytes(file.read_bytes()[:-4096])
    (stopped / "encoded" / "train" / "lengths").unlink()
    with caplog.at_level(logging.INFO, "kbert"):
        kbert.finetune(resume=stopped)
    assert "step-00000010 is damaged" in caplog.text
    assert "goes on after step 9" in caplog.text
    assert "lengths is missing" in caplog.text
    assert "the texts are read again" in caplog.text
    assert differences(whole.path, stopped) == []


def test_killed_before_the_first_checkpoint_it_begins_again(whole, stopped, caplog):
    # As kill -9 leaves it while the best model of the first evaluation is written.
    shutil.rmtree(stopped / "checkpoints")
    (stopped / "checkpoints").mkdir()
    with caplog.at_level(logging.INFO, "kbert"):
        kbert.finetune(resume=stopped)
    assert "it begins again" in caplog.text
    assert differences(whole.path, stopped) == []


def test_a_model_is_not_thrown_away_for_want_of_a_checkpoint(stopped):
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(RunError, match="no checkpoint to go on from"):
        kbert.finetune(resume=stopped)
    assert (stopped / "model").is_dir()


def test_checkpoints_that_were_deleted_are_missed(stopped):
    for path in list_checkpoints(stopped / "checkpoints"):
        shutil.rmtree(path)
    with pytest.raises(RunError, match="no checkpoint to go on from"):
        kbert.finetune(resume=stopped)
    assert (stopped / "model").is_dir()
    assert (stopped / "history.jsonl").read_text()


def test_a_finished_run_without_checkpoints_is_left_alone(whole, tmp_path):
    run = Path(shutil.copytree(whole.path, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    again = kbert.finetune(resume=run, settings={"train.epochs": "auto"})
    assert again.metrics == whole.metrics
    with pytest.raises(RunError, match="no checkpoint to go on from"):
        kbert.finetune(resume=run, settings={"train.max_steps": 30})
    assert differences_of_files(whole.path, run) == []


def differences_of_files(one: Path, other: Path) -> list[str]:
    names = ("config.toml", "history.jsonl", "metrics.json", "model/SHA256SUMS")
    return [n for n in names if (one / n).read_bytes() != (other / n).read_bytes()]


def test_the_best_model_so_far_has_to_be_whole(stopped):
    file = stopped / "model" / "model.weights.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"model is damaged: model.weights.h5"):
        kbert.finetune(resume=stopped)


def test_a_model_of_a_later_evaluation_is_told(whole, stopped, caplog):
    # As kill -9 leaves it between a better model and its checkpoint.
    shutil.rmtree(stopped / "model")
    shutil.copytree(whole.path / "model", stopped / "model")
    with caplog.at_level(logging.WARNING, "kbert"):
        kbert.finetune(resume=stopped)
    assert "model is not the model of step" in caplog.text
    assert differences(whole.path, stopped) == []


@pytest.mark.parametrize("place", ["history", "checkpoint"])
def test_a_signal_while_an_evaluation_is_written_down(
    whole, tmp_path, tiny_preset, examples, monkeypatch, place
):
    owner, name = {
        "history": (RunFolder, "append_history"),
        "checkpoint": (Checkpointer, "keep"),
    }[place]
    written = getattr(owner, name)
    calls = []

    def receive(self, *arguments):
        written(self, *arguments)
        calls.append(arguments)
        if len(calls) == (2 if place == "history" else 4):
            signal.raise_signal(signal.SIGTERM)

    output = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(owner, name, receive)
        finetune(tiny_preset, examples, output)
    kbert.finetune(resume=output)
    assert differences(whole.path, output) == []


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"seed": 7}, ["train.seed"]),
        ({"batch_size": 16, "learning_rate": 0.5}, ["batch_size", "learning_rate"]),
        ({"settings": {"train.schedule": "cosine"}}, ["train.schedule"]),
        ({"settings": {"data.limit": 5}}, ["data.limit"]),
        ({"settings": {"train.eval_steps": 5}}, ["train.eval_steps"]),
    ],
)
def test_settings_that_would_change_the_past_are_refused(stopped, given, names):
    before = (stopped / "config.toml").read_bytes()
    with pytest.raises(RunError, match="the settings it has") as caught:
        kbert.finetune(resume=stopped, **given)
    for name in names:
        assert name in str(caught.value)
    assert (stopped / "config.toml").read_bytes() == before


def test_steps_may_be_raised_and_not_lowered(stopped):
    with pytest.raises(RunError, match=r"10 steps already\. Received: 8"):
        kbert.finetune(resume=stopped, settings={"train.max_steps": 8})
    run = kbert.finetune(resume=stopped, settings={"train.max_steps": 24})
    assert RunFolder(stopped).read_info()["steps"] == 24
    assert run.config.train.max_steps == 24
    lines = (stopped / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12, 16, 20, 24]


@pytest.mark.parametrize("use", ["predict", "preset"])
def test_a_damaged_model_is_used_by_nothing(whole, examples, tmp_path, use):
    run = Path(shutil.copytree(whole.path, tmp_path / "run"))
    file = run / "model" / "model.weights.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"model is damaged: model\.weights\.h5"):
        if use == "predict":
            kbert.load(run).predict(["a film is good"])
        else:
            kbert.finetune(run, examples, output=tmp_path / "next")


def test_a_finished_run_does_not_take_other_settings(whole):
    with pytest.raises(RunError, match=r"It differs in train\.seed"):
        kbert.finetune(resume=whole.path, seed=7)


def test_a_finished_run_says_so_and_stays_as_it_is(whole, tmp_path, caplog):
    run = Path(shutil.copytree(whole.path, tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with caplog.at_level(logging.INFO, "kbert"):
        again = kbert.finetune(resume=run)
    assert "is finished: nothing is left to do" in caplog.text
    assert again.metrics == whole.metrics
    del before[run / ".lock"]
    assert before.items() <= {p: p.stat().st_mtime_ns for p in run.rglob("*")}.items()


def test_a_finished_run_can_be_made_longer(whole, tmp_path):
    run = Path(shutil.copytree(whole.path, tmp_path / "run"))
    kbert.finetune(resume=run, settings={"train.max_steps": 23})
    info = RunFolder(run).read_info()
    assert (info["status"], info["steps"]) == ("finished", 23)


def test_other_data_are_refused(tmp_path, tiny_preset, monkeypatch):
    examples = write_examples(tmp_path / "examples.csv")
    with stopping_at(monkeypatch, 5):
        finetune(tiny_preset, examples, tmp_path / "run")
    content = examples.read_text()
    examples.write_text(content.replace("the film is good", "the film is bad", 1))
    with pytest.raises(RunError, match="its data are not as they were"):
        kbert.finetune(resume=tmp_path / "run")
    examples.write_text(content)
    moved = examples.rename(tmp_path / "moved.csv")
    kbert.finetune(data=moved, resume=tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_info()["status"] == "finished"


def test_a_run_in_use_is_refused(stopped):
    with locked(stopped), pytest.raises(RunError, match="Another process is training"):
        kbert.finetune(resume=stopped)


def test_no_run_and_another_command_are_said(stopped, tmp_path):
    with pytest.raises(RunError, match="No run to go on with at"):
        kbert.finetune(resume=tmp_path / "nothing")
    with pytest.raises(RunError, match=r"kbert finetune --resume"):
        kbert.pretrain(resume=stopped)


def test_a_checkpoint_of_a_stranger_is_refused(stopped):
    for path in list_checkpoints(stopped / "checkpoints"):
        state = json.loads((path / STATE).read_text())
        state["progress"]["step"] = {"evil": 1}
        (path / STATE).write_text(json.dumps(state))
        from kbert.checksums import write_sums

        write_sums(path)
    with pytest.raises(RunError, match=r"is not what kbert writes: progress.step"):
        kbert.finetune(resume=stopped)


def test_a_full_disk_stops_with_the_last_good_state(
    tmp_path, tiny_preset, examples, monkeypatch, whole
):
    from kbert.training import checkpoints

    usage = shutil.disk_usage(tmp_path)
    output = tmp_path / "run"

    def full_later(path):
        full = (output / "checkpoints" / "step-00000009").exists()
        return usage._replace(free=0) if full else usage

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "disk_usage", full_later)
        with pytest.raises(OSError, match="No space left"):
            finetune(tiny_preset, examples, output)
    assert RunFolder(output).read_info()["status"] == "failed"
    kbert.finetune(resume=output)
    assert differences(whole.path, output) == []


def test_a_full_disk_under_the_logs_stops_it_too(
    tmp_path, tiny_preset, examples, monkeypatch, whole
):
    output = tmp_path / "run"

    def full(self, *arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tensorflow.summary.scalar", full)
        with pytest.raises(OSError, match="No space left") as caught:
            finetune(tiny_preset, examples, output)
    assert caught.value.filename == str(output / "logs")
    kbert.finetune(resume=output)
    assert differences(whole.path, output) == []


def test_the_log_names_the_rows_of_the_file(tmp_path, tiny_preset, monkeypatch, caplog):
    # A tenth is held out, so that the numbers of what is left are others.
    examples = write_examples(tmp_path / "examples.csv")
    rows = examples.read_text().splitlines()
    whole = LabelledData.fill
    fed = []

    def broken(self, batch):
        given = whole(self, batch)
        fed.extend(zip(given.example_ids, batch.features["token_ids"], strict=False))
        weights = np.full_like(given.weights, np.nan)
        return replace(given, weights=weights)

    monkeypatch.setattr(LabelledData, "fill", broken)
    with pytest.raises(TrainingError, match="diverged"):
        finetune(tiny_preset, examples, tmp_path / "run")
    text = caplog.text.partition("counted from 0: ")[2].partition(" (")[0]
    numbers = [int(number) for number in text.split(", ")]
    assert numbers == [number for number, _ in fed[: len(numbers)]]
    vocabulary = RunFolder(tiny_preset).path / "assets/tokenizer/vocabulary.txt"
    words = vocabulary.read_text().splitlines()
    for number, ids in fed:
        known = [words[i] for i in ids if not words[i].startswith("[")]
        assert known and all(word in rows[number + 1].lower() for word in known)


@pytest.mark.parametrize("finished", [True, False])
def test_held_out_text_may_move_and_may_not_change(tmp_path, monkeypatch, finished):
    corpus = write_corpus(tmp_path / "corpus.txt")
    held_out = write_corpus(tmp_path / "held.txt")
    settings = pretraining_settings(corpus, data__validation_share=None)
    settings["data.validation"] = str(held_out)
    output = tmp_path / "run"
    if finished:
        kbert.pretrain(output=output, settings=settings)
    else:
        with stopping_at(monkeypatch, 16):
            kbert.pretrain(output=output, settings=settings)
    moved = {"data.validation": str(held_out.rename(tmp_path / "moved.txt"))}
    if not finished:
        (tmp_path / "moved.txt").write_text("the film is good.\n\nbad food.\n" * 40)
        with pytest.raises(RunError, match="its data are not as they were"):
            kbert.pretrain(resume=output, settings=moved)
        write_corpus(tmp_path / "moved.txt")
    kbert.pretrain(resume=output, settings=moved)
    assert RunFolder(output).read_info()["status"] == "finished"


def pretraining_settings(corpus: Path, **others: Any) -> dict[str, Any]:
    return settings_for(
        corpus,
        train__max_steps=24,
        train__eval_steps=8,
        train__checkpoint_steps=5,
        model__dropout=0.1,
        **others,
    )


@pytest.mark.parametrize(
    "others",
    [
        {
            "data__short_length": 12,
            "train__short_share": 0.6,
            "train__gradient_accumulation_steps": 2,
        },
        {"train__next_sentence_weight": 0.0, "train__optimizer": "lamb"},
    ],
    ids=["two phases, accumulating", "one loss, lamb"],
)
def test_a_pretraining_goes_on_bit_for_bit(tmp_path, monkeypatch, others):
    corpus = write_corpus(tmp_path / "corpus.txt")
    settings = pretraining_settings(corpus, **others)
    whole = kbert.pretrain(output=tmp_path / "whole", settings=settings)
    output = tmp_path / "run"
    with stopping_at(monkeypatch, 16):
        kbert.pretrain(output=output, settings=settings)
    kbert.pretrain(resume=output)
    assert differences(whole.path, output) == []
    info = RunFolder(output).read_info()
    assert [item["step"] for item in info["resumed"]] == [16]


def test_a_prepared_pretraining_gets_longer(tmp_path, prepared):
    settings = pretraining_settings(
        prepared.folder, model__vocabulary_size=None, data__validation_share=None
    )
    settings = {k: v for k, v in settings.items() if not k.startswith("data.val")}
    settings["train.schedule"] = "constant"
    settings["train.warmup_steps"] = 2
    whole = kbert.pretrain(output=tmp_path / "whole", settings=settings)
    short = settings | {"train.max_steps": 16}
    kbert.pretrain(output=tmp_path / "run", settings=short)
    # Finished, and then made longer: with this schedule it is as if it had always been.
    kbert.pretrain(resume=tmp_path / "run", max_steps=24)
    assert differences(whole.path, tmp_path / "run") == []


def test_phases_do_not_get_longer(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus.txt")
    settings = pretraining_settings(corpus, data__short_length=12)
    with stopping_at(monkeypatch, 3):
        kbert.pretrain(output=tmp_path / "run", settings=settings)
    with pytest.raises(RunError, match="has phases"):
        kbert.pretrain(resume=tmp_path / "run", max_steps=30)


def test_what_is_compared_can_differ(whole, stopped):
    kbert.finetune(resume=stopped)
    name = list_checkpoints(stopped / "checkpoints")[0] / VARIABLES
    with np.load(name) as arrays:
        values = dict(arrays)
    values["optimizer/0000.iteration"] = values["optimizer/0000.iteration"] + 1
    np.savez(name, **values)
    (stopped / "metrics.json").write_text("{}")
    assert differences(whole.path, stopped) == ["metrics.json", VARIABLES]
