"""`kbert pretrain`: what it prints where, and bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kbert.vocabulary import SPECIAL_TOKENS
from tests.cli.conftest import Kbert, Outcome
from tests.pretraining_runs import MAX_LENGTH, options_for, write_corpus


@pytest.fixture
def pretrain(kbert: Kbert) -> Callable[..., Outcome]:
    """`kbert pretrain corpus.txt` with a tiny model and two steps, into `run`."""
    corpus = write_corpus(Path("corpus.txt"))

    def run(*arguments: object, sources: object = (corpus,), **settings) -> Outcome:
        given = options_for(**({"train__max_steps": 2} | settings))
        return kbert("pretrain", *sources, "--output", "run", *given, *arguments)

    return run


@pytest.fixture
def refused(pretrain: Callable[..., Outcome]) -> Callable[..., str]:
    """The message of a `kbert pretrain` that must be refused and write nothing."""

    def run(*arguments: object, **settings) -> str:
        before = sorted(Path().rglob("*"))
        outcome = pretrain(*arguments, **settings)
        message = outcome.message
        assert outcome.code == 2
        assert outcome.out == ""
        assert sorted(Path().rglob("*")) == before
        return message

    return run


def test_a_run_and_what_to_do_with_it(pretrain: Callable, kbert: Kbert) -> None:
    outcome = pretrain(train__eval_steps=2)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    metrics = json.loads(Path("run/metrics.json").read_text())["validation"]
    shown = ("masked_lm_loss", "masked_lm_accuracy", "perplexity")
    assert [line.split() for line in lines[:4]] == [
        [*name.split("_"), f"{metrics[name]:.4f}"]
        for name in (*shown, "next_sentence_accuracy")
    ]
    assert lines[4:] == [
        "run: run",
        "Try next:",
        "  kbert predict run 'YOUR TEXT with a [MASK] in it.'",
        "  kbert finetune --preset run --data YOUR_FILE.csv",
    ]
    for told in ("vocabulary: ", "held out: ", "model: 1 layers x 16", "step 2: valid"):
        assert told in outcome.err
    assert "Warning: train.eval_steps = 2 has no effect" in outcome.err
    answer = kbert("predict", "run", "The film is [MASK].", "--top-k", 2)
    assert len(json.loads(answer.out)["fills"][0]) == 2
    outcome = kbert("evaluate", "run", "--json")
    assert json.loads(outcome.out) == pytest.approx(metrics, abs=1e-5)
    outcome = kbert("evaluate", "run", "--data", "corpus.txt")
    assert outcome.out.splitlines()[0].startswith("masked lm loss")


def test_the_estimate_of_a_dry_run_is_a_result(pretrain: Callable) -> None:
    two_phases = {"data__short_length": 12, "train__max_steps": None}
    outcome = pretrain("--dry-run", "--max-steps", 30, **two_phases)
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    assert "30 steps" in line
    assert sorted(path.name for path in Path().iterdir()) == ["corpus.txt"]


def test_prepare_only(pretrain: Callable, kbert: Kbert) -> None:
    outcome = pretrain("--prepare-only", "--output", "my text")
    assert outcome.code == 0
    first, *rest = outcome.out.splitlines()
    assert first.startswith("prepared: my text (")
    assert first.endswith(f"examples of at most {MAX_LENGTH} tokens)")
    assert rest == ["Try next:", "  kbert pretrain 'my text'"]
    assert pretrain("--prepare-only", "--output", "my text").out == outcome.out
    assert not Path("run").exists()
    refusal = pretrain("--prepare-only", "--output", "my text", train__seed=7)
    assert refusal.code == 2
    assert "seed was 42 and is 7" in refusal.message
    contradiction = kbert("pretrain", "my text", "--set", "data.document=line")
    assert contradiction.code == 2
    assert "data.document blank_line. Received: line" in contradiction.message
    Path("my text/vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "a"]))
    assert "is not the vocabulary" in kbert("pretrain", "my text").message


def test_broken_bytes_are_counted_and_said(pretrain: Callable) -> None:
    with Path("corpus.txt").open("ab") as file:
        file.write(b"\nthe caf\xe9 is good.\n\nthe food is bad.\n")
    outcome = pretrain("--prepare-only")
    assert outcome.code == 0
    assert "corpus.txt, line " in outcome.err


class TestText:
    @pytest.mark.parametrize(
        ("content", "rule"),
        [
            (b"", "other.txt has no bytes"),
            (b"\n \n\n\t\n", "other has no documents: there is no text in it"),
            (b"word\n", "has 1 document, and next-sentence prediction needs two"),
            (b"\x00\xff\x01" * 50, "other.txt is not UTF-8 text"),
        ],
    )
    def test_too_little(self, refused: Callable, content: bytes, rule: str) -> None:
        Path("other.txt").write_bytes(content)
        assert rule in refused(sources=["other.txt"])
        assert "other" in refused("--prepare-only", sources=["other.txt"])

    def test_one_word_without_pairs(self, refused: Callable) -> None:
        Path("other.txt").write_text("word\n")
        alone = {"train__next_sentence_weight": 0.0, "sources": ["other.txt"]}
        assert "other has 1 document, and one is trained on" in refused(**alone)
        settings = {"data__validation": "corpus.txt", "data__validation_share": None}
        message = refused(**alone, **settings)
        assert "other: Characters that occur fewer than 2 times" in message
        assert "Give more text" in message

    def test_one_document_and_pairs(self, refused: Callable) -> None:
        Path("other.txt").write_text("the film is good. the food is bad.\n" * 50)
        message = refused(sources=["other.txt"])
        assert "other has 1 document, and next-sentence prediction" in message
        for mend in ("data.document=line", "train.next_sentence_weight=0"):
            assert mend in message

    def test_a_missing_file_names_the_nearest(self, refused: Callable) -> None:
        message = refused(sources=["corpse.txt"])
        assert "corpse.txt" in message
        assert "corpus.txt" in message

    def test_missing_held_out_text(self, refused: Callable) -> None:
        settings = {"data__validation": "none.txt", "data__validation_share": None}
        assert "none.txt" in refused(**settings)

    def test_a_column_that_is_not_there(self, refused: Callable) -> None:
        Path("other.csv").write_text("review,stars\ngood,1\nbad,2\n")
        assert "other.csv" in refused(sources=["other.csv"], data__text="txt")


class TestVocabulary:
    def test_a_size_below_the_alphabet(self, refused: Callable) -> None:
        message = refused(model__vocabulary_size=12)
        assert "corpus: A vocabulary holds its 5 special tokens and every" in message
        assert "at least " in message
        assert "received a size of 12" in message
        assert "model.vocabulary_size" in message

    def test_a_file_that_lacks_special_tokens(self, refused: Callable) -> None:
        Path("v.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nfilm\n")
        message = refused("--vocabulary", "v.txt", model__vocabulary_size=None)
        assert "v.txt lacks [MASK]. Add each on a line of its own" in message

    def test_a_missing_file(self, refused: Callable) -> None:
        message = refused("--vocabulary", "v.txt", model__vocabulary_size=None)
        assert "The vocabulary v.txt cannot be read" in message

    def test_a_file_and_a_size(self, refused: Callable) -> None:
        Path("v.txt").touch()
        message = refused("--vocabulary", "v.txt")
        assert "model.vocabulary = v.txt gives one. Leave one of them out" in message


class TestPresets:
    @pytest.fixture
    def adapt(self, refused: Callable, tiny_preset: Path) -> Callable[..., str]:
        def run(*arguments: object, **settings) -> str:
            new = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim")
            left_out = dict.fromkeys(f"model__{name}" for name in new)
            given = {"data__max_length": 16} | left_out | settings
            return refused("--preset", tiny_preset, *arguments, **given)

        return run

    def test_another_vocabulary(self, adapt: Callable, tiny_preset: Path) -> None:
        Path("v.txt").write_text("\n".join([*SPECIAL_TOKENS, *"abcde", "film"]))
        message = adapt("--vocabulary", "v.txt")
        assert f"must be that of the preset {tiny_preset}" in message
        assert "Received: 'film' on line 11, not 'f'" in message
        assert "Leave model.vocabulary out, or --preset" in message

    def test_more_tokens_than_positions(self, adapt: Callable) -> None:
        message = adapt("--max-length", 32, data__max_length=None)
        assert "data.max_length must be at most 16, the positions of" in message
        assert "Received: 32. Lower --max-length" in message

    def test_a_size_beside_it(self, adapt: Callable) -> None:
        message = adapt("--size", "tiny")
        assert "model.size is for a new model" in message
        assert "Leave --preset out, or model.size" in message

    def test_a_preset_that_is_not_there(self, refused: Callable) -> None:
        message = refused("--preset", "bert_tiny_en", **dict.fromkeys([
            "model__vocabulary_size", "model__num_layers", "model__num_heads",
            "model__hidden_dim",
        ]))  # fmt: skip
        assert "There is no preset 'bert_tiny_en'" in message


class TestSettings:
    @pytest.mark.parametrize("rate", [0, 1])
    def test_a_masking_rate_of_nothing_or_all(
        self, refused: Callable, rate: int
    ) -> None:
        message = refused(data__mask_selection_rate=rate)
        assert (
            f"data.mask_selection_rate={rate}: must be a number, above 0, " in message
        )

    def test_an_unknown_size_names_the_nearest(self, refused: Callable) -> None:
        message = refused("--size", "smal")
        assert "--size smal: must be one of" in message
        assert "did you mean small?" in message

    def test_a_width_that_the_heads_do_not_divide(self, refused: Callable) -> None:
        message = refused(model__hidden_dim=15)
        assert "model.hidden_dim must be a multiple of model.num_heads" in message
        assert "Received: 15 and 2" in message

    def test_too_few_positions(self, refused: Callable) -> None:
        message = refused(model__max_sequence_length=16)
        assert "must be at least data.max_length. Received: 16 and 24" in message

    def test_phases_without_a_step(self, refused: Callable) -> None:
        assert "Each phase needs a step" in refused(data__short_length=12)

    def test_options_that_exclude_each_other(self, refused: Callable) -> None:
        message = refused("--prepare-only", "--dry-run")
        assert "--prepare-only and --dry-run exclude each other" in message


class TestOutputs:
    def test_a_folder_that_is_no_run(self, pretrain: Callable) -> None:
        Path("run").mkdir()
        Path("run/thesis.txt").write_text("mine")
        for arguments, rule in (
            ((), "The output run exists and is no run"),
            (("--prepare-only",), "run holds thesis.txt. Choose another folder"),
        ):
            outcome = pretrain(*arguments)
            assert outcome.code == 2
            assert rule in outcome.message
            assert "vocabulary" not in outcome.err  # nothing slow came before
        assert [path.name for path in Path("run").iterdir()] == ["thesis.txt"]

    def test_a_prepared_folder_that_is_not_complete(
        self, pretrain: Callable, kbert: Kbert
    ) -> None:
        assert pretrain("--prepare-only").code == 0
        shutil.rmtree(f"run/length-{MAX_LENGTH}")
        outcome = kbert("pretrain", "run")
        assert outcome.code == 2
        assert "run is damaged" in outcome.message
        assert "Run the command that prepared it again" in outcome.message
