"""Bad input through the command line.

Each case ends in one message that names the place and the mend, with the exit code
of a mistake, and leaves nothing half-written.
"""

import errno
import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kbert.vocabulary import SPECIAL_TOKENS
from tests.cli.conftest import GOOD, Kbert, write_csv
from tests.preset_folders import edit_json


@pytest.fixture
def refused(finetune: Kbert) -> Callable[..., str]:
    """The message of a `kbert finetune` that must be refused and write nothing."""

    def run(*arguments: object) -> str:
        outcome = finetune(*arguments)
        message = outcome.message
        assert outcome.code == 2
        assert outcome.out == ""
        assert not Path("run").exists()
        return message

    return run


class TestFiles:
    def test_a_missing_file_names_the_nearest(self, refused: Callable) -> None:
        write_csv("reviews.csv")
        message = refused("--data", "review.csv")
        assert "review.csv does not exist" in message
        assert "Nearest in .: reviews.csv" in message

    @pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl"])
    def test_an_empty_file(self, refused: Callable, name: str) -> None:
        Path(name).write_bytes(b"")
        assert f"{name} is empty; it needs" in refused("--data", name)

    def test_a_header_alone(self, refused: Callable) -> None:
        message = refused("--data", write_csv(rows=[]))
        assert "good.csv has a header and no rows" in message

    def test_a_missing_validation_file(self, refused: Callable) -> None:
        message = refused("--set", "data.validation=other.csv")
        assert "data.validation: there is no file or folder other.csv" in message

    def test_an_unknown_ending(self, refused: Callable) -> None:
        Path("data.xlsx").write_bytes(b"PK\x03\x04")
        assert "Received: .xlsx" in refused("--data", "data.xlsx")

    def test_a_cut_gzip_file(self, refused: Callable) -> None:
        packed = gzip.compress(write_csv().read_bytes())
        Path("cut.csv.gz").write_bytes(packed[:-12])
        assert "cut.csv.gz" in refused("--data", "cut.csv.gz")

    def test_an_unprepared_tfds_data_set(self, refused: Callable) -> None:
        Path("tfds").mkdir()
        message = refused("--data", "tfds:imdb_review", "--set", "data.data_dir=tfds")
        assert "imdb_review" in message


class TestColumns:
    def test_a_wrong_column_names_the_nearest(self, refused: Callable) -> None:
        message = refused("--set", "data.text=txt")
        assert 'good.csv: there is no column "txt" (data.text)' in message
        assert "--set data.text=text" in message

    def test_an_ambiguous_column_lists_the_choices(self, refused: Callable) -> None:
        Path("two.csv").write_text("review,comment,label\na,b,yes\nc,d,no\n")
        message = refused("--data", "two.csv")
        assert "two.csv: which column is the text is not clear" in message
        assert "--set data.text=review or --set data.text=comment" in message

    def test_no_label_column(self, refused: Callable) -> None:
        Path("bare.csv").write_text("text\na\nb\n")
        assert "bare.csv: there is no column that can be the label" in refused(
            "--data", "bare.csv"
        )


class TestRows:
    def test_too_few_fields(self, refused: Callable) -> None:
        message = refused("--data", write_csv(rows=[*GOOD[:4], "lonely"]))
        assert "good.csv, line 6: too few fields, 1 where the header has 2" in message

    def test_too_many_fields(self, refused: Callable) -> None:
        message = refused("--data", write_csv(rows=[*GOOD[:4], "a, b,yes"]))
        assert "good.csv, line 6: too many fields, 3 where the header" in message
        assert "double quotes" in message

    def test_nothing_else_reaches_the_terminal(self, kbert: Kbert) -> None:
        """TensorFlow writes past Python's stderr, so this takes a process."""
        command = "from kbert_cli.main import main; main()"
        arguments = ("finetune", "--output", "run")
        arguments += ("--data", str(write_csv(rows=[*GOOD, "lonely"])))
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1].startswith("Error: good.csv, line 20: too")
        assert "Traceback" not in done.stderr
        assert not Path("run").exists()

    def test_the_line_number_counts_lines_and_not_rows(self, refused: Callable) -> None:
        rows = ['"a\nb",yes', "", "c,d,no"]
        assert "good.csv, line 5: too many" in refused("--data", write_csv(rows=rows))

    def test_an_open_quote(self, refused: Callable) -> None:
        message = refused("--data", write_csv(rows=[*GOOD[:2], '"a,yes']))
        assert "good.csv, line 4" in message
        assert "nothing closes it" in message

    def test_invalid_utf_8_and_how_to_go_on(self, finetune: Kbert) -> None:
        path = write_csv("latin.csv")
        path.write_bytes(path.read_bytes() + b"caf\xe9,yes\n")
        outcome = finetune("--data", path)
        assert outcome.code == 2
        assert "latin.csv, line 20: invalid UTF-8 (byte 0xe9" in outcome.message
        assert not Path("run").exists()
        mend = "data.encoding_errors=replace"
        assert f"--set {mend}" in outcome.message
        assert finetune("--data", path, "--set", mend, "--dry-run").code == 0

    def test_an_empty_text_is_kept_counted_and_said(self, finetune: Kbert) -> None:
        outcome = finetune("--data", write_csv(rows=[",yes", " ,no", *GOOD]))
        assert outcome.code == 0
        assert "20 examples" in outcome.err
        assert "2 empty texts (kept)" in outcome.err

    @pytest.mark.parametrize("line", ["[1, 2]", '"a"', "null", "3"])
    def test_a_json_line_that_is_no_object(self, refused: Callable, line: str) -> None:
        good = '{"text": "a", "label": "yes"}\n'
        Path("data.jsonl").write_text(good * 3 + line + "\n")
        message = refused("--data", "data.jsonl")
        assert "data.jsonl, line 4: each line must be a JSON object" in message
        assert line in message

    def test_a_json_line_without_the_column(self, refused: Callable) -> None:
        good = '{"text": "a", "label": "yes"}\n'
        Path("data.jsonl").write_text(good + '{"text": "b"}\n')
        message = refused("--data", "data.jsonl")
        assert 'data.jsonl, line 2: there is no column "label"' in message

    def test_a_text_that_is_no_string(self, refused: Callable) -> None:
        good = '{"text": "a", "label": "yes"}\n'
        Path("data.jsonl").write_text(good + '{"text": 5, "label": "no"}\n')
        assert "data.jsonl, line 2" in refused("--data", "data.jsonl")


class TestLabels:
    @pytest.mark.parametrize("label", ["", "  ", "NaN", "nan"])
    def test_a_missing_label_in_csv(self, refused: Callable, label: str) -> None:
        message = refused("--data", write_csv(rows=[*GOOD, f"a,{label}"]))
        assert 'good.csv, line 20: the label in column "label" is missing' in message
        assert repr(label) in message

    @pytest.mark.parametrize("label", ["null", "NaN", '""'])
    def test_a_missing_label_in_json_lines(self, refused: Callable, label: str) -> None:
        good = '{"text": "a", "label": "yes"}\n'
        Path("data.jsonl").write_text(f'{good}{{"text": "b", "label": {label}}}\n')
        message = refused("--data", "data.jsonl")
        assert 'data.jsonl, line 2: the label in column "label" is missing' in message

    @pytest.mark.parametrize("label", [None, float("nan")])
    def test_a_missing_label_in_parquet(
        self, refused: Callable, label: float | None
    ) -> None:
        table = {"text": ["a", "b", "c"], "label": pa.array([1.0, 0.0, label])}
        pq.write_table(pa.table(table), "data.parquet")
        message = refused("--data", "data.parquet")
        assert 'data.parquet, row 3: the label in column "label" is missing' in message

    def test_one_class_only(self, refused: Callable) -> None:
        message = refused("--data", write_csv(rows=["a,yes", "b,yes", "c,yes"]))
        assert "one class only: every label is 'yes'" in message

    def test_a_label_that_training_never_saw(self, refused: Callable) -> None:
        write_csv("validation.csv", ["a,yes", "b,maybe"])
        message = refused("--set", "data.validation=validation.csv")
        assert "validation.csv has labels that training never saw: 'maybe'" in message
        assert "'no', 'yes'" in message

    def test_too_few_examples_to_hold_any_out(self, refused: Callable) -> None:
        message = refused("--data", write_csv(rows=["a,yes", "b,no"]))
        assert "too few examples to hold 10% out" in message
        assert "--set data.validation=FILE" in message

    def test_weights_for_a_class_that_is_not_there(self, refused: Callable) -> None:
        message = refused("--set", "train.class_weights={yse = 2.0}")
        assert "'yse'" in message
        assert "'no', 'yes'" in message


class TestPresets:
    @pytest.fixture
    def preset(self, kbert: Kbert, tiny_preset: Path) -> Path:
        """A copy to be damaged."""
        return Path(shutil.copytree(tiny_preset, "preset"))

    def test_an_unknown_name_gets_the_nearest(self, refused: Callable) -> None:
        message = refused("--preset", "bert_bse_en")
        assert "There is no preset 'bert_bse_en'" in message
        assert "bert_base_en" in message

    def test_a_known_name_without_cache_and_network(
        self, refused: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
        for variable in ("http_proxy", "https_proxy"):  # An address that refuses.
            monkeypatch.setenv(variable, "http://127.0.0.1:9")
            monkeypatch.setenv(variable.upper(), "http://127.0.0.1:9")
        message = refused("--preset", "bert_tiny_en_uncased")
        assert "not on this machine and cannot be downloaded" in message
        assert f"Tried: {tmp_path / 'cache'}" in message
        assert "give its path as --preset" in message

    def test_a_folder_without_weights(self, refused: Callable, preset: Path) -> None:
        (preset / "model.weights.h5").unlink()
        message = refused("--preset", preset)
        assert "preset has no weights: neither model.weights.h5" in message

    def test_weights_of_another_shape(self, refused: Callable, preset: Path) -> None:
        edit_json(preset / "config.json", intermediate_dim=24)
        message = refused("--preset", preset)
        assert "weights must have the shapes of config.json" in message
        assert "(8, 12)" in message and "(8, 24)" in message
        assert "preset/model.weights.h5" in message

    def test_cut_weights(self, refused: Callable, preset: Path) -> None:
        weights = preset / "model.weights.h5"
        weights.write_bytes(weights.read_bytes()[:2000])
        assert "model.weights.h5 is damaged or incomplete" in refused(
            "--preset", preset
        )

    def test_a_tensor_that_is_gone(self, refused: Callable, preset: Path) -> None:
        with h5py.File(preset / "model.weights.h5", "r+") as weights:
            del weights["layers/transformer_encoder/_feedforward_output_dense/vars/0"]
        assert "model.weights.h5 cannot be loaded" in refused("--preset", preset)

    @pytest.mark.parametrize("token", SPECIAL_TOKENS)
    def test_a_vocabulary_without_a_special_token(
        self, refused: Callable, preset: Path, token: str
    ) -> None:
        file = preset / "assets" / "tokenizer" / "vocabulary.txt"
        file.write_text(file.read_text("utf-8").replace(token, "other"), "utf-8")
        message = refused("--preset", preset)
        assert f"vocabulary.txt lacks {token}" in message

    def test_a_max_length_over_the_positions(self, refused: Callable) -> None:
        message = refused("--max-length", 17)
        assert "data.max_length must be at most 16" in message
        assert "Received: 17" in message

    def test_more_frozen_layers_than_there_are(self, refused: Callable) -> None:
        message = refused("--set", "train.freeze_layers=3")
        assert "train.freeze_layers must be at most 2" in message
        assert "Received: 3" in message


class TestSettings:
    @pytest.mark.parametrize(
        ("arguments", "rule"),
        [
            (["--batch-size", 0], "--batch-size 0: must be a whole number, at least 1"),
            (["--learning-rate", -0.1], "--learning-rate -0.1: must be"),
            (["--learning-rate", "nan"], "--learning-rate nan: must be"),
            (["--epochs", 1.5], "--epochs 1.5: must be"),
            (["--precision", "fp32"], "--precision fp32: must be"),
            (["--set", "train.epoch=1"], "did you mean train.epochs?"),
            (["--set", "model.dropout=1"], "--set model.dropout=1: must be"),
            (["--set", "train.best_metric=accurac"], "Did you mean accuracy?"),
            (["--config", "none.toml"], "none.toml"),
        ],
    )
    def test_a_mistake_is_named_with_its_mend(
        self, refused: Callable, arguments: list[object], rule: str
    ) -> None:
        assert rule in refused(*arguments)

    def test_all_mistakes_are_listed_at_once(self, refused: Callable) -> None:
        Path("c.toml").write_text("[train]\nseeed = 1\n")
        message = refused(
            *("--config", "c.toml", "--batch-size", 0),
            *("--set", "data.truncation=middle", "--set", "nonsense"),
        )
        assert message.count("\n  ") == 4
        for mistake in ("train.seeed", "--batch-size", "data.truncation", "nonsense"):
            assert mistake in message


class TestOutputs:
    def test_a_file(self, finetune: Kbert) -> None:
        Path("run").write_text("mine")
        outcome = finetune()
        assert outcome.code == 2
        assert "The output run is a file" in outcome.message
        assert Path("run").read_text() == "mine"

    def test_a_folder_in_a_file(self, refused: Callable) -> None:
        Path("file").write_text("mine")
        message = refused("--output", "file/run")
        assert "file is a file, so file/run cannot be made in it" in message

    def test_a_folder_that_is_no_run(self, finetune: Kbert) -> None:
        Path("run").mkdir()
        Path("run/thesis.txt").write_text("mine")
        outcome = finetune()
        assert outcome.code == 2
        assert "The output run exists and is no run" in outcome.message
        assert [path.name for path in Path("run").iterdir()] == ["thesis.txt"]

    def test_a_run_with_another_config(self, kbert: Kbert, trained: Path) -> None:
        before = _contents(trained)
        config = ("--config", trained / "config.toml", "--output", trained)
        outcome = kbert("finetune", *config, "--seed", 7)
        assert outcome.code == 2
        assert "is a run with another config; it differs in train.seed" in (
            outcome.message
        )
        assert _contents(trained) == before

    def test_a_finished_run(self, kbert: Kbert, trained: Path) -> None:
        before = _contents(trained)
        config = ("--config", trained / "config.toml", "--output", trained)
        outcome = kbert("finetune", *config)
        assert outcome.code == 2
        assert f"The output {trained} is a finished run" in outcome.message
        assert _contents(trained) == before

    def test_a_read_only_folder(
        self, refused: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As the system would answer; root would be let through.
        monkeypatch.setattr("kbert.new_runs.os.access", lambda path, mode: False)
        assert ". cannot be written to. Choose another --output" in refused()

    def test_a_read_only_disk(
        self, refused: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kbert.new_runs._is_read_only", lambda folder: True)
        assert ". cannot be written to. Choose another --output" in refused()

    def test_a_full_disk_is_noticed_before_training(
        self, refused: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = SimpleNamespace(total=10**6, used=10**6, free=1000)
        monkeypatch.setattr("kbert.new_runs.shutil.disk_usage", lambda path: usage)
        message = refused()
        assert "0 MB free" in message
        assert "Make room, choose another --output" in message

    def test_a_full_disk_for_temporary_files(
        self, finetune: Kbert, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "kbert.data.encoded.temporary_file", lambda: open("/dev/full", "w+b")
        )
        outcome = finetune()
        assert outcome.code == 1
        assert outcome.message.startswith(
            f"{tempfile.gettempdir()}: No space left on device"
        )
        assert "set TMPDIR" in outcome.message
        assert not Path("run").exists()

    def test_a_disk_that_fills_up_while_the_model_is_written(
        self, finetune: Kbert, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, "Can't write data (file write failed)")

        monkeypatch.setattr("keras_hub.models.BertTextClassifier.save_to_preset", fail)
        outcome = finetune()
        assert outcome.code == 1
        assert "run/model: No space left on device. Make room" in outcome.message
        left = sorted(path.name for path in Path("run").iterdir())
        assert "model" not in left
        assert not any(name.startswith(".") for name in left if name != ".lock")
        assert "Go on once it is mended: kbert finetune --resume run" in outcome.err


class TestTraining:
    def test_a_loss_that_is_no_number(
        self, finetune: Kbert, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import keras

        class _Broken(keras.losses.SparseCategoricalCrossentropy):
            def call(self, y_true, y_pred):  # type: ignore[no-untyped-def]
                return super().call(y_true, y_pred) * float("nan")

        monkeypatch.setattr(
            "kbert.tasks.text_classification.TextClassification.loss",
            lambda self, label_smoothing: _Broken(from_logits=True),
        )
        outcome = finetune()
        assert outcome.code == 1
        assert "the loss at step 1 is nan" in outcome.message
        assert "--learning-rate" in outcome.message
        assert json.loads(Path("run/kbert.json").read_text())["status"] == "failed"


class TestPredict:
    @pytest.mark.parametrize(
        ("arguments", "rule"),
        [
            (["none", "a"], "No run at none"),
            ([".", "a"], ". is no run: it has no config.toml"),
            (["RUN"], "Give texts, or --input FILE, and not both"),
            (["RUN", "a", "--input", "-"], "Give texts, or --input FILE, and not"),
            (["RUN", "--input", "none.txt"], "none.txt: there is no such file"),
            (["RUN", "--input", "empty.csv"], "empty.csv is empty"),
            (["RUN", "--input", "other.csv"], "which column is the text is not clear"),
            (["RUN", "--input", "latin.txt"], "latin.txt, line 2: invalid UTF-8"),
            (["RUN", "--input", "odd.xml"], "Received: .xml"),
            (["RUN", "--input", "folder"], "folder"),
            (["RUN", "a", "--output", "none/out.jsonl"], "none/out.jsonl"),
            (["RUN", "a", "--output", "folder"], "folder"),
            (["RUN", "a", "--set", "data.limit=1"], "--set says how --input is read"),
            (
                ["RUN", "--input", "latin.txt", "--set", "data.max_length=8"],
                "data.max_length has no effect here",
            ),
            (
                ["RUN", "--input", "latin.txt", "--set", "data.text=a"],
                "data.text has no effect here",
            ),
        ],
    )
    def test_a_mistake_is_named(
        self, kbert: Kbert, trained: Path, arguments: list[str], rule: str
    ) -> None:
        Path("empty.csv").touch()
        Path("other.csv").write_text("first,second\na,b\n")
        Path("latin.txt").write_bytes(b"a\ncaf\xe9\n")
        Path("odd.xml").write_text("<a/>")
        Path("folder").mkdir()
        before = sorted(Path.cwd().iterdir())
        outcome = kbert("predict", *(trained if a == "RUN" else a for a in arguments))
        assert outcome.code == 2
        assert rule in outcome.message
        assert sorted(Path.cwd().iterdir()) == before

    def test_an_empty_text_file_has_no_answers(
        self, kbert: Kbert, trained: Path
    ) -> None:
        Path("empty.txt").touch()
        outcome = kbert("predict", trained, "--input", "empty.txt")
        assert (outcome.code, outcome.out) == (0, "")

    def test_a_damaged_run(self, kbert: Kbert, trained: Path) -> None:
        shutil.copytree(trained, "run")
        Path("run/task.json").write_text('{"task": "text_')
        outcome = kbert("predict", "run", "a")
        assert outcome.code == 2
        assert "run/task.json" in outcome.message

    def test_a_run_that_was_stopped_before_its_first_model(
        self, kbert: Kbert, trained: Path
    ) -> None:
        shutil.copytree(trained, "run")
        shutil.rmtree("run/model")
        outcome = kbert("predict", "run", "a")
        assert outcome.code == 2
        assert "run has no model" in outcome.message

    def test_output_is_whole_or_absent(self, kbert: Kbert, trained: Path) -> None:
        lines = ["a b"] * 3000
        Path("texts.txt").write_bytes("\n".join(lines).encode() + b"\ncaf\xe9\n")
        Path("out.jsonl").write_text("old\n")
        arguments = ("--input", "texts.txt", "--output", "out.jsonl")
        outcome = kbert("predict", trained, *arguments)
        assert outcome.code == 2
        assert "texts.txt, line 3001: invalid UTF-8" in outcome.message
        assert Path("out.jsonl").read_text() == "old\n"
        assert sorted(p.name for p in Path.cwd().iterdir()) == [
            "out.jsonl",
            "texts.txt",
        ]

    def test_the_limit_of_the_training_is_not_one_of_the_answers(
        self, kbert: Kbert, trained: Path
    ) -> None:
        shutil.copytree(trained, "run")
        config = Path("run/config.toml")
        config.write_text(config.read_text().replace("[data]", "[data]\nlimit = 4"))
        for name in ("good.csv", "texts.txt"):
            write_csv(name)
            outcome = kbert("predict", "run", "--input", name)
            header = name.endswith(".txt")
            assert len(outcome.out.splitlines()) == len(GOOD) + header
            limit = ("--set", "data.limit=3")
            outcome = kbert("predict", "run", "--input", name, *limit)
            assert len(outcome.out.splitlines()) == 3
        outcome = kbert("evaluate", "run", "--data", "good.csv", "--json")
        assert json.loads(outcome.out)["num_examples"] == len(GOOD)

    def test_standard_input(
        self, kbert: Kbert, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = io.TextIOWrapper(io.BytesIO(b"a b\n\nj\n"))
        monkeypatch.setattr(sys, "stdin", stream)
        outcome = kbert("predict", trained, "--input", "-")
        assert outcome.code == 0
        answers = [json.loads(line) for line in outcome.out.splitlines()]
        assert [answer["text"] for answer in answers] == ["a b", "", "j"]


class TestEvaluate:
    @pytest.mark.parametrize(
        ("arguments", "rule"),
        [
            (["none"], "No run at none"),
            (["RUN", "--data", "unseen.csv"], "never saw: 'maybe'"),
            (["RUN", "--data", "bare.csv"], "no column that can be the label"),
            (["RUN", "--data", "none.csv"], "none.csv does not exist"),
            (["RUN", "--split", "test"], 'has no split "test"'),
            (["RUN", "--set", "train.epochs=1"], "train.epochs has no effect"),
            (["RUN", "--set", "data.lable=1"], "data.lable"),
        ],
    )
    def test_a_mistake_is_named(
        self, kbert: Kbert, trained: Path, arguments: list[str], rule: str
    ) -> None:
        write_csv("unseen.csv", ["a,yes", "b,maybe"])
        Path("bare.csv").write_text("text\na\n")
        outcome = kbert("evaluate", *(trained if a == "RUN" else a for a in arguments))
        assert outcome.code == 2
        assert rule in outcome.message


class TestPairs:
    def test_single_texts_for_a_run_of_pairs(
        self, finetune: Kbert, kbert: Kbert
    ) -> None:
        rows = "".join(f"a,b,{label}\n" for label in ("yes", "no") * 6)
        Path("pairs.csv").write_text("premise,hypothesis,label\n" + rows)
        outcome = finetune("--data", "pairs.csv")
        assert outcome.code == 0
        assert "kbert predict run --input YOUR_FILE.csv" in outcome.out
        for arguments in (["a"], ["--input", write_csv()], ["--input", "-"]):
            outcome = kbert("predict", "run", *arguments)
            assert outcome.code == 2
            assert "--input FILE.csv" in outcome.message or (
                "--set data.text_pair=NAME" in outcome.message
            )


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
