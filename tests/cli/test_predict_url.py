"""`kbert predict --url`: a server in place of a run."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kbert as library
from tests.cli.conftest import Kbert, Outcome
from tests.serving.fake_server import FakeServer, Row, status, toy_probabilities

Ask = Callable[..., Outcome]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def ask(kbert: Kbert, server: FakeServer) -> Ask:
    """`kbert predict --url` with the server's URL."""
    return lambda *arguments: kbert("predict", "--url", server.url, *arguments)


def texts_of(outcome: Outcome) -> list[str]:
    assert outcome.code == 0, outcome.err
    return [json.loads(line)["text"] for line in outcome.out.splitlines()]


def test_the_same_bytes_as_from_the_run(kbert: Kbert, trained: Path) -> None:
    # The server answers with the run's own numbers: computed in another batch, they
    # might differ in the last digit.
    answers: dict[bytes, list[float]] = {}

    def probabilities(row: Row) -> list[float]:
        # The labels' names are asked for with a text of the program's own.
        return answers.get(row[0]) or toy_probabilities(row)

    odd = os.fsdecode(b"a b\xe9")
    texts = ["a b c", "", " ", "ä 好 👩‍🚀", odd, "j i\0h"]
    Path("in.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ["a b", "j j j"])
    )
    labels = library.load(trained).labels
    with FakeServer(labels=labels, probabilities=probabilities) as fake:
        for arguments in (texts, ["--input", "in.jsonl"]):
            local = kbert("predict", trained, *arguments, "--output", "local.jsonl")
            for answer in map(json.loads, Path("local.jsonl").open()):
                text = answer["text"].encode("utf-8", "surrogateescape")
                answers[text] = list(answer["probabilities"].values())
            remote = kbert(
                "predict", "--url", fake.url, *arguments, "--output", "remote.jsonl"
            )
            assert (local.code, remote.code) == (0, 0), remote.err
            assert Path("remote.jsonl").read_bytes() == Path("local.jsonl").read_bytes()
            assert Path("local.jsonl").stat().st_size > 0


def test_all_arguments_are_texts(ask: Ask) -> None:
    assert texts_of(ask("one", "two", "--", "-3 stars")) == ["one", "two", "-3 stars"]


def test_lines_of_a_file_and_of_standard_input(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"text {number}" for number in range(1000)]
    Path("in.txt").write_text("\n".join(lines))
    assert texts_of(ask("--input", "in.txt")) == lines
    limited = ask("--input", "in.txt", "--set", "data.limit=3")
    assert texts_of(limited) == lines[:3]
    stdin = io.TextIOWrapper(io.BytesIO("ä\n\nb".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert texts_of(ask("--input", "-")) == ["ä", "", "b"]


def test_the_columns_of_a_table(ask: Ask) -> None:
    Path("one.csv").write_text("id,review\n1,good\n")
    outcome = ask("--input", "one.csv")
    assert texts_of(outcome) == ["good"]
    assert "one.csv: text column: review (the only plausible" in outcome.err
    Path("two.csv").write_text("review,text,label\nleft,right,pos\n")
    assert texts_of(ask("--input", "two.csv")) == ["right"]
    named = ask("--input", "two.csv", "--set", "data.text=review")
    assert texts_of(named) == ["left"]
    Path("three.tsv").write_text("review\tcomment\nleft\tright\n")
    outcome = ask("--input", "three.tsv")
    assert outcome.code == 2
    assert "which column is the text is not clear" in outcome.message


def test_pairs(kbert: Kbert) -> None:
    Path("pairs.csv").write_text("premise,hypothesis\ngood,bad\n")
    Path("odd.csv").write_text("text,other\ngood,bad\n")
    with FakeServer(is_paired=True) as fake:
        url = ("predict", "--url", fake.url)
        answer = json.loads(kbert(*url, "--input", "pairs.csv").out)
        assert (answer["text"], answer["text_pair"]) == ("good", "bad")
        outcome = kbert(*url, "--input", "odd.csv")
        assert outcome.code == 2
        assert "takes pairs of texts, and odd.csv is read with" in outcome.message
        named = kbert(*url, "--input", "odd.csv", "--set", "data.text_pair=other")
        assert json.loads(named.out)["text_pair"] == "bad"
        for arguments in (["good"], ["--input", "in.txt"]):
            Path("in.txt").write_text("good\n")
            outcome = kbert(*url, *arguments)
            assert outcome.code == 2
            assert "--input FILE.csv" in outcome.message


def test_pairs_for_a_model_of_single_texts(ask: Ask) -> None:
    Path("pairs.csv").write_text("premise,hypothesis\ngood,bad\n")
    outcome = ask("--input", "pairs.csv")
    assert outcome.code == 2
    assert "takes single texts, and pairs.csv is read with" in outcome.message


def test_timings(ask: Ask) -> None:
    outcome = ask("--timings", *map(str, range(65)))
    assert len(texts_of(outcome)) == 65
    assert outcome.err.startswith("3 requests, ")
    for figure in ("requests/s", "p50 ", "p95 ", "p99 "):
        assert figure in outcome.err
    assert ask("a").err == ""


def test_a_failure_leaves_no_output(ask: Ask, server: FakeServer) -> None:
    Path("out.jsonl").write_text("before")
    texts = ["a"] * 100 + ["refuse me"]
    outcome = ask(*texts, "--output", "out.jsonl")
    assert outcome.code == 2
    assert "refused the request (400): Some text is refused." in outcome.message
    assert os.listdir() == ["out.jsonl"]
    assert Path("out.jsonl").read_text() == "before"


def test_no_server(kbert: Kbert) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/models/toy"
    outcome = kbert("predict", "--url", url, "a")
    assert outcome.code == 2
    assert "No server answers" in outcome.message
    assert "kbert serve" in outcome.message


def test_a_timeout(ask: Ask, server: FakeServer) -> None:
    server.trouble = [status(503, "still loading")] * 10_000
    server.spares_get = False
    outcome = ask("--timeout", "0.3", "a")
    assert outcome.code == 2
    assert "still loading" in outcome.message
    assert "timeout of 0.3 s" in outcome.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give texts, or --input FILE, and not both"),
        (("a", "--input", "in.txt"), "and not both"),
        (("--input", "in.txt"), "--input in.txt: there is no such file"),
        (("a", "--precision", "float32"), "--precision has no effect with --url"),
        (("a", "--set", "data.limit=1"), "texts need none"),
        (("a", "--timeout", "0"), "Invalid value for '--timeout'"),
        (("a", "--output", "no/out"), "there is no such folder"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(
    ask: Ask, server: FakeServer, arguments: tuple[str, ...], message: str
) -> None:
    outcome = ask(*arguments)
    assert outcome.code == 2
    assert message in outcome.message
    assert server.requests == []


def test_a_setting_without_effect(ask: Ask) -> None:
    Path("in.txt").write_text("a\n")
    for name in ("data.text", "data.max_length", "train.epochs"):
        outcome = ask("--input", "in.txt", "--set", f"{name}=1")
        assert outcome.code == 2
        assert f"{name} has no effect" in outcome.message


@pytest.mark.parametrize("option", [("--timeout", "3"), ("--timings",)])
def test_options_of_a_server_with_a_run(
    kbert: Kbert, trained: Path, option: tuple[str, ...]
) -> None:
    outcome = kbert("predict", trained, "a", *option)
    assert outcome.code == 2
    assert f"{option[0]} has an effect with --url only" in outcome.message


def test_neither_a_run_nor_a_server(kbert: Kbert) -> None:
    outcome = kbert("predict")
    assert outcome.code == 2
    assert "Missing argument 'RUN', or --url URL" in outcome.message


@pytest.mark.parametrize("kind", ["texts", "in.txt", "in.csv", "in.jsonl"])
def test_it_imports_neither_tensorflow_nor_keras(
    server: FakeServer, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "in.txt").write_text("good\n")
    (tmp_path / "in.csv").write_text("text\ngood\n")
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n')
    given = ["good"] if kind == "texts" else ["--input", kind]
    script = (
        "import atexit, sys\n"
        "heavy = ('tensorflow', 'keras', 'numpy')\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules]))\n"
        f"sys.argv = {['kbert', 'predict', '--url', server.url, *given]!r}\n"
        "from kbert_cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    answer, imported = done.stdout.splitlines()
    assert json.loads(answer)["text"] == "good"
    assert imported == "[]"
