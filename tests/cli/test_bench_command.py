"""`kbert bench`: each command from end to end, and mistakes before slow work."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kbert.workflows.benching import served
from kbert.workflows.benching.served import ServedExport
from tests.cli.conftest import Kbert, Outcome
from tests.exporting.toy_export import MAX_LENGTH, write_toy_export
from tests.serving.fake_server import FakeServer

MODEL_COMMANDS = ("finetune", "pretrain", "predict")


def figures_of(outcome: Outcome) -> dict[str, Any]:
    """The one JSON object of an output."""
    assert outcome.code == 0, outcome.err
    (line,) = outcome.out.splitlines()
    figures: dict[str, Any] = json.loads(line)
    return figures


def check_model_figures(figures: dict[str, Any], *, rows: int, length: int) -> None:
    """Checks that figures follow from one another."""
    assert (figures["batch_size"], figures["length"]) == (rows, length)
    median = figures["step_seconds"]["median"]
    assert figures["step_seconds"]["min"] <= median <= figures["step_seconds"]["max"]
    near = pytest.approx
    assert figures["examples_per_second"] == near(rows / median)
    assert figures["tokens_per_second"] == near(rows * length / median)
    rate = figures["operations_per_second"]
    assert rate == near(figures["operations_per_step"] / median)
    peak = figures["peak_operations_per_second"]
    assert peak == max(figures["peak_before"], figures["peak_after"]) > 0
    assert figures["share_of_peak"] == near(rate / peak)
    assert figures["peak_memory_bytes"] > 50e6
    assert figures["machine"]["backend"] == "tensorflow"


@pytest.mark.parametrize("command", MODEL_COMMANDS)
def test_a_preset_at_work(kbert: Kbert, tiny_preset: Path, command: str) -> None:
    shape = ("--batch-size", 3, "--length", 12, "--steps", 2)
    preset = ("--preset", tiny_preset, "--precision", "mixed_bfloat16")
    figures = figures_of(kbert("bench", command, *preset, *shape, "--json"))
    check_model_figures(figures, rows=3, length=12)
    assert (figures["bench"], figures["model"]) == (command, str(tiny_preset))
    assert (figures["precision"], figures["steps"]) == ("mixed_bfloat16", 2)
    assert figures["peak_dtype"] == "bfloat16"
    # 2 layers of 8 with a feed-forward of 12, and 36 tokens of 12 a row. The last one's
    # key and value are of all tokens, the rest of [CLS] or of it and two masked ones.
    wanted = 3 * (3 if command == "pretrain" else 1)
    forward = 2 * 36 * (4 * 8 * 8 + 2 * 8 * 12) + 4 * 36 * 12 * 8
    forward += 2 * 36 * 2 * 8 * 8
    forward += 2 * wanted * (2 * 8 * 8 + 2 * 8 * 12) + 4 * wanted * 12 * 8
    if command == "pretrain":
        forward += 2 * 3 * 2 * 8 * (8 + 20)  # two slots a row, 20 embeddings
    passes = 1 if command == "predict" else 3
    assert figures["operations_per_step"] == passes * forward


def test_a_new_model_at_work(kbert: Kbert) -> None:
    shape = ("--batch-size", 1, "--length", 8, "--steps", 1)
    new = ("--size", "tiny", "--precision", "float32")
    figures = figures_of(kbert("bench", "pretrain", *new, *shape, "--json"))
    check_model_figures(figures, rows=1, length=8)
    assert figures["model"] == "new tiny"
    assert figures["architecture"]["vocabulary_size"] == 30_000
    assert figures["architecture"]["hidden_dim"] == 128
    assert figures["first_step_seconds"] > 0


def test_the_table_and_the_progress(kbert: Kbert, tiny_preset: Path) -> None:
    preset = ("--preset", tiny_preset, "--precision", "float32")
    outcome = kbert("bench", "finetune", *preset, "--batch-size", 2, "--steps", 1)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    start = lines[0].index(str(tiny_preset))
    assert {line[start - 2 : start] for line in lines} == {"  "}
    table = {line[:start].strip(): line[start:] for line in lines}
    # The tiny preset has fewer positions than a row has tokens otherwise.
    assert table["batch"] == "2 x 16 tokens, no padding"
    assert table["precision"].startswith("float32 without XLA")
    assert table["share of peak"].endswith("%")
    assert "4/4 steps" in outcome.err


def test_the_tokenizer(kbert: Kbert, tiny_preset: Path) -> None:
    Path("two.csv").write_text("review,other\n" + "a b c,x\n" * 3)
    source = ("--data", "two.csv", "--set", "data.text=review")
    options = ("--preset", tiny_preset, *source, "--steps", 1, "--json")
    figures = figures_of(kbert("bench", "tokenize", *options))
    texts = figures["examples_per_pass"]
    assert figures["bytes_per_pass"] == 5 * texts >= 4_000_000
    assert figures["tokens_per_pass"] == 5 * texts
    median = figures["pass_seconds"]["median"]
    assert figures["tokens_per_second"] == pytest.approx(5 * texts / median)
    assert figures["megabytes_per_second"] == pytest.approx(5e-6 * texts / median)


def test_a_server_that_runs(kbert: Kbert) -> None:
    with FakeServer() as fake:
        load = ("--connections", 2, "--seconds", 0.2, "--length", 9)
        options = ("--url", fake.url, *load, "--json")
        figures = figures_of(kbert("bench", "serve", *options))
        bodies = [body for method, path, body in fake.requests if ":predict" in path]
    # The first one and three of each connection go before those that count.
    assert len(bodies) == 1 + 3 * 2 + figures["requests"]
    assert figures["requests"] > 0
    texts = {body["inputs"]["text"][0] for body in bodies}
    assert {len(text.split()) for text in texts} == {9 - 2}
    assert len(texts) > 1
    assert all(len(body["inputs"]["text"]) == 1 for body in bodies)
    latency = figures["latency_seconds"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    rate = figures["requests_per_second"]
    assert figures["tokens_per_second"] == pytest.approx(9 * rate)
    assert figures["start_seconds"] is None


def test_a_server_of_pairs(kbert: Kbert) -> None:
    with FakeServer(is_paired=True) as fake:
        options = ("--url", fake.url, "--seconds", 0.1, "--length", 10)
        outcome = kbert("bench", "serve", *options)
        inputs = [
            body["inputs"] for _, path, body in fake.requests if "predict" in path
        ]
    assert outcome.code == 0
    assert "one text of 10 tokens" in outcome.out
    rows = [(*row["text"], *row["text_pair"]) for row in inputs]
    assert {(len(a.split()), len(b.split())) for a, b in rows} == {(4, 3)}


def test_an_export_is_served_and_asked(
    kbert: Kbert, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = []

    class Watched(ServedExport):
        def memory_bytes(self) -> int:
            processes.append(self._process)
            return super().memory_bytes()

    monkeypatch.setattr("kbert.workflows.benching.serving.ServedExport", Watched)
    write_toy_export(Path("models/toy/1"))
    options = ("models/toy", "--connections", 1, "--seconds", 0.5, "--json")
    figures = figures_of(kbert("bench", "serve", *options))
    assert figures["length"] == MAX_LENGTH  # where the export cuts, below the default
    assert figures["requests"] > 0
    assert figures["start_seconds"] > 0
    assert figures["server_memory_bytes"] > 50e6
    (process,) = processes
    assert process is not None
    assert process.returncode is not None, "the server still runs"


def test_an_export_that_cannot_be_loaded(kbert: Kbert) -> None:
    version = Path("models/broken/1")
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"no model")
    outcome = kbert("bench", "serve", "models/broken")
    assert outcome.code == 2
    assert "The server ended: The server cannot start: " in outcome.err
    assert "kbert export --check" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_server_that_never_answers_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(served, "_SERVE", "import time; time.sleep(600)")
    monkeypatch.setattr(served, "_START_SECONDS", 0.3)
    export = ServedExport(tmp_path)
    with pytest.raises(served.ServingError, match=r"did not answer.*said nothing"):
        export.__enter__()
    assert export._process is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--length", 600], "at most 512, the positions of sample"),
        (["finetune", "--length", 2], "--length 2: must be a whole number, at least 4"),
        (["finetune", "--batch-size", 0], "--batch-size 0: must be a whole number"),
        (
            ["finetune", "--precision", "half"],
            '--precision half: must be one of "auto"',
        ),
        (["finetune", "--preset", "bert_bse_en"], "There is no preset 'bert_bse_en'"),
        (["finetune", "--steps", 0], "Invalid value for '--steps'"),
        (["predict", "--length", 513], "Received: 513"),
        (["predict", "--batch-size", "x"], "--batch-size x: must be a whole number"),
        (["pretrain", "--size", "huge"], "--size huge: must be one of"),
        (
            ["pretrain", "--size", "tiny", "--preset", "sample"],
            "model.size is for a new",
        ),
        (["pretrain", "--preset", "sample", "--length", 999], "Received: 999"),
        (["tokenize", "--data", "none.csv"], "none.csv does not exist"),
        (["tokenize", "--preset", "nowhere/"], "There is no folder nowhere"),
        (
            ["tokenize", "--set", "train.seed=1"],
            "train.seed has no effect on tokenizing",
        ),
        (["serve"], "kbert export runs/sample saved_models/sample"),
        (["serve", "no/export"], "there is no such folder"),
        (["serve", "no/export", "--url", "http://h/v1/models/a"], "not both"),
        (["serve", "--url", "http://h/v1/models/a", "--length", 3], "at least 4"),
        (["serve", "--url", "reviews"], "Received: 'reviews'"),
        (["serve", "--url", "http://h/v1/models/a", "--seconds", 0], "--seconds"),
    ],
)
def test_mistakes_are_told_before_slow_work(
    kbert: Kbert,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    message: str,
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("slow work")

    for name in ("models.choose", "pretraining.choose", "tokenizing.encode_source"):
        monkeypatch.setattr(f"kbert.workflows.benching.{name}", never)
    outcome = kbert("bench", *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert message in outcome.message


def test_an_export_that_cuts_at_fewer_tokens(kbert: Kbert) -> None:
    extra = Path("models/toy/1/assets.extra")
    extra.mkdir(parents=True)
    (extra / "kbert.json").write_text('{"limits": {"max_length": 64}}')
    outcome = kbert("bench", "serve", "models/toy", "--length", 65)
    assert outcome.code == 2
    assert "at most 64" in outcome.message


def test_asking_a_server_imports_neither_tensorflow_nor_keras() -> None:
    with FakeServer() as fake:
        arguments = ["kbert", "bench", "serve", "--url", fake.url, "--seconds", "0.05"]
        script = (
            "import atexit, sys\n"
            "heavy = ('tensorflow', 'keras')\n"
            "atexit.register(lambda: print([m for m in heavy if m in sys.modules]))\n"
            f"sys.argv = {arguments!r}\n"
            "from kbert_cli.main import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
