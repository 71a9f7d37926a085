"""`kbert predict` with a pretrained run."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Kbert
from tests.pretrained import write_pretrained_run


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretrained_run(tmp_path_factory.mktemp("runs") / "pretrained")


def test_masks_are_filled(kbert: Kbert, pretrained: Path) -> None:
    texts = ["The film is [MASK].", "[MASK] [MASK]"]
    outcome = kbert("predict", pretrained, *texts, "--top-k", 3)
    assert outcome.code == 0
    one, two = map(json.loads, outcome.out.splitlines())
    assert list(one) == ["text", "fills"]
    assert one["text"] == texts[0]
    assert [len(fill) for fill in one["fills"]] == [3]
    assert [len(fill) for fill in two["fills"]] == [3, 3]
    best = one["fills"][0][0]
    assert list(best) == ["token", "score", "text"]
    assert best["text"] in (
        f"The film is {best['token']}.",
        f"The film is{best['token'][2:]}.",
    )
    outcome = kbert("predict", pretrained, texts[0])
    assert len(json.loads(outcome.out)["fills"][0]) == 5


def test_texts_of_files(
    kbert: Kbert, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["the [MASK]", "a [MASK] film"]
    stream = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    outcome = kbert("predict", pretrained, "--input", "-", "--output", "out.jsonl")
    assert outcome.code == 0
    answers = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [answer["text"] for answer in answers] == lines
    Path("in.csv").write_text("number,body\n1,the [MASK]\n2,a [MASK] film\n")
    arguments = ("--input", "in.csv", "--set", "data.text=body", "--top-k", 5)
    outcome = kbert("predict", pretrained, *arguments)
    assert [json.loads(line) for line in outcome.out.splitlines()] == answers


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["a film"], "needs a [MASK]"),
        (["[MASK]", "--top-k", "0"], "'--top-k'"),
        (["[MASK]", "--top-k", "1001"], "from 1 to 1,000"),
        (["--input", "in.txt", "--set", "data.text=a"], "data.text has no effect"),
        (["--input", "in.csv", "--set", "data.label=a"], "data.label has no effect"),
        (["--input", "none.csv"], "there is no such file"),
    ],
)
def test_a_mistake_is_named(
    kbert: Kbert, pretrained: Path, arguments: list[str], rule: str
) -> None:
    Path("in.txt").write_text("[MASK]\n")
    Path("in.csv").write_text("text\n[MASK]\n")
    outcome = kbert("predict", pretrained, *arguments)
    assert outcome.code == 2
    assert rule in outcome.message
    assert outcome.out == ""


def test_the_option_is_for_pretrained_runs(kbert: Kbert, trained: Path) -> None:
    outcome = kbert("predict", trained, "a b", "--top-k", 3)
    assert outcome.code == 2
    assert "--top-k" in outcome.message
    assert "fine-tuned" in outcome.message
    url = "http://127.0.0.1:9/v1/models/imdb"
    outcome = kbert("predict", "--url", url, "a b", "--top-k", 3)
    assert outcome.code == 2
    assert "--top-k has no effect with --url" in outcome.message


def test_export_says_what_to_do(kbert: Kbert, pretrained: Path) -> None:
    outcome = kbert("export", pretrained, "saved/model")
    assert outcome.code == 2
    assert f"kbert finetune --preset {pretrained}" in outcome.message
    assert not Path("saved/model").exists()
